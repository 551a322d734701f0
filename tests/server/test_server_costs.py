"""Small requests of huge cost: refused before they cost it, or done in slices between others."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from elluminate_async.schemas import ResponseBatchRequest
from elluminate_async.server import LocalServer, placement
from elluminate_async.server.acceptance import MOST_ITEMS, check_body
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import criteria, new_responses, prompts
from tests.server.api import Api, ScriptedModel, batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.matrix import Fired

JSON = {"Content-Type": "application/json"}
MANY = 3_000


def counted(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        (count,) = raw.execute(f"SELECT count(*) FROM {table}").fetchone()
    return count


BODIES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "nulls": (413, lambda: b'{"prompt_response_ins":[' + b"null," * 10_000_000 + b"null]}"),
    "objects": (413, lambda: b'{"prompt_response_ins":[' + b"{}," * 2_000_000 + b"{}]}"),
    "levels": (422, lambda: b'{"prompt_response_ins":' + b"[" * 20_000_000),
    "closed levels": (422, lambda: b"[" * 20_000_000 + b"]" * 20_000_000),
}


@pytest.mark.row(135)
@pytest.mark.parametrize("body", BODIES)
def test_bodies_are_looked_at_before_they_are_read(body: str, fired: Fired) -> None:
    """Refused for a few times their bytes at most."""
    status, make = BODIES[body]
    data = make()
    tracemalloc.start()
    with pytest.raises(Problem) as refused:
        check_body(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fired()
    assert refused.value.status == status
    assert peak < 3 * len(data)


@pytest.mark.row(135)
@pytest.mark.parametrize("body", BODIES)
async def test_costly_bodies_over_http(api: Api, body: str, fired: Fired) -> None:
    """They get their status, and the server goes on."""
    status, make = BODIES[body]
    answer = await api("POST", "/responses/batches", data=io.BytesIO(make()), headers=JSON)
    fired()
    assert answer.status == status
    assert await api.items("/responses") == []


@pytest.mark.row(135)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses/batches", {"prompt_response_ins": [None] * 50_000}),
        ("/ratings/batches", {"prompt_response_ids": ["x"] * 50_000}),
        ("/collections", {"name": "C", "variables": [5] * 50_000}),
        ("/collections", {"name": "C", "columns": [5] * 50_000}),
        ("/criteria", {"prompt_template_id": 1, "criteria": [5] * 50_000}),
        ("/criterion_sets", {"name": "S", "criteria": [5] * 50_000}),
        ("/prompt_templates", {"name": "T", "messages": [5] * 50_000}),
        ("/prompt_templates", {"name": "T", "messages": [], "tools": [5] * 50_000}),
    ],
    ids=["responses", "ratings", "rows", "columns", "criteria", "set", "messages", "tools"],
)
async def test_the_first_error_ends_it(api: Api, path: str, body: object, fired: Fired) -> None:
    """A list of what is not wanted is told of by its first element only."""
    answer = await api("POST", path, body)
    fired()
    assert answer.status == 422
    assert len(answer.body["detail"]) == 1


@pytest.mark.row(135)
async def test_a_query_of_what_is_no_id(api: Api, fired: Fired) -> None:
    """The same in a query."""
    answer = await api("GET", "/responses?" + "&".join(["response_ids=x"] * 5_000))
    fired()
    assert answer.status == 422
    assert len(answer.body["detail"]) == 1


@pytest.mark.row(135)
@pytest.mark.parametrize("n_epochs", [100_000, 0, -1, 2**70])
async def test_epochs_are_bounded(api: Api, n_epochs: int, fired: Fired) -> None:
    """A request of 150 bytes does not make a hundred thousand rows."""
    experiment, _ = await api.setup(["a"])
    body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "n_epochs": n_epochs}
    answers = [
        await api("POST", "/experiments", {**body, "generate": True}),
        await api("POST", "/experiments", body),
        await api("POST", f"/experiments/{experiment}/run", {"n_epochs": n_epochs}),
    ]
    fired()
    assert [answer.status for answer in answers] == [422] * 3
    assert [one["name"] for one in await api.items("/experiments")] == ["E"]


@pytest.mark.row(135)
async def test_rows_times_epochs_are_bounded(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired
) -> None:
    """What is within both bounds may be over theirs together: nothing of it is made."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        await api.template()
        rows = [{"word": str(number)} for number in range(MOST_ITEMS // 1_000 + 1)]
        await api.post("/collections", {"name": "C", "variables": rows})
        body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "n_epochs": 1_000}
        answer = await api("POST", "/experiments", {**body, "generate": True})
        fired()
        assert answer.status == 422
        assert await api.items("/experiments") == []
    assert counted(path, "responses") == counted(path, "jobs") == counted(path, "prompts") == 0


@pytest.mark.row(135)
async def test_counts_are_bounded(api: Api, fired: Fired) -> None:
    """Placeholders of a template, criteria of a set, columns of a collection, also bit by bit."""
    text = "".join(f"{{{{p{number}}}}}" for number in range(1_001))
    template = {"name": "T", "messages": [{"role": "user", "content": text}]}
    assert (await api("POST", "/prompt_templates", template)).status == 422
    await api.template()
    many = [{"criterion_str": f"{number}?"} for number in range(criteria.MOST_CRITERIA + 1)]
    body = {"prompt_template_id": 1, "criteria": many}
    assert (await api("POST", "/criteria", body)).status == 422
    assert (await api("POST", "/criterion_sets", {"name": "S", "criteria": many})).status == 422
    await api.post("/criteria", {**body, "criteria": many[:400]})
    assert (await api("POST", "/criteria", {**body, "criteria": many[350:]})).status == 422
    assert len(await api.items("/criteria")) == 100  # the first page of 400
    wide = [{f"c{number}": "x"} for number in range(1_001)]
    assert (await api("POST", "/collections", {"name": "C", "variables": wide})).status == 422
    await api.post("/collections", {"name": "C", "variables": wide[:600]})
    form = aiohttp.FormData()
    form.add_field("file", "\n".join(map(json.dumps, wide[500:])), filename="rows.jsonl")
    assert (await api("POST", "/collections/1/entries/batches", data=form)).status == 422
    fired()
    assert len(await api.items("/collections/1/entries")) == 100


@pytest.mark.row(135)
async def test_filled_in_prompts_are_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch, fired: Fired
) -> None:
    """A value named often, or a template filled in often, is counted before it is made."""
    monkeypatch.setattr(prompts, "MOST_PROMPTS", 3 << 20)
    await api.template("{{word}}" * 1_000)
    words = [{"word": "x" * length} for length in (10_000, 1_000, 1_000, 1_001, 1_002)]
    await api.post("/collections", {"name": "C", "variables": words})
    await api.post("/experiments", {"name": "E", "prompt_template_id": 1, "collection_id": 1})
    one = await api.generate(1, [1])
    several = await api("POST", "/responses/batches", batch(1, [2, 3, 4, 5]))
    fired()
    assert "more than 4194304 characters" in one["result"][0]["error"]
    assert several.status == 422
    assert "one request" in several.body["detail"]
    assert (await api.generate(1, [2, 2, 2, 2, 2]))["status"] == "SUCCESS"


