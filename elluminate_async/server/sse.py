"""Event streams of jobs: the status now, at intervals, and at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import Query

from elluminate_async.schemas.jobs import TERMINAL
from elluminate_async.server.answers import EventStream, HeldBytes
from elluminate_async.server.problems import Problem
from elluminate_async.server.store.trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pydantic import BaseModel

    from elluminate_async.server.jobs import Jobs

PollingInterval = Annotated[float, Query(ge=0.1, le=10)]
DEFAULT_INTERVAL = 0.5


def streamed(document: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """How an operation declares that it answers with events, each of such a document."""
    schema = {"$ref": f"#/components/schemas/{document.__name__}"}
    return {200: {"content": {"text/event-stream": {"schema": schema}}}}


class Status(NamedTuple):
    """How far a job is.

    Attributes:
        held: The memory of the document, where it is large.
    """

    name: str
    document: str | bytes
    held: HeldBytes | None = None


async def job_stream(
    jobs: Jobs,
    task_id: str,
    status: Callable[[], Awaitable[Status]],
    interval: float,
) -> EventStream:
    """Stream a job's status documents until a terminal one, then close.

    Args:
        jobs: Tells of the end.
        task_id: Which job.
        status: Its status and its status document; a `Problem` of the first call is the
            answer.
        interval: Seconds between documents of a job that runs: not more often when much
            changes, nor more rarely when nothing does, as some clients look at their
            deadline only when something arrives. The terminal one is sent at once. While
            the status cannot be read a comment takes the document's place.
    """
    ended = jobs.ended(task_id)
    first = await status()

    async def events() -> AsyncIterator[bytes]:
        now = first
        awaited = ended
        for part in _event(now.document):
            yield part
        while now.name not in TERMINAL:
            if await _within(awaited, interval):
                if jobs.is_closing:
                    return
                # It stays set: should the status tell of no end, the interval holds again.
                awaited = jobs.closing
            try:
                now = await status()
            except TroubleError:
                yield b": the database cannot be read now\n\n"
            except Problem:
                # It was deleted: whoever asks for it anew is told so.
                return
            else:
                for part in _event(now.document):
                    yield part

    return EventStream(events())


def _event(document: str | bytes) -> tuple[bytes, ...]:
    if isinstance(document, bytes):
        # A large one is not copied.
        return b"data: ", document, b"\n\n"
    return (f"data: {document}\n\n".encode(),)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
