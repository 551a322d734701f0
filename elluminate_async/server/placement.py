"""Placing the rows of large jobs in slices, between which other requests write."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from elluminate_async.server.store import accepting, new_responses
from elluminate_async.server.store.prompts import Filling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from sqlalchemy import Connection

    from elluminate_async.schemas import ResponseIn
    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.accepting import PlacedJob

SLICE: Final = 1_000
"""Rows that are placed in one transaction."""


def is_large(count: int) -> bool:
    """Whether so many rows are placed in slices."""
    return count > SLICE


@asynccontextmanager
async def placed(
    project: CurrentProject, job: PlacedJob, items: Iterable[ResponseIn]
) -> AsyncGenerator[list[int]]:
    """The rows of a job that was begun, to be accepted within; else all of it is taken back.

    What is killed meanwhile is taken back at the next start.

    Yields:
        The ids of rows that are hidden until `new_responses.show`.
    """
    source, filling, start = iter(items), Filling(), 0
    hidden: list[int] = []
    try:
        while some := list(islice(source, SLICE)):
            ids = await project.write(partial(_place, job=job, items=some, start=start, of=filling))
            hidden += [one for one, item in zip(ids, some, strict=True) if item.messages]
            start += len(ids)
        yield hidden
    except BaseException:
        # Not cut short by what ended it.
        await asyncio.shield(project.service.database.write(accepting.discard, job))
        raise


def _place(
    connection: Connection,
    project_id: int,
    *,
    job: PlacedJob,
    items: list[ResponseIn],
    start: int,
    of: Filling,
) -> list[int]:
    ids = new_responses.create_responses(
        connection, project_id, items, of, hidden=True, start=start
    )
    accepting.add_items(connection, job, start, ids)
    return ids
