"""A program that ends cleanly on SIGTERM, as it does on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

from elluminate_async.cli.exits import EXIT_TERMINATED


def run(main: Coroutine[Any, Any, int]) -> int:
    """The exit status that ``main`` returns, or `EXIT_TERMINATED`.

    Either signal cancels ``main``, which then sends nothing more and closes what it has open; a
    second one ends the program at once.
    """
    return asyncio.run(_terminable(main))


async def _terminable(main: Coroutine[Any, Any, int]) -> int:
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(main)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        loop.remove_signal_handler(signal.SIGTERM)
        running.cancel()

    # Windows has no such signal to wait for.
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await running
    except asyncio.CancelledError:
        if not terminated:
            raise
        return EXIT_TERMINATED