async def others_between(api: Api, work: asyncio.Task[Any]) -> int:
    """Writes of others that are answered before ``work`` is done."""
    others = 0
    while not work.done():
        await api.post("/collections", {"description": "of others"})
        others += not work.done()
    return others


@pytest.mark.row(135)
@pytest.mark.parametrize("kind", ["batch", "stored", "experiment", "run"])
async def test_large_work_lets_others_write(
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    fired: Fired,
) -> None:
    """Its rows are made some at a time, in the order of the request, and others write between."""
    monkeypatch.setattr(placement, "SLICE", 100)
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model, max_model_calls=64) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([str(number) for number in range(MANY // 10)])
        body: Any = batch(experiment, entries * 10)
        path = "/responses/batches"
        if kind == "stored":
            for number, item in enumerate(body["prompt_response_ins"]):
                item["messages"] = [{"role": "assistant", "content": f"stored {number}"}]
        elif kind == "run":
            path, body = f"/experiments/{experiment}/run", {"n_epochs": 10}
        elif kind == "experiment":
            path = "/experiments"
            body = {"name": "F", "prompt_template_id": 1, "collection_id": 1}
            body |= {"n_epochs": 10, "generate": True, "rating_mode": "fast"}
        work = asyncio.create_task(api.post(path, body))
        others = await others_between(api, work)
        fired()
        answer = work.result()
        assert others >= 5
        if kind in ("experiment", "run"):
            path = f"/experiments/{answer['id']}/generation"
            answer = answer["generation_task_id"]
        end = await api.ended(f"{path}/{answer}")
        assert end["status"] == "SUCCESS"
        page = await api.get(f"/responses?experiment_id={1 if kind != 'experiment' else 2}")
        assert page["count"] == MANY
        assert len(model.calls) == (0 if kind == "stored" else MANY)
        if kind == "stored":
            told = [row["messages"][0]["content"] for row in page["items"]]
            assert told == [f"stored {number}" for number in range(100)]
        elif kind == "batch":
            told = [row["prompt"]["template_variables"]["id"] for row in page["items"]]
            assert told == entries[:100]


@pytest.mark.row(135)
@pytest.mark.parametrize("kind", ["batch", "experiment"])
async def test_large_work_that_is_refused_leaves_nothing(
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    fired: Fired,
) -> None:
    """What was made of it before its last item was seen to be bad goes again."""
    monkeypatch.setattr(placement, "SLICE", 10)
    monkeypatch.setattr(prompts, "MOST_PROMPTS", 2_000)
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([*map(str, range(99)), "x" * 2_000])
        if kind == "batch":
            answer = await api("POST", "/responses/batches", batch(experiment, entries))
        else:
            body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "generate": True}
            answer = await api("POST", "/experiments", body)
        fired()
        assert answer.status == 422
        assert [one["name"] for one in await api.items("/experiments")] == ["E"]
    for table in ("responses", "jobs", "job_items"):
        assert counted(path, table) == 0


@pytest.mark.row(135)
@pytest.mark.parametrize("kind", ["batch", "experiment"])
async def test_large_work_that_is_killed_leaves_nothing(
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    fired: Fired,
) -> None:
    """A server that ended before it had accepted takes back what it had made, at its start."""
    monkeypatch.setattr(placement, "SLICE", 10)
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    placed = 0
    real = new_responses.create_responses

    def place(*args: Any, **kwargs: Any) -> list[int]:
        nonlocal placed
        placed += 1
        if placed == 4:  # as a kill would leave it: what was committed until now
            with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(copy)) as to:
                raw.backup(to)
        return real(*args, **kwargs)

    monkeypatch.setattr(new_responses, "create_responses", place)
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(list(map(str, range(100))))
        if kind == "batch":
            await api.generate(experiment, entries)
        else:
            body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "generate": True}
            await api.post("/experiments", body)
    fired()
    assert counted(copy, "responses") == 30
    async with LocalServer(db=copy, model=ScriptedModel()) as server:
        api = Api(session, server)
        assert await api.items("/responses") == []
        assert [one["name"] for one in await api.items("/experiments")] == ["E"]
    for table in ("responses", "jobs", "job_items"):
        assert counted(copy, table) == 0


async def test_large_work_is_accepted_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated large batch gets the stored answer, and makes nothing."""
    monkeypatch.setattr(placement, "SLICE", 10)
    experiment, entries = await api.setup(list(map(str, range(50))))
    key = {"Idempotency-Key": "k"}
    first = await api.post("/responses/batches", batch(experiment, entries), headers=key)
    again = await api.post("/responses/batches", batch(experiment, entries), headers=key)
    await api.ended(f"/responses/batches/{first}")
    assert again == first
    assert (await api.get("/responses"))["count"] == 50


def test_a_batch_of_what_is_wanted_is_read() -> None:
    """As many items as one job may have are within what a body may hold."""
    item: dict[str, Any] = {
        "template_variables_id": 1,
        "experiment_id": 1,
        "epoch": 1,
        "messages": [],
    }
    more = {"prompt_template_id": None, "llm_config_id": None, "metadata": None}
    body = json.dumps({"prompt_response_ins": [{**item, **more}] * MOST_ITEMS}).encode()
    check_body(body)
    read = ResponseBatchRequest.model_validate_json(body)
    assert len(read.prompt_response_ins) == MOST_ITEMS
