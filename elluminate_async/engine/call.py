"""`Call`: what the engine is told of one ``*_many`` call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from elluminate_async.engine.chunks import AnswerSizes, Item
from elluminate_async.engine.memory import Memory
from elluminate_async.errors import ElluminateError, ItemError

if TYPE_CHECKING:
    from elluminate_async.batch import Batch, BatchOptions
    from elluminate_async.engine.limits import Limits
    from elluminate_async.engine.records import OpenChunk
    from elluminate_async.engine.recovery import Recovery

V = TypeVar("V")
R = TypeVar("R")

SendChunk: TypeAlias = Callable[[Sequence[Item[V]]], AsyncIterator[tuple[int, R | ItemError]]]
"""Sends items and yields (position, outcome) for them, in any order.

What it leaves out when it ends is ``no_result``; what it leaves out when it raises fails with
that error.
"""

ResumeChunk: TypeAlias = Callable[
    [Sequence[Item[V]], "OpenChunk"], AsyncIterator[tuple[int, R | ItemError]]
]
"""Goes on with a chunk that was sent before, for those of its items that are left."""

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


class Upstream(Generic[V]):
    """The `Batch` that is a call's input, some of whose positions had failed by then.

    Args:
        batch: Its own `retry_failed` may repair them later.
        items: What to send for values that came, by position, and all outcomes of ``batch``.
    """

    def __init__(
        self,
        batch: Batch[Any],
        items: Callable[[Mapping[int, Any], Sequence[Any]], Iterable[Item[V]]],
    ) -> None:
        self._batch = batch
        self._items = items
        self._passed = set(batch.failed)

    def news(self) -> tuple[dict[int, ItemError], list[Item[V]]]:
        """The errors that the positions have there now, and items for those repaired since."""
        outcomes = self._batch.outcomes
        now = {position: outcomes[position] for position in sorted(self._passed)}
        errors = {p: outcome for p, outcome in now.items() if isinstance(outcome, ItemError)}
        repaired = {p: outcome for p, outcome in now.items() if p not in errors}
        items = list(self._items(repaired, outcomes)) if repaired else []
        self._passed = set(errors)
        return errors, items


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
        resume: Goes on with a chunk that the memory has.
        memory: Of what was sent and is not known; shared with the calls of ``again``.
        upstream: The input, where it is a `Batch` with failures.
        sizes: What is learned of its answers, so that chunks fit them.
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
    resume: ResumeChunk[V, R] | None = None
    memory: Memory = field(default_factory=Memory)
    upstream: Upstream[V] | None = None
    sizes: AnswerSizes = field(default_factory=AnswerSizes)

    def release(self, positions: Sequence[int]) -> None:
        """Note that these were refused, and so not processed."""
        self.memory.forget(positions)
        if self.recovery is not None:
            self.recovery.release(positions)
