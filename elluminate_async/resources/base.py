"""`Resource`: the base of the nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from elluminate_async.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from elluminate_async.operations.connection import Connection

T = TypeVar("T")


class Resource:
    """One noun of the service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


async def got_or_created(
    creation: Awaitable[T], get: Callable[[ConflictError], Awaitable[T]]
) -> tuple[T, bool]:
    """The object that ``creation`` makes, or that ``get`` finds where there is one; and which.

    The creation is to be sent as harmless: one whose answer was lost is repeated, and may find
    its own object then.
    """
    try:
        return await creation, True
    except ConflictError as conflict:
        return await get(conflict), False
