"""The scripted service and the embedded one speak one protocol: each test runs against both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

import aiohttp
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ConflictError,
    InputError,
    NotFoundError,
    RatingMode,
)
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from tests.flow.bench import EchoModel


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Service(Protocol):
    """What both have."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...


Json: TypeAlias = Any

SERVICES = ["scripted", "scripted, hosted", "embedded", "embedded, hosted"]
"""With the extensions, and without: no keys, no results in a job's status, pages of seven."""


@asynccontextmanager
async def running(kind: str) -> AsyncGenerator[Service]:
    is_hosted = kind.endswith("hosted")
    if kind.startswith("scripted"):
        async with ScriptedService(
            keys=not is_hosted,
            results=not is_hosted,
            cancels=not is_hosted,
            page_size=7 if is_hosted else 100,
        ) as scripted:
            yield scripted
    else:
        profile = WireProfile.hosted(page_size=7) if is_hosted else WireProfile()
        async with LocalServer(model=EchoModel(), profile=profile) as embedded:
            yield embedded


class At:
    """One service, and a client and plain requests to it."""

    def __init__(self, client: AsyncClient, session: aiohttp.ClientSession, service: Service):
        self.client = client
        self._session = session
        self._service = service

    async def ask(
        self, method: str, path: str, body: Json = None, **headers: str
    ) -> tuple[int, Json, Mapping[str, str]]:
        url = f"{self._service.url}/api/v0/{path}"
        given = {"X-API-Key": self._service.api_key} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self._session.request(method, url, json=body, headers=given) as response:
            text = await response.text()
            is_json = response.content_type == "application/json" and text
            return response.status, json.loads(text) if is_json else text, response.headers

    async def rows(self, count: int) -> Any:
        template, _ = await self.client.prompt_templates.get_or_create("say {{x}}", "T")
        collection, _ = await self.client.collections.get_or_create("C")
        values = [{"x": f"v{i}"} for i in range(count)]
        rows = await self.client.template_variables.add_many(values, collection=collection)
        experiment, _ = await self.client.experiments.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        return template, collection, experiment, rows


@pytest.fixture(params=SERVICES)
async def at(request: pytest.FixtureRequest) -> AsyncGenerator[At]:
    options = BatchOptions(chunk_size=10)
    async with (
        running(request.param) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
        aiohttp.ClientSession() as session,
    ):
        yield At(client, session, service)


async def test_a_wrong_key_is_401_and_says_nothing(at: At) -> None:
    """Whatever is asked for, and with a detail."""
    for path in ("projects", "projects/1/collections", "projects/7/collections"):
        status, body, _ = await at.ask("GET", path, X_API_Key="another")
        assert status == 401
        assert isinstance(body["detail"], str)


async def test_projects_are_a_page(at: At) -> None:
    """With their count, and the fields that every client reads."""
    status, body, _ = await at.ask("GET", "projects")
    assert status == 200
    assert body["count"] == len(body["items"]) == 1
    assert {"id", "name"} <= body["items"][0].keys()


async def test_the_version_check_names_what_there_is(at: At) -> None:
    """Compatible, and its capabilities where it has any."""
    body = {"current_sdk_version": "1.5.2"}
    status, answer, _ = await at.ask("POST", "version/compatible", body)
    assert status == 200
    assert answer["is_compatible"] is True


async def test_what_is_not_there_is_404(at: At) -> None:
    """A noun's id, and a job's."""
    for path in ("prompt_templates/999", "experiments/999", "responses/999", "collections/999"):
        status, body, _ = await at.ask("GET", f"projects/1/{path}")
        assert status == 404, path
        assert body["detail"]
    status, _, _ = await at.ask("GET", "projects/1/responses/batches/none")
    assert status == 404


async def test_what_exists_is_found_and_made_once(at: At) -> None:
    """By name and id, over all nouns of the flow."""
    client = at.client
    template, new = await client.prompt_templates.get_or_create("say {{x}}", "T")
    assert new
    assert await client.prompt_templates.get_or_create("say {{x}}", "T") == (template, False)
    assert await client.prompt_templates.get("T") == template
    assert await client.prompt_templates.get(id=template.id) == template
    collection = await client.collections.create("C")
    with pytest.raises(ConflictError):
        await client.collections.create("C")
    found = await client.collections.get("C")
    assert (found.id, found.name) == (collection.id, "C")
    with pytest.raises(NotFoundError):
        await client.collections.get("c")
    with pytest.raises(InputError):
        await client.collections.get()


