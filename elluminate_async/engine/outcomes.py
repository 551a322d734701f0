"""Positions and their outcomes as they come, and the count of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from elluminate_async.batch import Batch, Outcome, Progress
from elluminate_async.errors import ElluminateError, ItemError, OutcomeUnknownError
from elluminate_async.errors.causes import cause_name

if TYPE_CHECKING:
    from elluminate_async.batch import ProgressCallback, Resend
    from elluminate_async.engine.operation import Operation
    from elluminate_async.errors import ItemErrorCode

logger = logging.getLogger("elluminate_async")

R = TypeVar("R")

Pairs: TypeAlias = list[tuple[int, Outcome[R]]]


class OutcomeCollector(Generic[R]):
    """Collects the outcomes that become a `Batch`.

    Args:
        operation: For the errors of positions without an outcome.
        total: Number of positions; None where it shows only when the source has been read.
        of: The type of the values, see `Batch`.
    """

    def __init__(self, operation: str, total: int | None, of: type | None = None) -> None:
        self._operation = operation
        self._of = of
        self._total = total
        self._outcomes: dict[int, Outcome[R]] = {}
        self._surplus: Sequence[int] = ()

    async def fill(self, pairs: Pairs[R]) -> None:
        """Take outcomes; no position may get a second one."""
        expected = len(self._outcomes) + len(pairs)
        self._outcomes.update(pairs)
        assert len(self._outcomes) == expected, f"one of {[p for p, _ in pairs]} ended twice"

    def _take_late(self, late: Mapping[int, Outcome[R]], surplus: Sequence[int]) -> None:
        # Only ever in the place of an unknown outcome.
        for position, outcome in late.items():
            if isinstance(self._outcomes.get(position), OutcomeUnknownError):
                self._outcomes[position] = outcome
        self._surplus = surplus

    async def final_reconcile(self, operation: Operation[Any, R]) -> None:
        """Take what may have come late; where that cannot be seen, what is known stays so."""
        try:
            self._take_late(*await operation.reconcile())
        except ElluminateError as error:
            logger.debug("the last look at the service failed: %s", error)

    def batch(self, read: int, resend: Resend[R] | None = None) -> Batch[R]:
        """The batch of a run that came to its end, of ``read`` positions unless known."""
        if self._total is None:
            text = "its outcome was taken from the stream before this call"
            return self.filled(read, "not_sent", text, resend=resend)
        length = max(self._total, read)
        return self._batch(length, resend)

    def filled(
        self,
        read: int,
        code: ItemErrorCode,
        text: str,
        error: BaseException | None = None,
        resend: Resend[R] | None = None,
    ) -> Batch[R]:
        """The batch, where what has no outcome was not sent, because of ``error``."""
        length = max(self._total or 0, read)
        for position in range(length):
            if position not in self._outcomes:
                self._outcomes[position] = ItemError(
                    text,
                    position=position,
                    code=code,
                    operation=self._operation,
                    attempts=0,
                    status=getattr(error, "status", None),
                    retry_after=getattr(error, "retry_after", None),
                    cause=None if error is None else cause_name(error),
                )
        return self._batch(length, resend)

    def _batch(self, length: int, resend: Resend[R] | None) -> Batch[R]:
        return Batch[R].from_outcomes(
            length, self._outcomes, surplus=self._surplus, resend=resend, of=self._of
        )

    def cut_short(self, cut: Pairs[R], read: int, error: BaseException) -> Batch[R]:
        """The batch of a run that ``error`` ended, with what is known of what was in flight."""
        self._outcomes.update(cut)
        text = f"the batch ended before this item was sent: {str(error) or type(error).__name__}"
        ours = error if isinstance(error, ElluminateError) else None
        return self.filled(read, "not_sent", text, ours)


class CallbackRaisedError(Exception):
    """`on_progress` raised, whatever it was.

    The callback's own `CancelledError` would end a task as if somebody had cancelled it, its
    `StopAsyncIteration` a loop, its `KeyboardInterrupt` the event loop itself. In here it
    comes as far as the call, which raises it.

    Attributes:
        error: What it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


def raised_by_callback(error: BaseException) -> RuntimeError:
    """A stand-in for an error that Python takes for the end of something."""
    return RuntimeError(f"on_progress raised {error!r}")


async def bare(run: Awaitable[None]) -> None:
    """Await ``run``; what `on_progress` raised in it is raised as it is."""
    try:
        return await run
    except CallbackRaisedError as raised:
        error = raised.error
    if isinstance(error, StopIteration):
        raise raised_by_callback(error) from error
    # Out here, so that it gets no context that is not its own.
    raise error


@dataclass(slots=True)
class ProgressReporter:
    """Counts outcomes and tells `Progress`."""

    operation: str
    total: int | None
    on_progress: ProgressCallback | None
    succeeded: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    tokens: int = 0
    cost: float | None = None

    def spend(self, tokens: int, cost: float | None) -> None:
        """Add what a response took to what is told with the next item."""
        self.tokens += tokens
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

    def count(self, pairs: Pairs[Any]) -> None:
        """Count these positions one by one, where somebody wants to know.

        Raises:
            CallbackRaisedError: The callback raised.
        """
        if self.on_progress is None:
            return
        for _, outcome in pairs:
            if isinstance(outcome, ItemError):
                self.failed += 1
            else:
                self.succeeded += 1
            elapsed = time.monotonic() - self.started
            progress = Progress(
                self.operation,
                self.total,
                self.succeeded,
                self.failed,
                elapsed,
                self.tokens,
                self.cost,
            )
            try:
                self.on_progress(progress)
            except BaseException as error:
                raised = CallbackRaisedError(error)
            else:
                continue
            raise raised
