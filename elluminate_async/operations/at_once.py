"""Requests of one call that are made at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def for_each(do: Callable[[T], Coroutine[Any, Any, None]], values: Iterable[T]) -> None:
    """``do`` with all values at once; the first error ends the others.

    It is raised as it is: the caller asked for one thing, and not for a group of requests.
    """
    try:
        async with anyio.create_task_group() as tasks:
            for value in values:
                tasks.start_soon(do, value)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
