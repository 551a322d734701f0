"""Ctrl-C and SIGTERM: the first ends the work in order, the second at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from elluminate_async.cli.exits import EXIT_INTERRUPTED, EXIT_TERMINATED

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts the signals, each of which cancels the main task, until it `finishes`.

    Attributes:
        count: Signals so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._number = signal.SIGINT
        self._main: asyncio.Task[int] | None = None
        self._is_finishing = False

    @property
    def exit_code(self) -> int:
        """128 + the number of the last signal, as a shell tells it."""
        return EXIT_INTERRUPTED if self._number == signal.SIGINT else EXIT_TERMINATED

    def finishes(self) -> None:
        """From now on the first signal changes nothing: what is left takes no time."""
        self._is_finishing = True

    def caught(self) -> None:
        """The main task goes on after a signal's cancellation."""
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()

    async def within(self, seconds: float, work: Awaitable[object]) -> None:
        """Wait for ``work``, but no longer than that, and not beyond one more signal."""
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.caught()

    async def watch(self, main: Coroutine[Any, Any, int]) -> int:
        """The exit code of ``main``, which the signals cancel."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.ensure_future(main)
        # Windows has no signals to wait for.
        with contextlib.suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._hit, number)
        try:
            return await self._main
        except asyncio.CancelledError:
            if not self.count:
                raise
            return self.exit_code

    def _hit(self, number: signal.Signals) -> None:
        self.count += 1
        self._number = number
        if self.count > 1:
            # The third ends the process, whatever it is at.
            loop = asyncio.get_running_loop()
            for one in _SIGNALS:
                loop.remove_signal_handler(one)
                signal.signal(one, signal.SIG_DFL)
        if self._main is not None and not (self._is_finishing and self.count == 1):
            self._main.cancel()


def run_interruptible(main: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """The exit code of ``main``."""

    async def start() -> int:
        interrupts = Interrupts()
        return await interrupts.watch(main(interrupts))

    return asyncio.run(start())
