"""What was accepted is done, once: keys, restarts, locks, clean ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from elluminate_async.errors import ConfigurationError
from elluminate_async.server import LocalServer, ModelAnswer, OfflineModel
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch
from tests.server.test_server_resources import jsonl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from elluminate_async.server import ModelRequest


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


KEY = {"Idempotency-Key": "run:1"}
PROPOSED = {"prompt_template_id": 1, "criteria": None}


async def test_repeated_batch_gets_the_stored_answer(api: Api, model: ScriptedModel) -> None:
    """The same key and body: the same task, a header that says so, and no second work."""
    experiment, entries = await api.setup(["a", "b"], criteria=["x?"])
    body = batch(experiment, entries)
    first = await api("POST", "/responses/batches", body, headers=KEY)
    again = await api("POST", "/responses/batches", body, headers=KEY)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    await api.ended(f"/responses/batches/{first.body}")
    assert len(await api.items("/responses")) == len(model.calls) == 2
    body = {"prompt_response_ids": [1, 2], "rating_mode": "fast"}
    tasks = {await api.post("/ratings/batches", body, headers=KEY) for _ in range(3)}
    assert len(tasks) == 1


async def test_key_with_another_body_is_422(api: Api) -> None:
    """A key stands for one body."""
    experiment, entries = await api.setup(["a", "b"])
    await api.post("/responses/batches", batch(experiment, entries), headers=KEY)
    other = batch(experiment, entries[:1])
    assert (await api("POST", "/responses/batches", other, headers=KEY)).status == 422


async def test_refused_request_does_not_use_up_its_key(api: Api) -> None:
    """After a 4xx the same key may be sent again."""
    experiment, entries = await api.setup(["a"])
    bad = batch(experiment, [99])
    assert (await api("POST", "/responses/batches", bad, headers=KEY)).status == 404
    assert await api.post("/responses/batches", batch(experiment, entries), headers=KEY)


async def test_repeated_file_adds_once(api: Api) -> None:
    """Entry batches honour the key as well."""
    await api.post("/collections", {"name": "C"})
    path = "/collections/1/entries/batches"
    first = await api.post(path, data=jsonl('{"a":"1"}'), headers=KEY)
    assert await api.post(path, data=jsonl('{"a":"1"}'), headers=KEY) == first
    assert (await api.get("/collections/1"))["variables_count"] == 1


async def test_key_in_flight_is_409(api: Api, model: ScriptedModel) -> None:
    """While a request is worked on, its twin is told to come again; the work is done once."""
    experiment, entries = await api.setup(["a"])
    (item,) = batch(experiment, entries)["prompt_response_ins"]
    model.gate.clear()
    first = asyncio.create_task(api("POST", "/responses/generate", item, headers=KEY))
    await model.reached(1)
    second = await api("POST", "/responses/generate", item, headers=KEY)
    assert (second.status, second.headers["Retry-After"]) == (409, "1")
    model.gate.set()
    made = await first
    again = await api("POST", "/responses/generate", item, headers=KEY)
    assert (again.status, again.body) == (made.status, made.body)
    assert len(model.calls) == 1


async def test_restart_takes_up_unfinished_jobs(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """What was done before the end is not done again, the rest is, under the same task id."""

    class Half(ScriptedModel):
        async def complete(self, request: object) -> ModelAnswer:
            if len(self.calls) == 3:
                self.gate.clear()
            return await super().complete(request)  # pyright: ignore[reportArgumentType]

    model = Half()
    db = tmp_path / "s.db"
    async with LocalServer(db=db, model=model, max_model_calls=1) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b", "c", "d", "e"])
        task = await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(4)
    second = ScriptedModel()
    async with LocalServer(db=db, model=second) as server:
        api = Api(session, server)
        status = await api.ended(f"/responses/batches/{task}")
        texts = [one["messages"][0]["content"] for one in status["result"]]
        assert texts == [f"SAY {word}." for word in "ABCDE"]
        assert status["progress"] == {"processed": 5, "total": 5, "failed": 0}
        assert len(await api.items("/responses")) == 5
    assert 2 <= len(second.calls) <= 3


async def test_one_server_a_file(tmp_path: Path) -> None:
    """A second server on the same file is refused, and may start when the first has ended."""
    async with LocalServer(db=tmp_path / "s.db"):
        with pytest.raises(ConfigurationError, match="in use"):
            await LocalServer(db=tmp_path / "s.db").__aenter__()
    async with LocalServer(db=tmp_path / "s.db"):
        pass


async def test_file_that_is_no_database(tmp_path: Path) -> None:
    """Such a file is refused and left as it is."""
    path = tmp_path / "s.db"
    path.write_text("something else " * 100)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await LocalServer(db=path).__aenter__()
    assert path.read_text().startswith("something else")


async def test_end_is_quick_and_leaves_nothing(session: aiohttp.ClientSession) -> None:
    """With a job, a stream and a request under way, all end within half a second."""
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    model = OfflineModel(delay=60)
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"])
        body = batch(experiment, entries)
        task = await api.post("/responses/batches", body)
        stream = asyncio.create_task(api.stream(f"/responses/batches/{task}/stream"))
        (item, _) = body["prompt_response_ins"]
        single = asyncio.create_task(api("POST", "/responses/generate", item))
        await asyncio.sleep(0.2)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5
    assert b"SUCCESS" not in await stream
    await asyncio.gather(single, return_exceptions=True)
    del stream, single
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    assert not server.db.exists()


class Deaf(ScriptedModel):
    """Goes on when it is cancelled, until `heard` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.heard = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        self.calls.append(request.purpose)
        self.began.set()
        while not self.heard.is_set():
            with suppress(asyncio.CancelledError):
                await self.heard.wait()
        return ModelAnswer("late")


