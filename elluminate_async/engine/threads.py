"""Work for a thread that must not be left behind half done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar, cast

import anyio

from elluminate_async.engine.chunks import CLEAN_UP_SECONDS

T = TypeVar("T")


async def run_to_end(
    function: Callable[[], T],
    *,
    left: Callable[[T], object] = lambda value: None,
    patience: float = CLEAN_UP_SECONDS,
) -> T:
    """The value of ``function``, run in a worker thread.

    A cancellation is raised once the function has ended, so that no file is left while a
    thread is opening or syncing it. That wait has an end of its own: ``patience`` seconds, or
    a second cancellation, as when the loop is torn down. What the function returns after that
    goes to ``left``, in its thread, so that nothing stays open that nobody holds.

    The thread is a daemon of its own, and not one of a pool: threads that a program keeps
    busy hold up no journal, and a disk that does not answer keeps no process from its exit.
    """
    work = _Work(function, left)
    try:
        # Not under a shield: a cancellation is to be noticed, so that the wait can be bounded.
        await work.ended()
        return work.result()
    except asyncio.CancelledError:
        with anyio.move_on_after(patience, shield=True):
            await work.ended()
        raise
    finally:
        work.leave()


class _Work(Generic[T]):
    """A function in a thread, whose value goes to whoever is there when it ends."""

    def __init__(self, function: Callable[[], T], left: Callable[[T], object]) -> None:
        self._function = function
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.create_future()
        self._lock = threading.Lock()
        self._done = False
        self._abandoned = False
        self._taken = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="elluminate-async", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # The system has no thread to spare: the loop waits, this once.
            self._run()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done = True
            abandoned = self._abandoned
        if abandoned:
            return self._give_away()
        # A closed loop has nobody who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self._end.done():
            self._end.set_result(None)

    async def ended(self) -> None:
        """Return when the function has ended."""
        if not self._done:
            await asyncio.wait({self._end})

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        self._taken = True
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def leave(self) -> None:
        """Nobody waits any more; a value that `result` is not asked for is given away."""
        with self._lock:
            self._abandoned = not self._done
        if self._abandoned:
            return
        # It has nothing left to do but to end.
        if self._thread.is_alive():
            self._thread.join()
        if not self._taken:
            self._give_away()

    def _give_away(self) -> None:
        if self._error is None:
            self._left(cast("T", self._value))
