"""`Operation`: one kind of work, such as to generate or to rate, as the engine knows it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

from elluminate_async.engine.chunks import Item
from elluminate_async.errors import ElluminateError, ItemError

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.call import Call
    from elluminate_async.engine.records import Header, UnfinishedChunk

V = TypeVar("V")
R = TypeVar("R")

Outcomes: TypeAlias = AsyncIterator[tuple[int, R | ItemError]]
"""(position, outcome) for items, in any order.

What is left out when it ends is ``no_result``; what is left out when it raises fails with that
error.
"""

Send: TypeAlias = Callable[[Sequence[Item[V]]], Outcomes[R]]
"""Sends one chunk, follows it, and gives its outcomes; raises as `Operation.send`."""

Pins: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The objects a call works with: their names to their parts; a hash begins with ``#``."""


class Operation(Protocol[V, R]):
    """One kind of work, set up for one call. ``V`` is what is sent, ``R`` what comes back.

    Attributes:
        name: ``"generate"``, ``"rate"`` or ``"add"``.
        of: The type of what comes back, or of what is in its lists; None where it is not told.
    """

    name: str
    of: ClassVar[type | None] = None

    @abstractmethod
    def send(self, items: Sequence[Item[V]]) -> Outcomes[R]:
        """Send one chunk, follow it, and yield its outcomes.

        Raises:
            ChunkRefusedError: The service refused the chunk as a whole.
            ElluminateError: Why items got no outcome.
        """
        ...

    @abstractmethod
    def resume(self, items: Sequence[Item[V]], unfinished: UnfinishedChunk) -> Outcomes[R]:
        """Go on with a chunk that was sent before, for those of its items that are left."""
        ...

    @abstractmethod
    def fetch(self, items: Sequence[Item[V]], references: Mapping[int, Any]) -> Outcomes[R]:
        """Read results that the service has by their references, by position."""
        ...

    async def reconcile(self) -> tuple[dict[int, R | ItemError], Sequence[int]]:
        """After all chunks: outcomes that came late, by position, and ids of surplus rows."""
        return {}, ()

    @abstractmethod
    def fingerprint(self, value: V) -> str:
        """A short hash that is equal for equal inputs."""
        ...

    @abstractmethod
    def reference(self, value: V, result: R) -> Any:
        """Where the service keeps a result, and what tells it from others; plain JSON."""
        ...

    def rated(self, value: V) -> int | None:
        """The id of the response that is rated; None of other work."""
        return None

    def partial_reference(self, value: V, error: ItemError) -> Any:
        """The same of what there is beside an error, which `fetch` gives again; None of nothing."""
        return None

    def again(self, value: V, error: ItemError) -> V:
        """The value to send where an item that has ended with ``error`` is sent once more."""
        return value

    @abstractmethod
    async def header(self) -> Header:
        """Which call a journal is of; asks the service for the project where need be."""
        ...

    async def pins(self) -> Pins:
        """The objects that must be as they were when the journal was begun; asks the service."""
        return {}

    @abstractmethod
    def renewed(self, options: BatchOptions | None) -> Call[V, R]:
        """The call that sends some of the items once more, under ``options`` or the same ones."""
        ...


class ChunkRevokedError(Exception):
    """The job of a chunk that was sent before was cancelled, and never did the rest of it.

    Raised by `Operation.resume`, once what the job had done has its outcome. The rest is sent
    anew, under a key of its own.
    """


class ChunkRefusedError(Exception):
    """The service refused a chunk as a whole; one of its items may be the reason.

    Raised by `Operation.send`. What it left without an outcome is halved until the item stands
    alone.
    """

    def __init__(self, error: ElluminateError) -> None:
        super().__init__(str(error))
        self.error = error