async def test_a_model_that_swallows_its_cancellation_does_not_hold_the_end(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The server ends in seconds and says what it leaves, which is asked for nothing more."""
    model = Deaf()
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=model, max_model_calls=2) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"], criteria=["x?"])
        body = batch(experiment, [entries[0]] * 3)
        task = await api.post("/responses/batches", body)
        await model.began.wait()
        started = time.monotonic()
    assert time.monotonic() - started < 15
    said = [record.getMessage() for record in caplog.records if "leaves" in record.message]
    assert any(f"job {task}" in text for text in said)

    asked = len(model.calls)
    model.heard.set()
    await asyncio.sleep(1)
    assert len(model.calls) == asked
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        status = await Api(session, server).ended(f"/responses/batches/{task}")
    assert [one["messages"][0]["content"] for one in status["result"]] == ["SAY A."] * 3


async def test_a_request_whose_model_swallows_its_cancellation_is_left(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is closed, and the log names it."""
    model = Deaf()
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        await api.template()
        asking = asyncio.create_task(api("POST", "/criteria", PROPOSED))
        await model.began.wait()
        started = time.monotonic()
    assert time.monotonic() - started < 15
    with pytest.raises(aiohttp.ClientConnectionError):
        await asking
    said = [record.getMessage() for record in caplog.records if "leaves" in record.message]
    assert ["POST '/api/v0/projects/1/criteria'" in text for text in said] == [True]
    model.heard.set()
    await asyncio.sleep(1)
    assert len(model.calls) == 1


async def test_a_request_that_the_end_cuts_off_is_told_to_come_again(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """A JSON 503 with `Retry-After`, and a line in the log, be it at its body or at its work."""
    model = ScriptedModel()
    model.gate.clear()
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        body = batch(experiment, entries)
        (item,) = body["prompt_response_ins"]

        async def half() -> AsyncIterator[bytes]:
            yield b'{"prompt_response_ins": ['
            await model.gate.wait()

        cut = [
            asyncio.create_task(api("POST", "/responses/batches", data=half())),
            asyncio.create_task(api("POST", "/responses/generate", item)),
        ]
        await model.reached(1)
        await asyncio.sleep(1)
    model.gate.set()
    for answer in await asyncio.gather(*cut):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert "the server ends" in answer.body["detail"]
    said = {record.getMessage() for record in caplog.records if "503" in record.message}
    assert len(said) == 2


async def test_many_starts() -> None:
    """Twenty starts one after another wait for no clock for half a second each."""
    started = time.monotonic()
    for _ in range(20):
        async with LocalServer():
            pass
    assert time.monotonic() - started < 10


async def test_failed_start_leaves_nothing() -> None:
    """A port in use is an OSError, and the private database is gone."""
    threads = threading.active_count()
    async with LocalServer() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await LocalServer(port=port).__aenter__()
    assert threading.active_count() == threads
