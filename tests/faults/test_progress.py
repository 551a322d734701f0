"""Row 132: `on_progress` raises what the loop or an iterator takes for its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from elluminate_async import Batch, BatchOptions, Progress
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from tests.faults.inprocess import client_of, experiment_of
from tests.faults.test_cancellation import left_behind
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = BatchOptions(chunk_size=2, max_concurrency=2, settle=1.0)
ENTRIES = list(range(1, 9))


class Stop(BaseException):
    """A caller's own, of no kind that anybody expects."""


RAISED = [
    asyncio.CancelledError("mine"),
    StopAsyncIteration("mine"),
    StopIteration("mine"),
    GeneratorExit("mine"),
    KeyboardInterrupt("mine"),
    SystemExit("mine"),
    ExceptionGroup("mine", [ValueError("a"), KeyError("b")]),
    BaseExceptionGroup("mine", [KeyboardInterrupt(), ValueError("a")]),
    anyio.EndOfStream("mine"),
    anyio.BrokenResourceError("mine"),
    TimeoutError("mine"),
    Stop("mine"),
]


def becomes_a_runtime_error(error: BaseException, *, stream: bool) -> bool:
    """Python lets neither out of a coroutine, or takes it for the end of the loop."""
    return isinstance(error, StopIteration) or (stream and isinstance(error, StopAsyncIteration))


async def calls(client: Any, stream: bool, arguments: dict[str, Any]) -> list[int]:
    """The positions that came before the call ended; all that it raises is raised."""
    seen: list[int] = []
    if not stream:
        return list(await client.responses.generate_many(**arguments))
    async for position, _ in client.responses.stream_generate_many(**arguments):
        seen.append(position)
    return seen


@pytest.mark.row(132)
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("journalled", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_whatever_on_progress_raises_is_raised_from_the_call(
    fired: Fired, tmp_path: Path, error: BaseException, stream: bool, journalled: bool
) -> None:
    """The very object, with what had arrived; no task, permit, connection or lock is left."""
    error = type(error)(*error.args)
    service = ScriptedService(variables=lambda id: {"x": f"v{id}"})
    path = tmp_path / "run" if journalled else None

    def on_progress(progress: Progress) -> None:
        if progress.done == 4:
            fired()
            raise error

    async with client_of(service, OPTIONS, latency=0.0) as client:
        experiment = await experiment_of(client)
        arguments: dict[str, Any] = {
            "template_variables": ENTRIES,
            "experiment": experiment,
            "options": OPTIONS.replace(on_progress=on_progress),
            "journal": path,
        }
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            await calls(client, stream, arguments)
        raised = caught.value
        if becomes_a_runtime_error(error, stream=stream):
            assert type(raised) is RuntimeError
            assert raised.__cause__ is error
            assert str(raised) == f"on_progress raised {error!r}"
        else:
            assert raised is error
        if not stream:
            partial = cast("Batch[object]", getattr(raised, "partial", None))
            assert len(partial) == len(ENTRIES)
            assert len(partial.succeeded) >= 4
        # Nobody was cancelled, so nothing of it may stay with this task.
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.05)
        assert left_behind(client) == (0, set(), set())
        arguments["options"] = OPTIONS
        assert len(await calls(client, stream, arguments)) == len(ENTRIES)
    made = service.ledger.generated
    if journalled:
        # The second call found the journal free, and took from it what was done.
        assert set(made.values()) == {1}


@pytest.mark.row(132)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancellation_that_comes_with_it_is_one(fired: Fired, stream: bool) -> None:
    """Cancelled from outside and raising within the callback: the call ends, and only once."""
    service = ScriptedService(variables=lambda id: {"x": f"v{id}"})
    task: asyncio.Task[list[int]]

    def on_progress(progress: Progress) -> None:
        fired()
        task.cancel()
        raise asyncio.CancelledError

    async with client_of(service, OPTIONS, latency=0.0) as client:
        experiment = await experiment_of(client)
        options = OPTIONS.replace(on_progress=on_progress)
        arguments = {"template_variables": ENTRIES, "experiment": experiment, "options": options}
        task = asyncio.create_task(calls(client, stream, arguments))
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()
        assert left_behind(client) == (0, set(), set())


@pytest.mark.row(132)
async def test_a_program_that_presses_stop_in_its_callback(fired: Fired) -> None:
    """A KeyboardInterrupt can be caught where the stream is read: the loop goes on."""
    service = ScriptedService(variables=lambda id: {"x": f"v{id}"})

    def on_progress(progress: Progress) -> None:
        fired()
        raise KeyboardInterrupt

    async with client_of(service, OPTIONS, latency=0.0) as client:
        experiment = await experiment_of(client)
        stream = client.responses.stream_generate_many(
            template_variables=ENTRIES,
            experiment=experiment,
            options=OPTIONS.replace(on_progress=on_progress),
        )
        await anext(stream)
        await anext(stream)
        with pytest.raises(KeyboardInterrupt):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()
