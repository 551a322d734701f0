"""`Call`: what the engine is told of one ``*_many`` call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from elluminate_async.engine.chunks import Item
from elluminate_async.errors import ElluminateError, ItemError

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.limits import Limits
    from elluminate_async.engine.recovery import Recovery

V = TypeVar("V")
R = TypeVar("R")

SendChunk: TypeAlias = Callable[[Sequence[Item[V]]], AsyncIterator[tuple[int, R | ItemError]]]
"""Sends items and yields (position, outcome) for them, in any order.

What it leaves out when it ends is ``no_result``; what it leaves out when it raises fails with
that error.
"""

LastLook: TypeAlias = Callable[[], Awaitable[tuple[dict[int, R | ItemError], Sequence[int]]]]
"""After all chunks: outcomes that came late, by position, and the ids of surplus rows."""


class ChunkRefusedError(Exception):
    """The service refused a chunk as a whole; one of its items may be the reason.

    Raised by a `SendChunk`. What it left without an outcome is halved until the item stands
    alone.
    """

    def __init__(self, error: ElluminateError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Call(Generic[V, R]):
    """One ``*_many`` call.

    Attributes:
        operation: ``"generate"``, ``"rate"`` or ``"add"``.
        send_chunk: Sends one chunk.
        deadline_at: `time.monotonic` at which the call ends, with or without answers.
        total: Number of positions, where it is known beforehand.
        max_in_flight: Chunks in flight for this call; at most the options' concurrency.
        last_look: May settle positions whose outcome was unknown.
        recovery: The journal and how to use it, for a call that has one.
        again: Makes the call that sends some of the items once more.
    """

    operation: str
    send_chunk: SendChunk[V, R]
    options: BatchOptions
    limits: Limits
    deadline_at: float
    total: int | None = None
    max_in_flight: int | None = None
    last_look: LastLook[R] | None = None
    recovery: Recovery[V, R] | None = None
    again: Callable[[BatchOptions | None], Call[V, R]] | None = None
