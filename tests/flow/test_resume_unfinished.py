"""Resuming what an earlier run left unfinished: cut off, refused, failed, or without its answer."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import AsyncClient, BatchOptions, JournalError, OutcomeUnknownError
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService
from tests.flow.bench import Seen, answer, until
from tests.flow.conftest import Staging
from tests.matrix import Fired
from tests.testing.bench import bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=1, settle=0.4)


@pytest.mark.parametrize("sync", [1, 2, 3, 4, 5])
async def test_a_cancellation_never_leaves_the_journal_locked(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: int
) -> None:
    """Cancelled while a thread opens or syncs the file: it is closed, and can be used at once."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        loop, real, syncs = asyncio.get_running_loop(), os.fsync, 0

        async def call() -> object:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=tmp_path / "run"
            )

        def cancelling(descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            if syncs == sync:
                loop.call_soon_threadsafe(task.cancel)
                time.sleep(0.05)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", cancelling)
        task = asyncio.create_task(call())
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        await call()

        # The header and its folder, two intents, the end.
        assert syncs >= sync
        assert set(stage.model.answered.values()) == {1}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the disk is as slow as a second
async def test_a_cancelled_repetition_does_not_take_back_the_first_sending(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was processed and its answer lost: the next call must not send it anew."""
    async with staging(options=OPTIONS.replace(max_concurrency=2)) as stage:
        rows = await stage.variables(VALUES)
        real = os.fsync

        async def call() -> object:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=tmp_path / "run"
            )

        def slow(descriptor: int) -> None:
            # One chunk's intent is synced while the other is about to be sent again.
            time.sleep(0.5)
            real(descriptor)

        stage.recorder.lose = "responses/batches"
        monkeypatch.setattr(os, "fsync", slow)
        task = asyncio.create_task(call())
        await until(lambda: stage.recorder.lose is None)
        await anyio.sleep(0.25)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        await call()

        assert set(stage.model.answered.values()) == {1}


@pytest.mark.parametrize("obstacle", ["refused", "late"])
async def test_what_is_done_and_cannot_be_read_is_not_sent_again(
    staging: Staging, tmp_path: Path, obstacle: str
) -> None:
    """Its value is not known for now, which is no failure that `retry_failed` may pay for."""
    async with staging(options=OPTIONS) as stage:
        await stage.generate(VALUES, journal=tmp_path / "run")
        rows = await stage.variables(VALUES)
        stage.recorder.requests.clear()

        async def unreadable(seen: Seen, send: Send) -> bool:
            if seen.method != "GET" or not seen.path.endswith("/responses"):
                return False
            if obstacle == "late":
                await anyio.sleep(1)
            await answer(send, 429, headers={"retry-after": "300"})
            return True

        stage.recorder.before = unreadable
        again = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            journal=tmp_path / "run",
            options=OPTIONS.replace(deadline=0.5 if obstacle == "late" else 30),
        )
        stage.recorder.before = None
        await again.retry_failed()

        assert {type(error) for error in again.failed.values()} == {OutcomeUnknownError}
        assert len(again.failed) == 10
        assert stage.recorder.count("responses/batches$", "POST") == 0


async def test_what_the_deadline_kept_from_being_sent_can_be_retried(
    staging: Staging, tmp_path: Path
) -> None:
    """Not only the chunk whose turn it was, but all that would have come after it."""
    profile = WireProfile(cancellation=False)
    async with staging(profile, OPTIONS.replace(chunk_size=2)) as stage:
        rows = await stage.variables(VALUES)
        stage.model.delay = 1.0

        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            journal=tmp_path / "run",
            options=stage.client.options.replace(deadline=0.5),
        )
        unsent = [p for p, e in batch.failed.items() if not isinstance(e, OutcomeUnknownError)]
        stage.model.delay = 0.0
        await batch.retry_failed(options=stage.client.options.replace(deadline=30))

        assert unsent == [2, 3, 4, 5, 6, 7, 8, 9]
        # Those that were unknown came of the job that outlived the deadline.
        assert [r.response_str for r in batch] == [f"echo say v{p}" for p in range(10)]
        assert set(stage.model.answered.values()) == {1}


async def test_a_service_that_learned_of_keys_has_none_of_an_earlier_run(
    staging: Staging, tmp_path: Path
) -> None:
    """A key that was not honoured when it was first sent would be the work's second."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        connection = stage.client._connection
        able, connection._capabilities = connection._capabilities, frozenset()
        gone = anyio.Event()

        async def keyless(seen: Seen, send: Send) -> bool:
            if seen.method == "POST" and seen.path.endswith("/responses/batches"):
                gone.set()
                await anyio.sleep_forever()
            return False

        async def call() -> Any:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=tmp_path / "run"
            )

        stage.recorder.before = keyless
        task = asyncio.create_task(call())
        with anyio.fail_after(10):
            await gone.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stage.recorder.before, connection._capabilities = None, able
        stage.recorder.requests.clear()

        responses = await call()

        assert responses.failed.keys() == set(range(5))
        assert stage.recorder.count("responses/batches$", "POST") == 1


@pytest.mark.parametrize("noun", ["responses", "ratings"])
async def test_a_failed_job_whose_rows_there_was_no_time_to_see_proves_nothing(noun: str) -> None:
    """The deadline came before the rows did: unknown, as it may have made them all."""
    service = ScriptedService(keys=False, results=False)
    options = OPTIONS.replace(settle=5)
    async with bench(service, inputs_of(5), options) as b:
        responses = await b.generate()
        service.script.lag = 60
        service.faults = [fault := Fault("job-fails", on=f"POST {noun}/batches")]
        late = options.replace(deadline=0.5)

        if noun == "responses":
            batch = await b.generate(options=late)
        else:
            batch = await b.client.ratings.rate_many(responses, options=late)

    assert fault.fired == 1
    assert {type(error) for error in batch.failed.values()} == {OutcomeUnknownError}
    assert len(batch.failed) == 5


@pytest.mark.row(88)
@pytest.mark.parametrize("noun", ["responses", "ratings"])
async def test_a_job_that_the_disk_had_no_room_for_is_not_called_failed(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fired: Fired, noun: str
) -> None:
    """The chunk was accepted and is paid for: unknown, and its next call makes nothing twice."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        path, real = tmp_path / "run", os.write
        responses = await stage.generate(VALUES[:5]) if noun == "ratings" else None

        async def call() -> Any:
            if responses is not None:
                return await stage.client.ratings.rate_many(responses, journal=path)
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=path
            )

        def full(descriptor: int, data: bytes) -> int:
            if b'"kind":"TASK"' in data:
                fired()
                raise OSError(28, "No space left on device")
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(JournalError, match="No space left") as caught:
            await call()
        monkeypatch.undo()
        again = await call()

        assert len(caught.value.partial.failed) == 5
        assert {type(e) for e in caught.value.partial.failed.values()} == {OutcomeUnknownError}
        assert not again.failed
        assert set(stage.model.answered.values()) == {1}
        stored = await stage.client.responses.list(experiment=stage.experiment)
        assert {len(row.ratings) for row in stored} == {3 if noun == "ratings" else 0}


async def test_a_row_that_another_program_stored_meanwhile_is_not_taken(tmp_path: Path) -> None:
    """Without keys it may have the same variables and epoch; it does not hold the same text."""
    service = ScriptedService(keys=False, results=False)
    async with bench(service, inputs_of(3), OPTIONS) as b:

        async def add(texts: list[str], **arguments: Any) -> Any:
            # A client of its own, as another process would have.
            async with AsyncClient(
                base_url=service.url, api_key=service.api_key, options=OPTIONS
            ) as client:
                return await client.responses.add_many(
                    texts,
                    template_variables=b.variables,
                    experiment=b.experiment,
                    **arguments,
                )

        mine = ["mine 0", "mine 1", "mine 2"]
        service.faults = [fault := Fault("reset", on="POST responses/batches")]
        await add(mine, journal=tmp_path / "run")
        service.faults = []
        theirs = await add(["theirs 0", "mine 1", "theirs 2"])
        again = await add(mine, journal=tmp_path / "run")

    assert fault.fired == 1
    assert not theirs.failed
    assert again.failed.keys() == {0, 2}
    assert {type(error) for error in again.failed.values()} == {OutcomeUnknownError}
    assert again[1].response_str == "mine 1"