async def test_rows_are_listed_in_order_over_all_pages(at: At) -> None:
    """Each once, with the count; what exists already is not doubled."""
    _, collection, _, rows = await at.rows(23)
    assert [row.input_values["x"] for row in rows] == [f"v{i}" for i in range(23)]
    listed = await at.client.template_variables.list(collection)
    assert [row.id for row in listed] == [row.id for row in rows]
    again = await at.client.template_variables.add_many(
        [{"x": "v3"}, {"x": "new"}, {"x": "v0"}], collection=collection
    )
    assert [again[0].id, again[2].id] == [rows[3].id, rows[0].id]
    assert len(await at.client.template_variables.list(collection)) == 24
    path = f"projects/1/collections/{collection.id}/entries"
    _, first, _ = await at.ask("GET", f"{path}?page=1")
    status, beyond, _ = await at.ask("GET", f"{path}?page=99")
    assert first["count"] == 24
    assert status == 404 or beyond["items"] == []


async def test_a_batch_and_its_ratings(at: At) -> None:
    """One response a row, one rating a criterion, in the order of the rows; then listed."""
    template, _, experiment, rows = await at.rows(25)
    await at.client.criteria.add_many(["is it so?", "is it short?"], prompt_template=template)
    responses = await at.client.responses.generate_many(
        template_variables=rows, experiment=experiment
    )
    ratings = await at.client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)
    assert not responses.failed
    assert not ratings.failed
    variables = [response.prompt.template_variables.id for response in responses]
    assert variables == [row.id for row in rows]
    assert {len(each) for each in ratings} == {2}
    assert all(one.reasoning is None for each in ratings for one in each)
    listed = await at.client.responses.list(experiment=experiment)
    assert sorted(row.id for row in listed) == sorted(row.id for row in responses)
    assert {len(row.ratings) for row in listed} == {2}


async def test_a_job_s_stream_ends_with_its_end(at: At) -> None:
    """Server-sent events, each a status document; the last one is terminal, as is the poll."""
    _, _, experiment, rows = await at.rows(3)
    items = [
        {"template_variables_id": row.id, "experiment_id": experiment.id, "epoch": 1}
        for row in rows
    ]
    status, task, _ = await at.ask(
        "POST", "projects/1/responses/batches", {"prompt_response_ins": items}
    )
    assert status in {200, 201, 202}
    path = f"projects/1/responses/batches/{task}"
    status, text, headers = await at.ask("GET", f"{path}/stream")
    assert status == 200
    assert "text/event-stream" in headers["Content-Type"]
    events = [json.loads(part.removeprefix("data:")) for part in text.split("\n\n") if part.strip()]
    assert events[-1]["status"] == "SUCCESS"
    _, polled, _ = await at.ask("GET", path)
    assert polled["status"] == "SUCCESS"


async def test_a_map_has_the_keys_of_the_rows(at: At) -> None:
    """Which responses there are to each row, and by how many criteria they are rated."""
    template, _, experiment, rows = await at.rows(2)
    await at.client.criteria.get_or_generate_many(template)
    batch = await at.client.responses.generate_many(
        template_variables=[rows[0], rows[1], rows[0]], experiment=experiment
    )
    (ratings,) = await at.client.ratings.rate_many([batch[1]])
    samples = await at.client.experiments.map(experiment)
    assert {
        (sample.template_variables_id, row.epoch, row.response_id)
        for sample in samples
        for row in sample.responses
    } == {(r.prompt.template_variables.id, r.epoch, r.id) for r in batch}
    (rated,) = [row for s in samples for row in s.responses if row.response_id == batch[1].id]
    others = [row for s in samples for row in s.responses if row.response_id != batch[1].id]
    assert (rated.num_criteria_passed or 0) + (rated.num_criteria_failed or 0) == len(ratings)
    assert {(row.num_criteria_passed, row.num_criteria_failed) for row in others} == {(None, None)}


