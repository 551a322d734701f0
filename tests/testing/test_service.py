"""The scripted service serves the client's main flow, and behaves as scripted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    AuthenticationError,
    BatchOptions,
    ConflictError,
    CriterionIn,
    GenerationError,
    NotFoundError,
    RatingError,
    RatingMode,
)
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from elluminate_async.testing.exchange import ServerLimit
from elluminate_async.testing.ledger import nonce_of
from tests.testing.bench import OPTIONS, bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("results", [True, False])
async def test_generate_and_rate(keys: bool, results: bool) -> None:
    """A batch and its ratings are whole, with and without the service's extensions."""
    service = ScriptedService(
        keys=keys, results=results, page_size=7, order="shuffled", job_seconds=0.05, criteria=3
    )
    async with bench(service, inputs_of(45)) as at:
        batch = await at.generate()
        ratings = await at.client.ratings.rate_many(batch, rating_mode=RatingMode.FAST)

        assert len(at.check(batch).ok) == 45
        assert len(at.check_ratings(ratings, batch).ok) == 45
    assert service.ledger.generations == 45
    assert service.ledger.verdicts == 135
    # Those of what was set up, the chunks of the batch and those of its ratings.
    assert len(service.ledger.by_key) == (14 if keys else 0)


async def test_the_main_flow_finds_what_it_made() -> None:
    """What exists is found by name and id, and made once."""
    async with (
        ScriptedService() as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        for first in (True, False):
            template, created = await client.prompt_templates.get_or_create("{{x}}", name="T")
            assert created is first
            assert template.placeholders == ["x"]
            collection, created = await client.collections.get_or_create("C")
            assert created is first
            _, created = await client.criteria.get_or_generate_many(template)
            assert created is first
            experiment, created = await client.experiments.get_or_create(
                "E", prompt_template=template, collection=collection
            )
            assert created is first
        second, created = await client.prompt_templates.get_or_create("new {{x}}", name="T")
        assert created
        assert second.version == 2
        assert await client.prompt_templates.get("T") == second
        added = await client.criteria.add_many(["one?", "two?"], prompt_template=template)
        assert len(await client.criteria.list(template)) == 4
        assert added[0].criterion_str == "one?"
        row = await client.template_variables.add_to_collection({"x": "1"}, collection)
        assert await client.template_variables.add_to_collection({"x": "1"}, collection) == row
        response = await client.responses.generate(template_variables=row, experiment=experiment)
        assert await client.responses.get(response.id) == response
        assert len(await client.ratings.rate(response)) == 4
        with pytest.raises(NotFoundError):
            await client.responses.get(999)


async def test_a_wrong_key_is_refused() -> None:
    """The service has one key."""
    async with ScriptedService() as service:
        with pytest.raises(AuthenticationError):
            async with AsyncClient(base_url=service.url, api_key="another"):
                pass


async def test_a_key_is_processed_once() -> None:
    """A repeated request gets the stored answer; another body under its key is refused."""
    async with ScriptedService() as service, aiohttp.ClientSession() as session:
        url = f"{service.url}/api/v0/projects/1/collections"
        headers = {"X-API-Key": service.api_key, "Idempotency-Key": "k1"}

        async def post(name: str) -> tuple[int, Any, str | None]:
            async with session.post(url, json={"name": name}, headers=headers) as response:
                replayed = response.headers.get("Idempotency-Replayed")
                return response.status, await response.json(), replayed

        first, again, other = await post("a"), await post("a"), await post("b")

    assert first[0] == 201
    assert again == (201, first[1], "true")
    assert other[0] == 422
    assert service.ledger.by_key == {"k1": 1}


async def test_what_it_has_can_be_changed() -> None:
    """Criteria with their labels, the notes of responses, and collections."""
    async with bench(ScriptedService(), inputs_of(1)) as at:
        client, template = at.client, at.experiment.prompt_template
        assert template is not None
        given = [CriterionIn(criterion_str="a?", label="A"), "b?"]
        first, _ = await client.criteria.add_many(given, prompt_template=template)
        assert first.label == "A"
        await client.criteria.update(first, criterion_str="c?")
        found = await client.criteria.list(template)
        assert [(one.criterion_str, one.label) for one in found] == [("c?", "A"), ("b?", None)]

        batch = await at.generate()
        ((rating, _),) = await client.ratings.rate_many(batch)
        assert (rating.criterion.criterion_str, rating.criterion.label) == ("c?", "A")
        noted = await client.responses.update(batch[0], annotation='"odd"')
        assert noted.annotation == '"odd"'
        assert (await client.responses.get(batch[0].id)).annotation == '"odd"'

        collection = await client.collections.create("c", columns=["x"])
        changed = await client.collections.update(collection, name="d", description="new")
        assert (changed.name, changed.description) == ("d", "new")
        assert [column.name for column in changed.columns] == ["x"]
        with pytest.raises(ConflictError):
            await client.collections.update(collection, name="values")


async def test_rows_are_seen_in_listings_after_the_lag() -> None:
    """Until then a row that was made is in no listing and at no address."""
    service = ScriptedService(keys=False, results=False, lag=0.4)
    async with bench(service, inputs_of(3)) as at:
        begun = time.monotonic()
        row = await at.client.responses.generate(
            template_variables=at.variables[0], experiment=at.experiment
        )
        assert await at.client.responses.list(experiment=at.experiment) == []
        with pytest.raises(NotFoundError):
            await at.client.responses.get(row.id)
        batch = await at.generate()
        assert time.monotonic() - begun > 0.4
        assert not batch.failed
        assert len(await at.client.responses.list(experiment=at.experiment)) == 4


@pytest.mark.parametrize(
    ("order", "expected"), [("created", [1, 2, 3, 4, 5]), ("reversed", [5, 4, 3, 2, 1])]
)
async def test_listings_have_the_scripted_order(order: Any, expected: list[int]) -> None:
    """Created or reversed over all pages."""
    service = ScriptedService(order=order, page_size=2)
    async with bench(service, inputs_of(5)) as at:
        await at.generate()
        rows = await at.client.responses.list(experiment=at.experiment)
        assert [row.id for row in rows] == expected


async def test_the_shuffled_order_is_seeded() -> None:
    """The same seed gives the same order, which is neither of the other two."""
    orders: list[list[int]] = []
    for seed in (1, 1, 2):
        service = ScriptedService(order="shuffled", seed=seed, page_size=4)
        async with bench(service, inputs_of(12)) as at:
            await at.generate()
            rows = await at.client.responses.list(experiment=at.experiment)
            orders.append([row.id for row in rows])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] not in (sorted(orders[0]), sorted(orders[0], reverse=True))


