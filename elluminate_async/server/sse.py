"""Event streams of jobs: the status now, at each change, and at the end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from elluminate_async.schemas.jobs import TERMINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from elluminate_async.server.jobs import Jobs

PollingInterval = Annotated[float, Query(ge=0.1, le=10)]
DEFAULT_INTERVAL = 0.5


async def job_stream(
    jobs: Jobs,
    task_id: str,
    status: Callable[[], Awaitable[dict[str, Any]]],
    interval: float,
) -> StreamingResponse:
    """Stream a job's status documents until a terminal one, then close.

    Args:
        jobs: Tells of changes.
        task_id: Which job.
        status: Reads its status document; a `Problem` of the first call is the answer.
        interval: Seconds between documents of a job that runs: not more often when much
            changes, nor more rarely when nothing does, as some clients look at their
            deadline only when something arrives. The terminal one is sent at once.
    """
    news = jobs.news(task_id)
    first = await status()

    async def events() -> AsyncIterator[bytes]:
        document, event = first, news
        while True:
            yield b"data: " + to_json(document) + b"\n\n"
            if document["status"] in TERMINAL:
                return
            due = time.monotonic() + interval
            # What changes in between is read and not shown, but for the end.
            while document["status"] not in TERMINAL and await _within(
                event, due - time.monotonic()
            ):
                if jobs.is_closing:
                    return
                event = jobs.news(task_id)
                document = await status()

    return StreamingResponse(
        events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        return False
    return True
