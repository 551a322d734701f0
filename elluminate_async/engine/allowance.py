"""`Allowance`: a bound on what a call may spend, asked before anything is sent."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from elluminate_async.engine.chunks import Chunk, Item
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.errors import ItemError

V = TypeVar("V")


class Allowance(Protocol[V]):
    """Lets items through as long as what they take is there."""

    @abstractmethod
    async def begin(self, done: Mapping[int, Any], unfinished: Iterable[UnfinishedChunk]) -> None:
        """The call begins.

        Args:
            done: References to results that an earlier run had, by position.
            unfinished: Chunks that it may have sent, with the facts that it noted of them.
        """
        ...

    @abstractmethod
    def facts(self, positions: Iterable[int]) -> Mapping[str, Any]:
        """Facts to note of a chunk before it is sent, for `begin` of a later run; plain JSON."""
        ...

    @abstractmethod
    async def admit(self, items: Sequence[Item[V]]) -> int:
        """How many of ``items``, the first ones, may be sent now.

        Waits while what is in flight may yet leave something for the first of them. 0 tells
        that there never will be, and nothing is held for them.
        """
        ...

    @abstractmethod
    def settle(self, pairs: Pairs[Any]) -> None:
        """Take the outcomes of items, of admitted ones or of those that an earlier run sent."""
        ...

    @abstractmethod
    def refused(self, position: int, operation: str) -> ItemError:
        """The error of an item that was not admitted."""
        ...


def split(chunk: Chunk[V], count: int) -> tuple[Chunk[V], Chunk[V]]:
    """The first ``count`` items of a chunk with all that it passes on, and the rest."""
    return (
        replace(chunk, items=chunk.items[:count]),
        replace(chunk, items=chunk.items[count:], passed=()),
    )
