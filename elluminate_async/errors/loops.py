"""`running_loop`: the event loop that runs, or an error that says how to have one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from elluminate_async.errors import WrongEventLoopError


def running_loop(what: str) -> asyncio.AbstractEventLoop:
    """The running loop of asyncio's.

    Args:
        what: That needs it, as the error names it: ``"this client"``.

    Raises:
        WrongEventLoopError: None of asyncio's runs here.
    """
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise WrongEventLoopError(
            f"{what} runs on asyncio, and here trio runs: keep its calls in a coroutine of "
            "their own, and run that in a thread, by anyio.from_thread.start_blocking_portal()"
        )
    raise WrongEventLoopError(
        f"{what} runs on asyncio, and no event loop runs here: call it in a coroutine, which "
        "asyncio.run runs"
    )