async def test_an_empty_batch_is_no_job(at: At) -> None:
    """Null instead of an id; and the client sends none."""
    status, task, _ = await at.ask(
        "POST", "projects/1/responses/batches", {"prompt_response_ins": []}
    )
    assert status in {200, 201, 202}
    assert task is None
    _, _, experiment, _ = await at.rows(1)
    nothing = await at.client.responses.generate_many(template_variables=[], experiment=experiment)
    assert isinstance(nothing, Batch)
    assert len(nothing) == 0


async def test_a_bad_item_refuses_its_chunk(at: At) -> None:
    """A row that is not there: 4xx for all, so that the client can halve until it stands alone."""
    _, _, experiment, rows = await at.rows(4)
    batch = await at.client.responses.generate_many(
        template_variables=[rows[0].id, 10**6, rows[1].id, rows[2].id], experiment=experiment
    )
    assert sorted(batch.failed) == [1]
    assert batch.failed[1].status in {400, 404, 422}


async def test_criteria_are_proposed_once(at: At) -> None:
    """A second time they are those that exist; another template has its own."""
    template, _, _, _ = await at.rows(1)
    first, new = await at.client.criteria.get_or_generate_many(template)
    assert new
    assert first
    again, new = await at.client.criteria.get_or_generate_many(template)
    assert not new
    assert [one.id for one in again] == [one.id for one in first]


async def test_a_row_that_comes_twice_has_two_epochs(at: At) -> None:
    """Two responses, told apart by their number, each at its own position."""
    _, _, experiment, rows = await at.rows(2)
    batch = await at.client.responses.generate_many(
        template_variables=[rows[0], rows[1], rows[0]], experiment=experiment
    )
    assert [response.epoch for response in batch] == [1, 1, 2]
    assert batch[0].id != batch[2].id


@pytest.mark.parametrize("at", ["scripted", "embedded"], indirect=True)
async def test_a_key_stands_for_one_request(at: At) -> None:
    """Repeated it gets the first answer and a header; another body under it is 422."""

    async def post(name: str) -> tuple[int, Json, str | None]:
        path = "projects/1/responses/batches"
        body = {"prompt_response_ins": [{**item, "epoch": int(name)}]}
        status, answer, headers = await at.ask("POST", path, body, Idempotency_Key="k")
        return status, answer, headers.get("Idempotency-Replayed")

    _, _, experiment, rows = await at.rows(1)
    item: Json = {"template_variables_id": rows[0].id, "experiment_id": experiment.id}
    first, again, other = await post("1"), await post("1"), await post("2")
    assert first[0] in {200, 201, 202}
    assert again == (first[0], first[1], "true")
    assert other[0] == 422
    await asyncio.sleep(1)
    assert len(await at.client.responses.list(experiment=experiment)) == 1


async def test_a_job_is_cancelled_or_that_is_refused(at: At) -> None:
    """With the extension 204, whatever has become of the job; without it 405, and nothing ends."""
    _, _, experiment, (row, *_) = await at.rows(2)
    item: Json = {"template_variables_id": row.id, "experiment_id": experiment.id, "messages": []}
    batches = "projects/1/responses/batches"
    _, job, _ = await at.ask("POST", batches, {"prompt_response_ins": [item]}, Idempotency_Key="k1")
    path = f"{batches}/{job}"
    while (ended := await at.ask("GET", path))[1]["status"] in ("PENDING", "STARTED"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    offers = "cancellation" in await _capabilities(at)

    expected = 204 if offers else 405
    assert (await at.ask("DELETE", path))[0] == expected
    by_key = await at.ask("DELETE", batches, Idempotency_Key="k1")
    assert by_key[0] == expected
    unknown = await at.ask("DELETE", f"{batches}/none")
    assert unknown[0] == (404 if offers else 405)
    for single in ("responses/generate", "ratings"):
        answer = await at.ask("DELETE", f"projects/1/{single}", Idempotency_Key="k2")
        assert answer[0] == expected
    assert (await at.ask("GET", path))[1] == ended[1]


async def _capabilities(at: At) -> Json:
    body = {"current_sdk_version": "1.5.2"}
    _, answer, _ = await at.ask("POST", "version/compatible", body)
    return answer.get("capabilities", [])
