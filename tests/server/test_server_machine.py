"""Trouble of the machine: what was accepted is done, what was paid for is kept."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from elluminate_async.server import LocalServer, recorder
from elluminate_async.server.store import database
from elluminate_async.testing import VIRTUAL_TIME
from tests.matrix import Fired
from tests.server.api import Api, ScriptedModel, batch
from tests.server.machine import Trouble, run, troubled

STATUSES: dict[Trouble, int] = {"locked": 503, "full": 507}


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.fixture(autouse=True)
def quick_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's own wait for a lock is in real time."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)


@pytest.mark.row(134)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("kind", "seconds"), [("locked", 13), ("locked", 32), ("full", 20)], ids=str
)
async def test_trouble_for_a_while(
    kind: Trouble, seconds: float, seed: int, tmp_path: Path, fired: Fired
) -> None:
    """Each job ends by itself, and each item was asked once; writers were told to come again."""
    outcome = await run(tmp_path / "s.db", kind, seconds=seconds, seed=seed)
    fired()
    outcome.check()
    assert {one.status for one in outcome.refusals} == {STATUSES[kind]}
    assert all(int(one.headers["Retry-After"]) >= 1 for one in outcome.refusals)


@pytest.mark.row(134)
async def test_readers_are_served_meanwhile(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired
) -> None:
    """While another process has the lock, what is stored is listed."""
    async with LocalServer(db=tmp_path / "s.db", model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"])
        await api.generate(experiment, entries)
        with troubled(server, "locked"):
            fired()
            assert len(await api.items("/responses")) == 2


@pytest.mark.row(134)
async def test_paid_answer_of_one_request_is_kept(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired
) -> None:
    """A single generation, whose answer comes while the database is locked, waits for it."""
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        (item,) = batch(experiment, entries)["prompt_response_ins"]
        model.gate.clear()
        asked = asyncio.create_task(api("POST", "/responses/generate", item))
        await model.reached(1)
        with troubled(server, "locked"):
            fired()
            model.gate.set()
            await asyncio.sleep(10)
            assert not asked.done()
        answer = await asked
        assert answer.body["messages"][0]["content"] == "SAY A."
        assert len(model.calls) == 1


@pytest.mark.row(134)
async def test_nothing_is_paid_that_cannot_be_kept(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired
) -> None:
    """While it is known that nothing can be written, a single generation asks no model."""
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        (item,) = batch(experiment, entries)["prompt_response_ins"]
        with troubled(server, "locked"):
            fired()
            assert (await api("POST", "/collections", {"name": "D"})).status == 503
            assert (await api("POST", "/responses/generate", item)).status == 503
            assert not model.calls


@pytest.mark.row(134)
async def test_what_waits_to_be_kept_is_bounded(
    session: aiohttp.ClientSession,
    tmp_path: Path,
    fired: Fired,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While nothing can be kept no further model is called than so much memory holds."""
    monkeypatch.setattr(recorder, "MOST_HELD_BYTES", 10_000)
    model = ScriptedModel()
    async with LocalServer(db=tmp_path / "s.db", model=model, max_model_calls=2) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([f"{number}" for number in range(100)])
        model.gate.clear()
        task = await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(2)
        with troubled(server, "locked"):
            fired()
            model.gate.set()
            await asyncio.sleep(60)
            assert len(model.calls) <= 12
        status = await api.ended(f"/responses/batches/{task}")
        assert status["progress"] == {"processed": 100, "total": 100, "failed": 0}
        assert len(model.calls) == 100


@pytest.mark.row(134)
async def test_an_end_in_trouble(tmp_path: Path, fired: Fired) -> None:
    """A server that ends keeps what was paid for as soon as the lock is given back."""
    model = ScriptedModel()
    db = tmp_path / "s.db"
    async with aiohttp.ClientSession() as session:
        server = LocalServer(db=db, model=model)
        await server.__aenter__()
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b", "c"])
        model.gate.clear()
        await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(3)
        with troubled(server, "locked"):
            fired()
            model.gate.set()
            await asyncio.sleep(1)
            ending = asyncio.create_task(server.__aexit__(None, None, None))
            await asyncio.sleep(5)
            assert not ending.done()
        await ending
    with closing(sqlite3.connect(db)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM responses WHERE is_ready").fetchone()
    assert count == 3
