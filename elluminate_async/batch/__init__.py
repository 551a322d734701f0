"""`Batch` and its options: results by position. No I/O, no event loop.

`Batch` is a sequence of n slots, strict on reading: a slot holds a value or that item's
`ItemError`, and reading a failed slot raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, TypeVar, get_args, overload

from elluminate_async.batch.options import BatchOptionChanges as BatchOptionChanges
from elluminate_async.batch.options import BatchOptions as BatchOptions
from elluminate_async.batch.options import Priority as Priority
from elluminate_async.batch.options import Progress as Progress
from elluminate_async.batch.options import ProgressCallback as ProgressCallback
from elluminate_async.batch.options import RateLimit as RateLimit
from elluminate_async.errors import ElluminateError, InputError, ItemError, one_line
from elluminate_async.errors.arguments import optional_flag
from elluminate_async.errors.causes import cause_counts, one_cause
from elluminate_async.tables.columns import batch_cases, batch_columns, batch_rows
from elluminate_async.tables.documents import batch_schema
from elluminate_async.tables.tabular import Tabular

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

    from elluminate_async.tables.arrow import TableColumn
    from elluminate_async.tables.junit import Case

T = TypeVar("T")

Outcome: TypeAlias = T | ItemError
"""The end of one position: its value, or its error."""

Resend: TypeAlias = Callable[
    [Mapping[int, ItemError], dict[int, Outcome[T]], bool | None, "BatchOptions | None"],
    Awaitable[None],
]
"""Sends once more what failed, and fills in what becomes of it."""


class Batch(Sequence[T], Tabular, Generic[T]):
    """The outcomes of one call, outcome i for input i.

    Reading a slot gives its value or raises its `ItemError`; `outcomes`, `succeeded` and
    `failed` never raise. ``len`` is always the number of inputs. Equality is identity;
    ``in``, ``index`` and ``count`` raise when they meet a failed slot.

    As a table (`to_dicts`, `to_pandas`, `write_csv`, …) it has a row a position, failed ones
    included, under the columns that `elluminate_async.tables.columns` lists.

    Args:
        outcomes: One a position.
        surplus: See the property.
        resend: What `retry_failed` sends by: the call that made the batch gives it.
        of: The type of its values, or of what is in their lists, which tells the columns of a
            batch that has none.
    """

    __slots__ = (
        "_failed", "_of", "_resend", "_retrying", "_slots", "_succeeded", "_surplus",
    )  # fmt: skip

    def __init__(
        self,
        outcomes: Iterable[Outcome[T]],
        *,
        surplus: Iterable[int] = (),
        resend: Resend[T] | None = None,
        of: type | None = None,
    ) -> None:
        self._slots: tuple[Outcome[T], ...] = tuple(outcomes)
        self._surplus = tuple(surplus)
        self._succeeded: Mapping[int, T] | None = None
        self._failed: Mapping[int, ItemError] | None = None
        self._resend = resend
        self._of = of
        self._retrying = False

    @classmethod
    def from_outcomes(
        cls,
        length: int,
        slots: Mapping[int, Outcome[T]],
        *,
        surplus: Iterable[int] = (),
        resend: Resend[T] | None = None,
        of: type | None = None,
    ) -> Self:
        """The batch of ``length`` positions whose outcomes are ``slots``.

        Raises:
            AssertionError: A position has no outcome, or an outcome no position. This is
                the one place that guards "exactly one outcome per position".
        """
        try:
            outcomes = tuple(map(slots.__getitem__, range(length)))
        except KeyError:
            outcomes = ()
        if not len(outcomes) == len(slots) == length:
            missing = [p for p in range(length) if p not in slots][:5]
            raise AssertionError(f"{length} positions, {len(slots)} outcomes; without: {missing}")
        return cls(outcomes, surplus=surplus, resend=resend, of=of)

    @property
    def outcomes(self) -> tuple[Outcome[T], ...]:
        """Values and errors in input order, for ``match`` or `isinstance`."""
        return self._slots

    @property
    def succeeded(self) -> Mapping[int, T]:
        """Position to value, in input order."""
        if self._succeeded is None:
            self._succeeded = MappingProxyType(
                {i: slot for i, slot in enumerate(self._slots) if not isinstance(slot, ItemError)}
            )
        return self._succeeded

    @property
    def failed(self) -> Mapping[int, ItemError]:
        """Position to error, in input order; falsy when all went well."""
        if self._failed is None:
            self._failed = MappingProxyType(
                {i: slot for i, slot in enumerate(self._slots) if isinstance(slot, ItemError)}
            )
        return self._failed

    @property
    def surplus(self) -> tuple[int, ...]:
        """Ids of rows that the service made for this batch beyond one per position.

        They were paid for and are no position's outcome. Empty unless a request was applied
        twice, which takes ``replay_after_settle``, or a service that applies one twice.
        """
        return self._surplus

    def raise_for_failed(self) -> Self:
        """This batch, when no item failed.

        Raises:
            BatchError: At least one item failed; it groups all the errors and carries
                the batch as ``error.batch``.
        """
        if self.failed:
            raise BatchError(_causes(self), list(self.failed.values()), batch=self)
        return self

    def raise_if_all_failed(self) -> Self:
        """This batch, unless all its items failed; an empty one has none that did.

        For a web service, whose handlers of 429, 503 or an unreachable host see the error that
        they know.

        Raises:
            ElluminateError: The one that all items failed by, such as `RateLimitError`,
                `ServiceUnavailableError`, `ServerError` or `ConnectError`, with its status, the
                longest ``retry_after`` of an item, and this batch as its ``partial``. An outage
                that ended some items in one way and some in another is one error too,
                `ServiceUnavailableError`.
            BatchError: All failed, and not by one such error; its ``causes`` are counted.
        """
        errors = self.failed
        if not errors or len(errors) < len(self):
            return self
        cause = one_cause(errors.values())
        if cause is None:
            return self.raise_for_failed()
        cause.partial = self
        raise cause

    async def retry_failed(
        self, *, include_unknown: bool | None = None, options: BatchOptions | None = None
    ) -> Self:
        """Send what failed once more, and put the new outcomes in its place.

        Positions that failed upstream and only passed through have nothing to send. Where the
        input was a `Batch` and its own `retry_failed` has repaired some, these are sent now, and
        the others take the error that they have there now.

        Args:
            include_unknown: What to do about an `OutcomeUnknownError`, which the service may
                have processed. None: what costs nothing twice, which is to follow the job that
                was made of it, or to repeat its request, just as it was, under its key where
                the service honours keys. False: leave it as it is. True: also send anew, under
                a new key, where there is no such way; that may be paid for twice.
            options: Instead of those of the first call; the deadline begins anew. A request
                that is repeated under its key keeps its size.

        Returns:
            This batch, changed in place; as it is where nothing failed.

        Raises:
            InputError: The batch was not returned by a call (but unpickled, sliced or put
                together), or is being retried already, or is of a call that sends all
                together, as `criteria.add_many` does.
            ElluminateError: One that is true of all items; what had come is in the batch.

        Cost: that of the first call, for the items that failed. Memory: the batch keeps these,
        the whole requests of what is unknown, and an input `Batch` that had failures. At the
        service the rows of earlier errors stay beside the new ones.
        """
        include_unknown = optional_flag(include_unknown, "include_unknown")
        if not self.failed:
            return self
        resend = self._resend
        if resend is None:
            text = "this batch cannot be retried, as it is not the very one that a call returned"
            raise InputError(
                f"{text}: call the method again, with a journal just as before, else with the "
                "inputs of batch.failed, of which those that end as OutcomeUnknownError may be "
                "paid for twice by that"
            )
        if self._retrying:
            raise InputError("this batch is being retried already: await that first")
        self._retrying = True
        outcomes: dict[int, Outcome[T]] = {}
        try:
            await resend(self.failed, outcomes, include_unknown, options)
        finally:
            # Also when it was cut short: what came is paid for.
            self._slots = tuple(outcomes.get(i, slot) for i, slot in enumerate(self._slots))
            self._succeeded = self._failed = None
            self._retrying = False
        return self

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Batch[T]: ...
    def __getitem__(self, index: int | slice) -> T | Batch[T]:
        if isinstance(index, slice):
            return Batch(self._slots[index], surplus=self._surplus, of=self._of)
        return _read(self._slots[index])

    def __iter__(self) -> Iterator[T]:
        return map(_read, self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{_summary(self)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_batch, (self._slots, self._surplus, self._of))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """As a field of a pydantic model it is a list of ``{position, value}`` or ``error``."""
        (kind,) = get_args(source) or (Any,)
        return batch_schema(cls, handler.generate_schema(kind), handler.generate_schema(ItemError))

    def _columns(self) -> Sequence[TableColumn]:
        return batch_columns(self._slots, self._of)

    def _iter_rows(self) -> Iterator[Sequence[object]]:
        return batch_rows(self._slots, self._of)

    def _cases(self) -> Iterable[Case]:
        return batch_cases(self._slots, self._of)

    def _count(self) -> int:
        return len(self._slots)


def _rebuild_batch(
    slots: tuple[Outcome[T], ...], surplus: tuple[int, ...], of: type | None = None
) -> Batch[T]:
    # The last is not in pickles of before.
    return Batch(slots, surplus=surplus, of=of)


def _read(slot: Outcome[T]) -> T:
    if isinstance(slot, ItemError):
        # A stored exception grows its traceback at each raise.
        raise slot.with_traceback(None)
    return slot


def _summary(batch: Batch[Any]) -> str:
    text = f"Batch {len(batch.succeeded)}/{len(batch)} succeeded"
    if not batch.failed:
        return text
    codes = Counter(error.code for error in batch.failed.values())
    return f"{text}; failed: " + ", ".join(
        f"{n} {one_line(code)}" for code, n in codes.most_common()
    )


def _causes(batch: Batch[Any]) -> str:
    """The summary, and what is behind the failures where their codes do not tell it."""
    counts = cause_counts(batch.failed.values())
    if not any(error.cause for error in batch.failed.values()):
        return _summary(batch)
    causes = ", ".join(f"{n} {one_line(cause)}" for cause, n in counts.items())
    return f"{_summary(batch)}; caused by: {causes}"


class BatchError(ExceptionGroup[ItemError], ElluminateError):
    """Some items of a batch failed; raised by its `raise_for_failed` and `raise_if_all_failed`.

    Attributes:
        batch: The whole batch, with the values of the items that succeeded.
    """

    batch: Batch[Any]

    def __new__(cls, message: str, errors: Sequence[ItemError], *, batch: Batch[Any]) -> Self:
        """ExceptionGroup keeps its message and members here, not in ``__init__``."""
        self = super().__new__(cls, message, errors)
        self.batch = batch
        return self

    def __init__(self, message: str, errors: Sequence[ItemError], *, batch: Batch[Any]) -> None:
        super().__init__(message, errors)

    @property
    def causes(self) -> dict[str, int]:
        """How many of its errors come from what, the most frequent first.

        ``{"ServerError 503": 2, "generation_failed": 1}``: the class of the error behind an
        item's, with its status, or the item's code where there is none.
        """
        # Made of nothing but items' errors, so no group is within.
        return cause_counts(e for e in self.exceptions if isinstance(e, ItemError))

    def derive(self, excs: Sequence[ItemError], /) -> BatchError:  # type: ignore[override]
        """Keep class and batch in `split` and ``except*``."""
        return BatchError(self.message, excs, batch=self.batch)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_batch_error, (self.message, list(self.exceptions), self.batch))


def _rebuild_batch_error(message: str, errors: list[ItemError], batch: Batch[Any]) -> BatchError:
    return BatchError(message, errors, batch=batch)
