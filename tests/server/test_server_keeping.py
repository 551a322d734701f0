"""How long records of keys and jobs are kept, and what makes two requests one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from elluminate_async.server import LocalServer, expiry
from elluminate_async.server.expiry import Expiry
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch
from tests.server.earlier import to_version_2, to_version_3

KEY = {"Idempotency-Key": "run:1"}


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def counts(server: LocalServer) -> dict[str, int]:
    """Rows of the tables that keep track of work."""
    with closing(sqlite3.connect(server.db)) as connection:
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("jobs", "job_items", "idempotency")
        }


@pytest.mark.parametrize("number", ["01", "+1", "1.0", "0_1", " 1", "%201"])
async def test_an_id_has_one_form(api: Api, model: ScriptedModel, number: str) -> None:
    """Any other way to write a number is 404, so that a key means one request."""
    experiment, entries = await api.setup(["a"])
    body = batch(experiment, entries)
    task = await api.post("/responses/batches", body, headers=KEY)
    answer = await api("POST", f"//projects/{number}/responses/batches", body, headers=KEY)
    assert answer.status == 404
    await api.ended(f"/responses/batches/{task}")
    assert len(model.calls) == 1


async def test_work_goes_with_its_experiment(server: LocalServer, api: Api) -> None:
    """Jobs, their items and the records of their keys are deleted with the experiment."""
    experiment, entries = await api.setup(["a", "b"], criteria=["x?"])
    task = await api.post("/responses/batches", batch(experiment, entries), headers=KEY)
    await api.ended(f"/responses/batches/{task}")
    rated = await api.post("/ratings/batches", {"prompt_response_ids": [1, 2]}, headers=KEY)
    await api.ended(f"/ratings/batches/{rated}")
    (item,) = batch(experiment, entries[:1])["prompt_response_ins"]
    await api.post("/responses/generate", item, headers=KEY)
    assert counts(server) == {"jobs": 2, "job_items": 4, "idempotency": 3}
    assert (await api("DELETE", f"/experiments/{experiment}")).status == 204
    assert counts(server) == {"jobs": 0, "job_items": 0, "idempotency": 0}
    assert (await api("GET", f"/responses/batches/{task}")).status == 404


async def test_a_batch_is_no_run_of_its_experiment(api: Api) -> None:
    """An experiment that has batches may still be run, once."""
    experiment, entries = await api.setup(["a"], criteria=["x?"])
    await api.generate(experiment, entries)
    body = {"rating_mode": "fast", "n_epochs": 1}
    assert (await api("POST", f"/experiments/{experiment}/run", body)).status == 200
    assert (await api("POST", f"/experiments/{experiment}/run", body)).status == 400


async def test_old_records_go(
    server: LocalServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has ended goes after its time, in slices; responses and ratings stay."""
    experiment, entries = await api.setup([f"w{n}" for n in range(700)], criteria=["x?"])
    task = await api.post("/responses/batches", batch(experiment, entries), headers=KEY)
    await api.ended(f"/responses/batches/{task}")
    await api.rate([1, 2])
    await api.rate([1, 2])
    service = server._service
    assert service is not None
    expired = Expiry(service.database)
    await expired.remove()
    assert counts(server) == {"jobs": 3, "job_items": 704, "idempotency": 1}
    monkeypatch.setattr(expiry, "KEY_AGE", timedelta(0))
    monkeypatch.setattr(expiry, "JOB_AGE", timedelta(0))
    await expired.remove()
    assert counts(server) == {"jobs": 0, "job_items": 0, "idempotency": 0}
    assert (await api("GET", f"/responses/batches/{task}")).status == 404
    assert (await api.get("/responses"))["count"] == 700
    assert len((await api.get("/responses/1"))["ratings"]) == 1


async def test_a_run_stays_known(
    server: LocalServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That an experiment was run is known for as long as it is there."""
    experiment, _ = await api.setup(["a"], criteria=["x?"])
    body = {"rating_mode": "fast", "n_epochs": 1}
    run = await api.post(f"/experiments/{experiment}/run", body)
    await api.stream(f"/experiments/{experiment}/generation/{run['generation_task_id']}/stream")
    monkeypatch.setattr(expiry, "JOB_AGE", timedelta(0))
    service = server._service
    assert service is not None
    await Expiry(service.database).remove()
    assert counts(server) == {"jobs": 1, "job_items": 0, "idempotency": 0}
    assert (await api("POST", f"/experiments/{experiment}/run", body)).status == 400


async def test_unfinished_jobs_stay(
    server: LocalServer, api: Api, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that has not ended is never too old."""
    experiment, entries = await api.setup(["a"])
    model.gate.clear()
    task = await api.post("/responses/batches", batch(experiment, entries))
    monkeypatch.setattr(expiry, "JOB_AGE", timedelta(0))
    service = server._service
    assert service is not None
    await Expiry(service.database).remove()
    model.gate.set()
    assert (await api.ended(f"/responses/batches/{task}"))["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "[::1].evil.test"),
        ("Host", "localhost:80@evil"),
        ("Host", "localhost:"),
        ("Host", "[::1"),
        ("Origin", "http://[::1].evil.test"),
        ("Origin", "http://localhost:80@evil"),
        ("Origin", "evil://localhost"),
        ("Origin", "http://localhost/evil"),
    ],
)
async def test_host_that_only_begins_well(api: Api, name: str, value: str) -> None:
    """A name is compared as a whole, and nothing else may stand beside it."""
    answer = await api("GET", "//projects", headers={name: value})
    assert answer.status == (421 if name == "Host" else 403)


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1"])
async def test_own_origins(api: Api, origin: str) -> None:
    """Pages of this machine may ask."""
    assert (await api("GET", "//projects", headers={"Origin": origin})).status == 200


async def test_body_with_two_lengths(server: LocalServer) -> None:
    """It is refused and the connection closed: what follows is no request of its own."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"X-API-Key: {server.api_key}\r\nHost: localhost\r\n"
    writer.write(
        f"POST /api/v0/projects/1/collections HTTP/1.1\r\n{head}Content-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        f"GET /api/v0/projects HTTP/1.1\r\n{head}\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("downgrade", [to_version_2, to_version_3])
async def test_a_database_of_before(
    downgrade: Callable[[sqlite3.Connection], None],
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """It is brought up to date, marked as this server's, and its keys still count."""
    db = tmp_path / "s.db"
    body: Any = None
    async with LocalServer(db=db, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        body = batch(experiment, entries)
        task = await api.post("/responses/batches", body, headers=KEY)
        await api.ended(f"/responses/batches/{task}")
    with closing(sqlite3.connect(db)) as connection:
        downgrade(connection)
    async with LocalServer(db=db, model=ScriptedModel()) as server:
        api = Api(session, server)
        assert await api.post("/responses/batches", body, headers=KEY) == task
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() != (0,)