async def test_the_model_is_the_tests() -> None:
    """It answers from the values, and what it raises is that row's error."""

    def answer(values: Mapping[str, Any]) -> str:
        if values["x"] == "item 1":
            raise ValueError("out of tokens")
        return f"saw {values['x']}"

    service = ScriptedService(answer=answer)
    async with bench(service, inputs_of(3)) as at:
        batch = await at.generate()
        assert batch[0].response_str == "saw item 0"
        assert isinstance(batch.failed[1], GenerationError)
        assert batch.failed[1].text == "out of tokens"
        report = at.check(batch)
        assert (report.ok, report.failed) == ((0, 2), (1,))
        assert report.clean


async def test_the_judge_is_the_tests() -> None:
    """Its verdicts are the ratings, and what it raises leaves one out."""

    def judge(response: str, criterion: str) -> bool:
        if "item 1" in response and criterion.endswith("2?"):
            raise ValueError("no verdict")
        return criterion.endswith("1?")

    async with bench(ScriptedService(judge=judge), inputs_of(2)) as at:
        batch = await at.generate()
        ratings = await at.client.ratings.rate_many(batch)
        assert [rating.rating for rating in ratings[0]] == ["YES", "NO"]
        assert isinstance(ratings.failed[1], RatingError)
        assert at.check_ratings(ratings, batch).failed == (1,)


