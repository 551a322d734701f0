"""What is stored and how it is told: documents, pages, groups of writes, upgrades."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, event

from elluminate_async import PromptResponse
from elluminate_async.errors import ConfigurationError
from elluminate_async.schemas import Page
from elluminate_async.server import LocalServer
from elluminate_async.server.store.database import Database
from elluminate_async.server.store.trouble import TroubleError
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch, keep_none_of
from tests.server.earlier import to_version_1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


BLOCK = 4096


async def test_documents_have_the_form_of_their_schema(api: Api, model: ScriptedModel) -> None:
    """A listed response is what its model makes of it: every key, each text and time as it is."""
    words = ["a", 'quote " and \\ and \n', "ä€😀\u2028", "fails"]
    experiment, entries = await api.setup(words, criteria=['is "x"\n?'])
    model.errors["fails"] = TimeoutError("no\nanswer")
    generated = await api.generate(experiment, entries)
    body = batch(experiment, entries[:2])
    messages = [{"role": "user", "content": [{"text": "é"}], "name": "n"}, {"role": "assistant"}]
    body["prompt_response_ins"][0]["messages"] = messages
    body["prompt_response_ins"][1]["messages"] = messages[1:]
    body["prompt_response_ins"][1]["metadata"] = {"duration_seconds": 1e-7, "input_tokens": 3}
    task = await api.post("/responses/batches", body)
    stored = await api.ended(f"/responses/batches/{task}")
    rated = await api.rate([1, 2, 3], "detailed")
    await api("PATCH", "/responses/1", {"annotation": 'a "note"'})

    async with api.session.get(api.url("/responses"), headers=api.headers) as response:
        text = await response.read()
    page = Page[PromptResponse].model_validate_json(text)
    listed = json.loads(text)
    assert page.model_dump(mode="json") == listed
    assert [
        one["prompt"]["template_variables"]["input_values"]["word"] for one in listed["items"]
    ] == [
        *words,
        *words[:2],
    ]
    assert listed["items"][0]["annotation"] == 'a "note"'
    assert [one["ratings"] for one in listed["items"][:3]] == rated["result"]
    assert listed["items"][3:] == [generated["result"][3], *stored["result"]]
    assert listed["items"][3]["error"] == "TimeoutError: no\nanswer"
    assert listed["items"][4]["messages"][0]["name"] == "n"
    assert listed["items"][4]["generation_metadata"] is None
    assert listed["items"][5]["generation_metadata"]["duration_seconds"] == 1e-7
    assert await api.get("/responses/2") == listed["items"][1]


@pytest.mark.parametrize("depth", [10, 90])
async def test_deep_configuration(api: Api, depth: int) -> None:
    """A response stored with a configuration of many levels can be listed."""
    value: object = "x"
    for _ in range(depth):
        value = [value]
    experiment, entries = await api.setup(["a"])
    body = batch(experiment, entries)
    body["prompt_response_ins"][0]["messages"] = [{"role": "assistant", "content": "x"}]
    config = {"llm_model_name": "m", "custom_api_config": {"a": value}}
    body["prompt_response_ins"][0]["metadata"] = {"llm_model_config": config}
    task = await api.post("/responses/batches", body)
    assert (await api.ended(f"/responses/batches/{task}"))["status"] == "SUCCESS"
    (listed,) = await api.items("/responses")
    shown = listed["generation_metadata"]["llm_model_config"]["custom_api_config"]
    assert shown == {"a": value}


@pytest.mark.parametrize("depth", [10, 90])
async def test_deep_values(api: Api, depth: int) -> None:
    """A row as deep as a collection takes it can be generated from, listed and rated."""
    value: object = "x"
    for _ in range(depth):
        value = [value]
    await api.template()
    await api.add_criteria(["a?"])
    await api.post("/collections", {"name": "C", "variables": [{"word": value}]})
    body = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
    await api.post("/experiments", body)
    assert (await api.generate(1, [1]))["status"] == "SUCCESS"
    assert (await api.rate([1]))["status"] == "SUCCESS"
    (listed,) = await api.items("/responses?experiment_id=1")
    assert listed["prompt"]["template_variables"]["input_values"]["word"] == value


async def store_answers(api: Api, experiment: int, entry: int, count: int) -> None:
    body = batch(experiment, [entry] * count)
    for item in body["prompt_response_ins"]:
        item["messages"] = [{"role": "assistant", "content": "x"}]
    task = await api.post("/responses/batches", body)
    await api.ended(f"/responses/batches/{task}")


async def listed(api: Api, query: str, pages: list[int]) -> tuple[list[list[int]], set[int]]:
    found = [await api.get(f"/responses?{query}page={number}") for number in pages]
    return [[one["id"] for one in page["items"]] for page in found], {p["count"] for p in found}


async def test_pages_across_blocks(api: Api) -> None:
    """Pages are right where blocks of ids meet, between other experiments and after deletions."""
    experiment, (entry,) = await api.setup(["a"])
    body = {"name": "other", "prompt_template_id": 1, "collection_id": 1}
    other = (await api.post("/experiments", body))["id"]
    await store_answers(api, other, entry, 150)
    await store_answers(api, experiment, entry, BLOCK)
    await store_answers(api, other, entry, 50)
    own = list(range(151, 151 + BLOCK))

    async def check(query: str, ids: list[int]) -> None:
        # The first, those around the end of the first block of ids, the last, one beyond.
        last = -(-len(ids) // 100)
        numbers = sorted({1, *range(BLOCK // 100 - 2, BLOCK // 100 + 2), last, last + 1})
        pages, counts = await listed(api, query, numbers)
        assert pages == [ids[(n - 1) * 100 : n * 100] for n in numbers]
        assert counts == {len(ids)}

    await check(f"experiment_id={experiment}&", own)
    await check("", list(range(1, 201 + BLOCK)))
    gone = [own.pop(0), own.pop(50), own.pop()]
    for one in gone:
        assert (await api("DELETE", f"/responses/{one}")).status == 204
    await check(f"experiment_id={experiment}&", own)
    assert (await api("DELETE", f"/experiments/{experiment}")).status == 204
    pages, counts = await listed(api, "", [1, 2, 3])
    assert [one for page in pages for one in page] == [
        *range(1, 151),
        *range(BLOCK + 151, BLOCK + 201),
    ]
    assert counts == {200}


async def test_page_beyond_all_numbers(api: Api) -> None:
    """A page far behind the end is empty, and says how many there are."""
    experiment, entries = await api.setup(["a"])
    await api.generate(experiment, entries)
    query = f"/responses?experiment_id={experiment}&page={2**63 - 1}"
    assert await api.get(query) == {"items": [], "count": 1}


async def test_database_of_the_first_version(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It is upgraded where it is, with what it holds counted; one of a later version is refused."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path) as server:
        experiment, entries = await Api(session, server).setup(["a", "b"])
        await Api(session, server).generate(experiment, entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        to_version_1(raw)
    async with LocalServer(db=path) as server:
        api = Api(session, server)
        await api.generate(experiment, entries[:1])
        page = await api.get(f"/responses?experiment_id={experiment}")
        assert [one["id"] for one in page["items"]] == [1, 2, 3]
        assert page["count"] == 3
        assert (await api.get("/collections/1"))["variables_count"] == 2
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE meta SET value = 99")
    with pytest.raises(ConfigurationError, match="version 99"):
        await LocalServer(db=path).__aenter__()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "s.db", durable=True)
    await database.open()
    yield database
    await database.close()


def _put(connection: Connection, name: str, *, fails: bool = False) -> str:
    connection.exec_driver_sql("INSERT INTO meta VALUES (?, '')", (name,))
    if fails:
        raise LookupError(name)
    return name


async def test_failed_write_of_a_group(database: Database) -> None:
    """Of writes that are committed together, one that fails takes back only its own rows."""
    writes = [database.write(_put, str(n), fails=n % 3 == 0) for n in range(20)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    kept = [str(n) for n in range(20) if n % 3]
    assert [one for one in results if isinstance(one, str)] == kept
    assert {type(one) for one in results} == {str, LookupError}

    def names(connection: Connection) -> list[Any]:
        rows = connection.exec_driver_sql("SELECT name FROM meta WHERE name < 'a' ORDER BY rowid")
        return [row.name for row in rows]

    assert await database.read(names) == kept


def _bound(connection: Connection) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")


async def test_write_that_does_not_fit_costs_no_other(database: Database) -> None:
    """A full disk takes back the whole transaction; what fits is written all the same."""
    await database.write(_bound)
    names = ["0", "1", "x" * 1_000_000, "2", "y" * 1_000_000, "3"]
    results = await asyncio.gather(
        *(database.write(_put, name) for name in names), return_exceptions=True
    )
    assert [one for one in results if isinstance(one, str)] == ["0", "1", "2", "3"]
    assert [type(one) for one in results].count(TroubleError) == 2


async def test_writes_share_commits(database: Database) -> None:
    """What waits while one write is committed goes into one transaction, not one each."""
    begun: list[object] = []
    event.listen(database._writer._engine, "begin", begun.append)
    await asyncio.gather(*(database.write(_put, str(n)) for n in range(50)))
    assert 1 <= len(begun) <= 10


async def test_job_that_cannot_be_kept_costs_no_other(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """An answer that the database refuses ends its own job, not those written with it."""

    class Broken(ScriptedModel):
        async def complete(self, request: Any) -> Any:
            answer = await super().complete(request)
            return replace(answer, input_tokens=77) if "SAY BAD" in answer.text else answer

    model = Broken()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        keep_none_of(tmp_path / "s.db", input_tokens=77)
        experiment, (bad, *good) = await api.setup(["bad", *map(str, range(30))])
        model.gate.clear()
        jobs = [[bad, good[0]], good[:10], good[10:20], good[20:]]
        tasks = [await api.post("/responses/batches", batch(experiment, job)) for job in jobs]
        await model.reached(sum(map(len, jobs)))
        model.gate.set()
        ends = [await api.ended(f"/responses/batches/{task}") for task in tasks]
    assert [end["status"] for end in ends] == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
    assert [end["progress"]["processed"] for end in ends[1:]] == [10, 10, 10]


async def test_restart_never_tells_less(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A job that told it had started does not tell that it is pending after a restart."""
    model = ScriptedModel()
    db = tmp_path / "s.db"
    async with LocalServer(db=db, model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"])
        model.gate.clear()
        task = await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(2)
        assert (await api.get(f"/responses/batches/{task}"))["status"] == "STARTED"
    with closing(sqlite3.connect(db)) as raw:
        assert raw.execute("SELECT status FROM jobs").fetchall() == [("PENDING",)]
    async with LocalServer(db=db, model=model) as server:
        api = Api(session, server)
        assert (await api.get(f"/responses/batches/{task}"))["status"] == "STARTED"
        model.gate.set()
        assert (await api.ended(f"/responses/batches/{task}"))["status"] == "SUCCESS"


async def test_finished_items_are_kept_before_their_job_ends(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """What is done shows in the database while the rest of its job still waits for the model."""

    class Slow(ScriptedModel):
        async def complete(self, request: Any) -> Any:
            if len(self.calls) == 3:
                self.gate.clear()
            return await super().complete(request)

    model = Slow()
    db = tmp_path / "s.db"
    async with LocalServer(db=db, model=model, max_model_calls=1) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(list("abcde"))
        task = await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(4)
        async with asyncio.timeout(2):
            while (await api.get("/responses"))["count"] < 3:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)
        status = await api.get(f"/responses/batches/{task}")
        assert status["progress"] == {"processed": 3, "total": 5, "failed": 0}
        with closing(sqlite3.connect(db)) as raw:
            done = raw.execute("SELECT processed, status FROM jobs").fetchone()
        assert done == (3, "STARTED")


async def test_two_jobs_rate_the_same_response(api: Api, model: ScriptedModel) -> None:
    """Each job has its own ratings as its result; one of them is the current one."""
    experiment, entries = await api.setup(["a", "b"], criteria=["x?", "y?"])
    await api.generate(experiment, entries)
    model.gate.clear()
    body = {"prompt_response_ids": [2, 1], "rating_mode": "fast"}
    tasks = [await api.post("/ratings/batches", body) for _ in range(3)]
    await model.reached(2 + 6)
    model.gate.set()
    ends = [await api.ended(f"/ratings/batches/{task}") for task in tasks]
    results = [[[one["id"] for one in ratings] for ratings in end["result"]] for end in ends]
    assert [[len(ratings) for ratings in result] for result in results] == [[2, 2]] * 3
    assert len({key for result in results for ratings in result for key in ratings}) == 12
    for place, response in enumerate([2, 1]):
        current = [one["id"] for one in (await api.get(f"/responses/{response}"))["ratings"]]
        assert current in [result[place] for result in results]
