"""Tasks beside the calls: begun, kept until they have ended, and ended with the client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeAlias

from elluminate_async.engine.chunks import CLEAN_UP_SECONDS

RunningTasks: TypeAlias = set[asyncio.Task[None]]
"""Those of one client that have not ended."""


def begin_task(
    work: Coroutine[Any, Any, None], running: RunningTasks, *, context: Context | None = None
) -> asyncio.Task[None]:
    """Have ``work`` done in a task, which is in ``running`` until it has ended.

    Args:
        work: What to do.
        running: Of the client, whose `close` ends them.
        context: Of the task; None for a copy of this one.
    """
    task = asyncio.create_task(work, context=context)
    running.add(task)
    task.add_done_callback(running.discard)
    return task


def mark_seen(task: asyncio.Future[Any]) -> None:
    """Take a task's error as known: whoever waited for it may be gone."""
    if not task.cancelled():
        task.exception()


async def end_tasks(tasks: RunningTasks) -> None:
    """Cancel ``tasks`` and wait for their end, a few seconds at most; what they raise is theirs.

    A task that waits for this very call, as when its input closes the client, ends after it.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLEAN_UP_SECONDS)
