"""`Resource`: the base of the nouns."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from elluminate_async.errors import ConflictError, NotFoundError
from elluminate_async.errors.arguments import flag
from elluminate_async.progress import Showing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    from elluminate_async.batch import ProgressCallback
    from elluminate_async.engine.call import Call
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.json_input import QueryValue

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")


class Resource:
    """One noun of the service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def _delete(
        self, *segments: str | int, query: Mapping[str, QueryValue] | None = None
    ) -> None:
        """Delete the object at ``segments``.

        Raises:
            NotFoundError: There is none, and an earlier sending of this has not deleted it either.
        """
        try:
            await self._connection.call("DELETE", *segments, query=query)
        except NotFoundError as error:
            # The answer to a sending was lost, and what is gone has gone by that.
            if not error.ambiguous:
                raise


def cascading(cascade: bool) -> dict[str, bool]:
    """The query of a deletion; what refers to an object goes with it only where that is said.

    Raises:
        InputError: ``cascade`` is neither True nor False.
    """
    return {"cascade": True} if flag(cascade, "cascade") else {}


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


@contextmanager
def shown(call: Call[V, R], progress: bool | ProgressCallback) -> Generator[Call[V, R]]:
    """A context in which the progress of ``call`` is shown; gives the call to be run in it."""
    showing = Showing(
        progress,
        call.options.on_progress,
        operation=call.name,
        total=call.total,
        traffic=lambda: call.limits.traffic,
    )
    with showing as on_progress:
        yield replace(call, options=call.options.replace(on_progress=on_progress))
