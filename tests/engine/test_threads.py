"""Work in a thread: it is waited for, within bounds, and what it opened is never lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from elluminate_async.engine import journal as journal_module
from elluminate_async.engine.journal import Journal
from elluminate_async.engine.threads import run_to_end
from tests.engine.test_journal import HEADER
from tests.flow.bench import until


class Gate:
    """A function that ends when it is told to, and where its value went."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.given_away: list[str] = []

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(30)
        return "value"

    async def begun(self, patience: float = 30) -> asyncio.Task[str]:
        """It runs, and somebody waits for it."""
        task = asyncio.create_task(run_to_end(self, left=self.given_away.append, patience=patience))
        await until(self.began.is_set)
        return task


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_the_value_comes_back(gate: Gate) -> None:
    """With it the thread has ended, and nothing is given away."""
    threads = threading.active_count()
    gate.may_end.set()

    assert await run_to_end(gate, left=gate.given_away.append) == "value"
    assert (gate.given_away, threading.active_count()) == ([], threads)


async def test_an_error_comes_back() -> None:
    """As the function raised it."""
    with pytest.raises(ZeroDivisionError):
        await run_to_end(lambda: 1 // 0)


async def test_a_cancellation_waits_for_the_end(gate: Gate) -> None:
    """It is raised when the function has ended, and the value that nobody gets is given away."""
    task = await gate.begun()
    task.cancel()
    await asyncio.wait({task}, timeout=0.05)
    assert not task.done()

    gate.may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.given_away == ["value"]


async def test_a_scope_waits_for_the_end(gate: Gate) -> None:
    """The same for a cancel scope, which cancels again at every wait."""
    # By the loop, which has told of the cancellation by then.
    asyncio.get_running_loop().call_later(0.05, gate.may_end.set)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_to_end(gate, left=gate.given_away.append)

    assert scope.cancelled_caught
    assert gate.given_away == ["value"]


async def leave_after_patience(gate: Gate) -> None:
    task = await gate.begun(patience=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_a_second_cancellation(gate: Gate) -> None:
    task = await gate.begun()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leave", [leave_after_patience, leave_by_a_second_cancellation])
async def test_the_wait_has_an_end(gate: Gate, leave: Callable[[Gate], object]) -> None:
    """Once patience or a second cancellation ends it, the thread itself gives the value away."""
    await leave(gate)  # type: ignore[misc]
    assert gate.given_away == []

    gate.may_end.set()

    await until(lambda: gate.given_away == ["value"])


async def test_a_wake_up_that_got_lost_is_no_hang(gate: Gate) -> None:
    """A KeyboardInterrupt may swallow it; a cancellation then looks at the thread itself."""
    task = await gate.begun()
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *_: None  # type: ignore[assignment, method-assign]
    gate.may_end.set()
    await until(
        lambda: (
            threading.active_count() == 1
            or not any(thread.name == "elluminate-async" for thread in threading.enumerate())
        )
    )
    loop.call_soon_threadsafe = real  # type: ignore[method-assign]
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.given_away == ["value"]


def open_files() -> list[str]:
    """What this process has open."""
    return [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]


@pytest.mark.parametrize("at", ["open", "intent", "close"])
async def test_a_disk_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Cancelled twice while a sync hangs: gone at once, the file closed and free for the next."""
    path = tmp_path / "run"
    real, hanging, may_end = os.fsync, threading.Event(), threading.Event()

    def stuck(descriptor: int) -> None:
        hanging.set()
        assert may_end.wait(30)
        real(descriptor)

    async def use() -> None:
        if at == "open":
            monkeypatch.setattr(os, "fsync", stuck)
        opened = await run_to_end(lambda: Journal.open(path, HEADER), left=Journal.discard)
        monkeypatch.setattr(os, "fsync", stuck)
        try:
            if at == "intent":
                await opened.intent("key", [0], {})
            opened.baseline({})
        finally:
            await opened.close()

    monkeypatch.setattr(journal_module, "CLEAN_UP_SECONDS", 0.05)
    task = asyncio.create_task(use())
    await until(hanging.is_set)
    started = time.monotonic()
    if at != "close":
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait({task})
    assert time.monotonic() - started < 10

    if at != "open":
        # The thread has a descriptor of its own, and no lock.
        monkeypatch.setattr(os, "fsync", real)
        Journal.open(path, HEADER).discard()
    may_end.set()
    await until(lambda: all(t.name != "elluminate-async" for t in threading.enumerate()))
    # Whoever was last has closed it.
    assert str(path) not in open_files()
    Journal.open(path, HEADER).discard()


PROGRAM = """
    import asyncio, os, sys, threading, time
    from elluminate_async.engine.threads import run_to_end

    def interrupted():
        raise KeyboardInterrupt

    async def main():
        asyncio.get_running_loop().call_later(0.05, interrupted)
        await run_to_end(lambda: time.sleep(SECONDS))

    try:
        RUN
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize(
    "run", ["asyncio.run(main())", "asyncio.new_event_loop().run_until_complete(main())"]
)
@pytest.mark.parametrize("seconds", ["0.3", "3600"])
async def test_an_interrupt_out_of_the_loop_is_the_end(run: str, seconds: str) -> None:
    """A bare KeyboardInterrupt, with a thread in the middle: the process exits."""
    text = textwrap.dedent(PROGRAM).replace("SECONDS", seconds).replace("RUN", run)
    program = [sys.executable, "-W", "ignore", "-c", text]
    ended = await anyio.run_process(program, check=False, stderr=subprocess.STDOUT)

    assert (ended.returncode, ended.stdout.split()[:1]) == (0, [b"interrupted"])
