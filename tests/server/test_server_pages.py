"""Listings and results of rows that are long: bounded by bytes, and nothing of them is lost."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.server.llms.base import text_of
from elluminate_async.server.store import job_statuses, sizes
from tests.server.api import Api, ScriptedModel
from tests.server.earlier import to_version_2

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.matrix import Fired

ROWS = 100
LENGTH = 200_000
BUDGET = 256 << 10


class Long(ScriptedModel):
    """Answers with so many characters."""

    def __init__(self, length: int = LENGTH) -> None:
        super().__init__()
        self.length = length
        self.asked = Counter[str]()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = text_of(request.messages[-1])
        self.asked[prompt] += 1
        if request.json_schema is not None:
            return await super().complete(request)
        return ModelAnswer(prompt + "y" * self.length)


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "PAGE_BYTES", BUDGET)


async def pages_of(api: Api, path: str) -> list[tuple[int, list[Any]]]:
    """Bytes and rows of each page, as the official clients ask for them.

    That is: the length of the first page is that of all, and the count stays.
    """
    sign = "&" if "?" in path else "?"
    pages: list[tuple[int, list[Any]]] = []
    last = 1
    while len(pages) < last:
        url = api.url(f"{path}{sign}page={len(pages) + 1}")
        async with api.session.get(url, headers=api.headers) as response:
            body = await response.read()
            page = await response.json()
        pages.append((len(body), page["items"]))
        last = -(-page["count"] // len(pages[0][1]))
    return pages


@pytest.mark.row(128)
@pytest.mark.usefixtures("small_budget")
@pytest.mark.parametrize(
    "query", ["experiment_id=1", "page=1", "response_ids=1", "template_variables_id=3"]
)
async def test_pages_are_bounded_by_bytes(
    session: aiohttp.ClientSession, query: str, fired: Fired
) -> None:
    """One long row among short ones: all pages are of one length, none is over the budget."""
    async with LocalServer(model=Long(100)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a" * 20_000, *map(str, range(40))])
        await api.generate(experiment, entries)
        if query == "page=1":
            query = ""
        elif query == "response_ids=1":
            query = "&".join(f"response_ids={number}" for number in range(1, 42))
        elif query == "template_variables_id=3":
            await api.generate(experiment, [entries[2]] * 30)
            query = f"template_variables_id={entries[2]}"
        pages = await pages_of(api, f"/responses?{query}")
    fired()
    ids = [row["id"] for _, rows in pages for row in rows]
    assert len(ids) == len(set(ids)) >= 31
    assert ids == sorted(ids)
    assert len(pages) > 1
    assert max(size for size, _ in pages) <= BUDGET
    assert len({len(rows) for _, rows in pages[:-1]}) == 1


@pytest.mark.row(128)
@pytest.mark.usefixtures("small_budget")
async def test_what_is_repeated_counts(session: aiohttp.ClientSession, fired: Fired) -> None:
    """A template, a configuration, criteria and reasons make each row long."""

    class Talkative(Long):
        async def complete(self, request: ModelRequest) -> ModelAnswer:
            if request.json_schema is None:
                return await super().complete(request)
            keys = request.json_schema.schema["properties"]
            verdict = {"reasoning": "z" * 20_000, "verdict": "YES"}
            return ModelAnswer(json.dumps(dict.fromkeys(keys, verdict)))

    async with LocalServer(model=Talkative(10)) as server:
        api = Api(session, server)
        await api.template("Say {{word}}." + "t" * 10_000)
        await api.add_criteria(["a?" + "c" * 10_000, "b?"])
        words = [{"word": str(number)} for number in range(30)]
        collection = await api.post("/collections", {"name": "C", "variables": words})
        body = {"name": "E", "prompt_template_id": 1, "collection_id": collection["id"]}
        await api.post("/experiments", body)
        before = await api.generate(1, list(range(1, 31)))
        assert before["status"] == "SUCCESS"
        unrated = await pages_of(api, "/responses?experiment_id=1")
        assert (await api.rate(list(range(1, 31)), "detailed"))["status"] == "SUCCESS"
        rated = await pages_of(api, "/responses?experiment_id=1")
    fired()
    for pages in (unrated, rated):
        assert sum(len(rows) for _, rows in pages) == 30
        assert max(size for size, _ in pages) <= BUDGET
    assert len(rated) > len(unrated) > 1


@pytest.mark.row(128)
@pytest.mark.usefixtures("small_budget")
async def test_every_listing(session: aiohttp.ClientSession, fired: Fired) -> None:
    """Entries, templates, criteria, sets, collections, experiments and configurations too."""
    long = "x" * 40_000
    async with LocalServer(model=ScriptedModel()) as server:
        api = Api(session, server)
        await api.post("/collections", {"name": "C", "variables": [{"word": long}] * 12})
        for number in range(12):
            messages = [{"role": "user", "content": f"{number} {{{{word}}}} {long}"}]
            await api.post("/prompt_templates", {"name": f"T{number}", "messages": messages})
            await api.add_criteria([f"{number}? {long}"], number + 1)
            body = {"name": f"E{number}", "prompt_template_id": number + 1, "collection_id": 1}
            await api.post("/experiments", body)
            body = {"name": f"C{number}", "description": long}
            await api.post("/collections", body)
            body = {"name": f"L{number}", "llm_model_name": "m", "system_message": long}
            await api.post("/llm_configs", body)
        fired()
        for path in (
            "/collections/1/entries", "/prompt_templates", "/criteria", "/criterion_sets",
            "/collections", "/experiments", "/llm_configs",
        ):  # fmt: skip
            pages = await pages_of(api, path)
            assert len(pages) > 1, path
            assert max(size for size, _ in pages) <= BUDGET, path
            assert len({row["id"] for _, rows in pages for row in rows}) >= 12, path


@pytest.mark.row(128)
async def test_a_long_row_that_was_stored_before(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of the version before is measured when it is opened."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=Long(20_000)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(list(map(str, range(30))))
        await api.generate(experiment, entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        to_version_2(raw)
    monkeypatch.setattr(sizes, "PAGE_BYTES", BUDGET)
    async with LocalServer(db=path, model=Long(20_000)) as server:
        api = Api(session, server)
        await api.generate(experiment, entries)
        pages = await pages_of(api, f"/responses?experiment_id={experiment}")
    fired()
    assert sum(len(rows) for _, rows in pages) == 60
    assert max(size for size, _ in pages) <= BUDGET


@pytest.mark.row(128)
async def test_a_result_over_the_budget(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, fired: Fired
) -> None:
    """The status says that it is too large to be told, and the failures all the same."""
    monkeypatch.setattr(job_statuses, "RESULT_BYTES", BUDGET)
    model = Long(10_000)
    model.errors["Say 3"] = TimeoutError("too slow")
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(list(map(str, range(60))), criteria=["Is it?"])
        status = await api.generate(experiment, entries)
        few = await api.generate(experiment, entries[:2])
        ratings = await api.rate([1, 2])
    fired()
    assert status["status"] == "SUCCESS"
    assert status["result_omitted"] is True
    assert "result" not in status
    assert len(few["result"]) == len(ratings["result"]) == 2
    assert "result_omitted" not in few


@pytest.mark.row(128)
@pytest.mark.parametrize("result_bytes", [job_statuses.RESULT_BYTES, 4 << 20])
async def test_a_hundred_rows_of_200_kb(
    monkeypatch: pytest.MonkeyPatch, result_bytes: int, fired: Fired
) -> None:
    """All are delivered, listed and rated, each for one call of the model.

    Also where the status of their job says that they are too large to be told with it.
    """
    monkeypatch.setattr(job_statuses, "RESULT_BYTES", result_bytes)
    model = Long()
    async with (
        LocalServer(model=model) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{word}}.", name="T")
        await client.criteria.add_many(["Is it?"], prompt_template=template)
        collection, _ = await client.collections.get_or_create(name="C")
        words = [{"word": f"{number:03}" + "x" * 1_000} for number in range(ROWS)]
        entries = await client.template_variables.add_many(words, collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        responses = await client.responses.generate_many(
            prompt_template=template, template_variables=entries, experiment=experiment
        )
        ratings = await client.ratings.rate_many(responses)
        listed = await client.responses.list(experiment=experiment)
    fired(times=ROWS)
    assert len(responses.succeeded) == len(ratings.succeeded) == len(listed) == ROWS
    assert all(len(row.response_str) > LENGTH for row in responses)
    assert sorted(row.id for row in listed) == sorted(row.id for row in responses)
    generated = {prompt: n for prompt, n in model.asked.items() if prompt.startswith("Say")}
    assert set(generated.values()) == {1}
    assert len(generated) == ROWS
