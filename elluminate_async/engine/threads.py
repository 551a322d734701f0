"""Work for a thread that must not be left behind half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def run_to_end(function: Callable[[], T]) -> T:
    """What ``function`` returns, run in a worker thread; returns or raises when it has ended.

    `anyio.to_thread.run_sync` waits for the thread when a scope is cancelled. When the task
    is, as `asyncio.timeout` does it, it leaves the thread to itself, with the file that the
    thread is opening or syncing. A cancellation is raised here once the thread is done.
    """
    # A limiter of its own: threads that a program keeps busy hold up no journal.
    limiter = anyio.CapacityLimiter(1)
    work = asyncio.ensure_future(anyio.to_thread.run_sync(function, limiter=limiter))
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled():
        # Asked for, or asyncio logs that nobody did.
        work.exception()
    raise cancelled
