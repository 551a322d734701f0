"""A job judges by the criteria that it began with, but for those that are deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, edit
from tests.server.earlier import to_version_5

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


WORDS = ["apple", "berry"]
NEW = {
    "prompt_template_id": 1,
    "delete_existing": True,
    "criteria": [{"criterion_str": "Is it short?"}],
}


async def begun(api: Api, model: ScriptedModel, criteria: list[str]) -> Any:
    """A run whose calls of the model have begun, and wait."""
    await api.setup(WORDS, criteria=criteria)
    model.gate.clear()
    run = await api.post("/experiments/1/run", {"rating_mode": "fast"})
    await model.reached(1)
    return run


async def done(api: Api, run: Any) -> list[list[int]]:
    """By which criteria the responses are rated at its end, which is a good one."""
    end = await api.ended(f"/experiments/1/generation/{run['generation_task_id']}")
    assert end["status"] == "SUCCESS"
    rows = await api.items("/responses?experiment_id=1")
    assert [row["error"] for row in rows] == [None] * len(WORDS)
    return [[one["criterion"]["id"] for one in row["ratings"]] for row in rows]


@pytest.mark.parametrize("restarts", [False, True])
async def test_criteria_that_are_replaced_are_asked_to_the_end_of_the_job(
    session: aiohttp.ClientSession, tmp_path: Path, *, restarts: bool
) -> None:
    """Also beyond a restart: what it asked is kept, and a retry after it pays for nothing."""
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model, max_model_calls=1) as server:
        api = Api(session, server)
        run = await begun(api, model, ["Is it a word?"])
        await api.post("/criteria", NEW)
        await api.add_criteria(["Is it red?"])
        if not restarts:
            model.gate.set()
            assert await done(api, run) == [[1], [1]]
    model.gate.set()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        assert await done(api, run) == [[1], [1]]
        calls = len(model.calls)
        again = await api.post("/experiments/1/retry-failed", {})
        assert again["generation_task_id"] is None
        assert len(model.calls) == calls == 4 + restarts  # one was cut off
        assert not [call for call in model.whole if "Is it red?" in call]
        await api.rate([1])
        rated = (await api.get("/responses/1"))["ratings"]
        assert [one["criterion"]["id"] for one in rated] == [2, 3]


async def test_criteria_that_are_added_are_not_asked_by_a_job_that_has_begun(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Nor beyond a restart, of no experiment of a batch; such a criterion can be deleted."""
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        await api.setup(WORDS, criteria=["Is it a word?"])
        await api.template("Shout {{word}}.", "other")
        await api.add_criteria(["Is it loud?"], 2)
        await api.post(
            "/experiments", {"name": "other", "prompt_template_id": 2, "collection_id": 1}
        )
        await api.generate(1, [1])
        await api.generate(2, [1])
        model.gate.clear()
        task = await api.post("/ratings/batches", {"prompt_response_ids": [1, 2]})
        await model.reached(4)
        await api.add_criteria(["Is it red?", "Is it green?"])
        await api.add_criteria(["Is it blue?"], 2)
        assert (await api("DELETE", "/criteria/4")).status == 204
        assert (await api("DELETE", "/criteria/1")).status == 409
    model.gate.set()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        end = await api.ended(f"/ratings/batches/{task}")
        assert [[one["criterion"]["id"] for one in row] for row in end["result"]] == [[1], [2]]
        assert (await api.post("/experiments/1/retry-failed", {}))["generation_task_id"] is None
        await api.rate([1])
        rated = (await api.get("/responses/1"))["ratings"]
        assert [one["criterion"]["id"] for one in rated] == [1, 3]


@pytest.mark.parametrize("hours", [1, -1])
async def test_which_criteria_are_asked_does_not_depend_on_the_clock(
    api: Api, model: ScriptedModel, hours: int
) -> None:
    """Set back or ahead since they were replaced: new jobs ask the present ones, a retry none."""
    run = await begun(api, model, ["Is it a word?"])
    model.gate.set()
    assert await done(api, run) == [[1], [1]]
    await api.post("/criteria", NEW)
    moved = (f"strftime('%Y-%m-%d %H:%M:%f000', {{0}}, '{hours} hours')").format
    await edit(
        api,
        f"UPDATE criteria SET created_at = {moved('created_at')}, "
        f"retired_at = {moved('retired_at')}",
    )
    again = await api.post("/experiments/1/retry-failed", {})
    assert again["generation_task_id"] is None
    rated = await api.rate([2])
    assert [one["criterion"]["id"] for one in rated["result"][0]] == [2]


async def test_a_job_of_an_earlier_version_goes_on_with_the_present_criteria(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Those of the moment of the upgrade, as its database does not tell which it began with."""
    model, db = ScriptedModel(), tmp_path / "s.db"
    async with LocalServer(db=db, model=model) as server:
        api = Api(session, server)
        run = await begun(api, model, ["Is it a word?"])
        await api.add_criteria(["Is it red?"])
    with closing(sqlite3.connect(db)) as raw:
        to_version_5(raw)
    async with LocalServer(db=db, model=model) as server:
        api = Api(session, server)
        await api.add_criteria(["Is it green?"])
        model.gate.set()
        assert await done(api, run) == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    ("method", "path", "body", "left"),
    [
        ("DELETE", "/criteria/1?cascade=true", None, [2]),
        ("POST", "/criteria?cascade=true", NEW, []),
    ],
)
async def test_criteria_that_are_deleted_are_asked_no_more(
    api: Api, model: ScriptedModel, method: str, path: str, body: object, left: list[int]
) -> None:
    """With ``cascade``, under a job: nobody is paid for a verdict that is dropped."""
    run = await begun(api, model, ["Is it a word?", "Is it red?"])
    assert (await api(method, path, body)).status in (201, 204)
    model.gate.set()
    assert await done(api, run) == [left, left]
    assert len(model.calls) == len(WORDS) * (1 + bool(left))
    assert not [call for call in model.whole if "Is it a word?" in call]


async def test_a_text_that_was_changed_is_asked_by_a_retry(api: Api, model: ScriptedModel) -> None:
    """It has no verdict yet, so that its responses lack one, and get all that they lack."""
    run = await begun(api, model, ["Is it a word?"])
    model.gate.set()
    assert await done(api, run) == [[1], [1]]
    await api.add_criteria(["Is it red?"])
    await api("PUT", "/criteria/1", {"criterion_str": "Is it one word?"})
    model.whole.clear()
    again = await api.post("/experiments/1/retry-failed", {"rating_mode": "fast"})
    assert await done(api, again) == [[1, 2], [1, 2]]
    assert all("Is it one word?" in call for call in model.whole)
    assert len(model.whole) == len(WORDS)