async def test_epochs_may_be_the_services_own() -> None:
    """Whatever the request asks for, repetitions are counted."""
    service = ScriptedService(own_epochs=True)
    async with bench(service, [{"x": "same"}]) as at:
        body = {"template_variables_id": at.variables[0].id, "experiment_id": at.experiment.id}
        for epoch in (7, 7):
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{service.url}/api/v0/projects/1/responses/generate",
                    json={**body, "epoch": epoch, "messages": []},
                    headers={"X-API-Key": service.api_key},
                ) as response,
            ):
                assert response.status == 201
        rows = await at.client.responses.list(experiment=at.experiment)
        assert [row.epoch for row in rows] == [1, 2]


@pytest.mark.parametrize("retry_after", [None, 0.2])
async def test_the_limit_is_kept(retry_after: float | None) -> None:
    """What is over it gets 429, is counted, and is done later."""
    service = ScriptedService()
    async with bench(service, inputs_of(60)) as at:
        limit = service.limit = ServerLimit(20, burst=2, retry_after=retry_after)
        batch = await at.generate()
        assert at.check(batch).clean
        assert not batch.failed
    assert limit.refused == service.traffic.statuses[429] > 0
    assert limit.admitted >= 12


async def test_traffic_is_counted() -> None:
    """By route, by status, and at once."""
    service = ScriptedService(job_seconds=0.1)
    async with bench(service, inputs_of(40), OPTIONS.replace(max_concurrency=3)) as at:
        before = service.traffic.total
        await anyio.sleep(100)
        await at.generate()
    traffic = service.traffic
    assert traffic.requests["POST responses/batches"] == 4
    assert traffic.requests["GET responses/batches/{job}/stream"] == 4
    assert traffic.count("responses/batches") == 8
    assert traffic.peak == 3
    assert traffic.open == 0
    assert traffic.most_in(200) == traffic.total == traffic.statuses.total()
    assert traffic.most_in(50) == traffic.total - before


@pytest.mark.unmeasured
async def test_any_number_of_items_needs_no_memory() -> None:
    """Without retaining nothing grows with the items but a few bytes for each."""
    service = ScriptedService(retain=False, variables=lambda id: {"x": id})
    options = BatchOptions(chunk_size=50)
    async with bench(service, inputs_of(0), options) as at:
        seen = 0
        stream = at.client.responses.stream_generate_many(
            template_variables=iter(range(1, 20_001)), experiment=at.experiment
        )
        marks = [time.process_time()]
        async for position, outcome in stream:
            assert not isinstance(outcome, Exception)
            assert json.loads(outcome.response_str) == {"x": position + 1}
            seen += 1
            if seen % 10_000 == 0:
                marks.append(time.process_time())
        ratings = await at.client.ratings.rate_many([1, 2, 20_000])
        assert [len(ratings[i]) for i in range(3)] == [2, 2, 2]
    assert seen == service.ledger.generations == 20_000
    assert not service.ledger.responses
    # The work on what grows would make the second half three times the first.
    begun, half, ended = marks
    assert ended - half < 2 * (half - begun)


def test_rows_that_nobody_keeps_and_nobody_sends_are_a_slip() -> None:
    """Without retaining, results must carry the rows."""
    with pytest.raises(ValueError, match="results"):
        ScriptedService(retain=False, results=False)


async def test_values_of_an_entry_that_nobody_uploaded() -> None:
    """Without a script for them the chunk is refused."""
    async with bench(ScriptedService(), inputs_of(1)) as at:
        batch = await at.client.responses.generate_many(
            template_variables=[4711], experiment=at.experiment
        )
        assert batch.failed[0].code == "http_404"


async def test_the_default_model_repeats_the_values() -> None:
    """So that a swapped answer shows."""
    async with bench(ScriptedService(), inputs_of(1)) as at:
        assert (await at.generate())[0].response_str == nonce_of(at.inputs[0])
