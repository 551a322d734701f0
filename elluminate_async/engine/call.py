"""`Call`: one ``*_many`` call as the engine runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from elluminate_async.engine.chunks import AnswerSizes, Item
from elluminate_async.engine.memory import Memory
from elluminate_async.errors import ItemError
from elluminate_async.telemetry import Telemetry

if TYPE_CHECKING:
    from elluminate_async.batch import Batch, BatchOptions
    from elluminate_async.engine.allowance import Allowance
    from elluminate_async.engine.operation import Operation, Send
    from elluminate_async.engine.recovery import Recovery
    from elluminate_async.limits.fairness import Share
    from elluminate_async.limits.limits import Limits

V = TypeVar("V")
R = TypeVar("R")


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

    def news(self, missing: Set[int]) -> tuple[dict[int, ItemError], list[Item[V]]]:
        """The errors that ``missing`` positions have there now, and items for those repaired since.

        Missing are the failed positions that have no item here: they only passed through.
        """
        outcomes = self._batch.outcomes
        now = {position: outcomes[position] for position in sorted(missing)}
        errors = {p: outcome for p, outcome in now.items() if isinstance(outcome, ItemError)}
        repaired = {p: outcome for p, outcome in now.items() if p not in errors}
        return errors, list(self._items(repaired, outcomes)) if repaired else []


@dataclass(frozen=True, slots=True)
class Call(Generic[V, R]):
    """One ``*_many`` call.

    Attributes:
        operation: Its kind of work.
        deadline_at: `time.monotonic` at which the call ends, with or without answers.
        total: Number of positions, where it is known beforehand.
        max_in_flight: Chunks in flight for this call; at most the options' concurrency.
        recovery: The use of its journal, for a call that has one.
        can_be_retried: Whether what fails is kept, for `Batch.retry_failed`.
        memory: The chunks that were sent and whose outcomes are not known; shared with the
            calls that repeat this one.
        upstream: The input, where it is a `Batch` with failures.
        sizes: How large its answers turn out to be, so that chunks fit them.
        allowance: What lets its items through, where not all of them may be sent.
        share: Its part of the limits; several batches of one call have the same.
        telemetry: Is told of its chunks.
        send: Sends its chunks; None for the operation's own.
        takes_permits: Whether its chunks are requests of their own, which the limits bound; False
            where another call sends their items.
    """

    operation: Operation[V, R]
    options: BatchOptions
    limits: Limits
    deadline_at: float
    total: int | None = None
    max_in_flight: int | None = None
    recovery: Recovery[V, R] | None = None
    can_be_retried: bool = False
    memory: Memory = field(default_factory=Memory)
    upstream: Upstream[V] | None = None
    sizes: AnswerSizes = field(default_factory=AnswerSizes)
    allowance: Allowance[V] | None = None
    share: Share | None = None
    telemetry: Telemetry = field(default_factory=Telemetry)
    send: Send[V, R] | None = None
    takes_permits: bool = True

    @property
    def name(self) -> str:
        """The name of its operation."""
        return self.operation.name

    def release(self, positions: Sequence[int]) -> None:
        """Note that these were refused, and so not processed."""
        self.memory.forget(positions)
        if self.recovery is not None:
            self.recovery.release(positions)
