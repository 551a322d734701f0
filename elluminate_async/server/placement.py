"""Placing the rows of large jobs in slices, between which other requests write."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from elluminate_async.server.store import accepting
from elluminate_async.server.store.prompts import Filling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import ResponseIn
    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.accepting import PlacedJob

Create: TypeAlias = "Callable[[Connection, int, Sequence[ResponseIn], Filling, int], list[int]]"
"""Gives rows, with answers hidden, to the items from a place of a request of a project on."""

SLICE: Final = 1_000
"""Rows that are placed in one transaction."""


def is_large(count: int) -> bool:
    """Whether so many rows are placed in slices."""
    return count > SLICE


@asynccontextmanager
async def placed(
    project: CurrentProject, job: PlacedJob, items: Iterable[ResponseIn], create: Create
) -> AsyncGenerator[list[int]]:
    """The rows of a job that was begun, to be accepted within; else all of it is taken back.

    What is killed meanwhile is taken back at the next start.

    Args:
        project: Where it is.
        job: Which one.
        items: Of which it has rows.
        create: Makes, or finds, the rows of a slice.

    Yields:
        The ids of rows that are hidden until `new_responses.show`.
    """
    source, filling, start = iter(items), Filling(), 0
    hidden: list[int] = []
    try:
        while some := list(islice(source, SLICE)):
            place = partial(_place, job=job, items=some, start=start, of=filling, create=create)
            ids = await project.write(place)
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
    create: Create,
) -> list[int]:
    ids = create(connection, project_id, items, of, start)
    accepting.add_items(connection, job, start, ids)
    return ids
