"""What a batch gives back, and how it is asked for: no I/O, no event loop.

`Batch` is a sequence of n slots, strict on reading: a slot holds a value or that item's
`ItemError`, and reading a failed slot raises it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Generic, NoReturn, Self, TypeAlias, TypeVar, overload

from elluminate_async.errors import (
    ConfigurationError,
    ElluminateError,
    InputError,
    ItemError,
    one_line,
)
from elluminate_async.errors.causes import one_cause

T = TypeVar("T")

Outcome: TypeAlias = T | ItemError
"""What one position ends with."""

Resend: TypeAlias = Callable[
    [Mapping[int, ItemError], dict[int, Outcome[T]], bool | None, "BatchOptions | None"],
    Awaitable[None],
]
"""Sends once more what failed, and fills in what becomes of it."""


class Batch(Sequence[T], Generic[T]):
    """The outcomes of one call, outcome i for input i.

    Reading a slot gives its value or raises its `ItemError`; `outcomes`, `succeeded` and
    `failed` never raise. ``len`` is always the number of inputs. Equality is identity;
    ``in``, ``index`` and ``count`` raise when they meet a failed slot.
    """

    __slots__ = ("_failed", "_resend", "_retrying", "_slots", "_succeeded", "_surplus")

    def __init__(self, outcomes: Iterable[Outcome[T]], *, surplus: Iterable[int] = ()) -> None:
        self._slots: tuple[Outcome[T], ...] = tuple(outcomes)
        self._surplus = tuple(surplus)
        self._succeeded: Mapping[int, T] | None = None
        self._failed: Mapping[int, ItemError] | None = None
        self._resend: Resend[T] | None = None
        self._retrying = False

    @classmethod
    def from_slots(
        cls, length: int, slots: Mapping[int, Outcome[T]], *, surplus: Iterable[int] = ()
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
        return cls(outcomes, surplus=surplus)

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
            raise BatchError(_summary(self), list(self.failed.values()), batch=self)
        return self

    def raise_if_all_failed(self) -> Self:
        """This batch, unless all its items failed; an empty one has none that did.

        For a web service, whose handlers of 429, 503 or an unreachable host see the error that
        they know.

        Raises:
            ElluminateError: The one that all items failed by, such as `RateLimitError`,
                `ServiceUnavailableError`, `ServerError` or `ConnectError`, with its status, the
                longest ``retry_after`` of an item, and this batch as its ``partial``.
            BatchError: All failed, and not by one such error.
        """
        errors = self.failed
        if not errors or len(errors) < len(self):
            return self
        cause = one_cause(errors.values())
        if cause is None:
            return self.raise_for_failed()
        cause.partial = self
        raise cause

    def resend_with(self, resend: Resend[T]) -> None:
        """Have `retry_failed` send by this; what the call that made the batch does."""
        self._resend = resend

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
            This batch, changed in place.

        Raises:
            InputError: The batch was not returned by a call (but unpickled, sliced or put
                together), or is being retried already.
            ElluminateError: One that is true of all items; what had come is in the batch.

        Cost: that of the first call, for the items that failed. Memory: the batch keeps these,
        the whole requests of what is unknown, and an input `Batch` that had failures.
        """
        resend = self._resend
        if resend is None:
            text = "this batch cannot be retried, as it is not the very one that a call returned"
            raise InputError(f"{text}: call the method again with the inputs of batch.failed")
        if self._retrying:
            raise InputError("this batch is being retried already: await that first")
        self._retrying = True
        outcomes: dict[int, Outcome[T]] = {}
        try:
            if self.failed:
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
            return Batch(self._slots[index], surplus=self._surplus)
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
        return (_rebuild_batch, (self._slots, self._surplus))


def _rebuild_batch(slots: tuple[Outcome[T], ...], surplus: tuple[int, ...]) -> Batch[T]:
    return Batch(slots, surplus=surplus)


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


class BatchError(ExceptionGroup[ItemError], ElluminateError):
    """Some items of a batch failed; raised only by `Batch.raise_for_failed`.

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

    def derive(self, excs: Sequence[ItemError], /) -> BatchError:  # type: ignore[override]
        """Keep class and batch in `split` and ``except*``."""
        return BatchError(self.message, excs, batch=self.batch)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_batch_error, (self.message, list(self.exceptions), self.batch))


def _rebuild_batch_error(message: str, errors: list[ItemError], batch: Batch[Any]) -> BatchError:
    return BatchError(message, errors, batch=batch)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; passed to ``on_progress`` after each item that finished.

    Attributes:
        operation: ``"generate"``, ``"rate"`` or ``"add"``.
        total: Positions in the batch; None while an iterable of unknown length is read.
        succeeded: Positions that ended with a value.
        failed: Positions that ended with an error, those passed through included.
        elapsed: Seconds since the call began.
    """

    operation: str
    total: int | None
    succeeded: int
    failed: int
    elapsed: float

    @property
    def done(self) -> int:
        """Positions with an outcome, in any order; it only grows."""
        return self.succeeded + self.failed


ProgressCallback: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``requests`` requests, or items, in any window of ``period`` seconds.

    As a limit on requests every one counts: the chunks, their jobs' streams, listings, retries.
    """

    requests: int
    period: float = 1.0

    def __post_init__(self) -> None:
        _positive("RateLimit.requests", self.requests)
        _positive("RateLimit.period", self.period)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How batches are sent. On the client for all calls, and per call as an override.

    An override replaces the client's options as a whole: derive it with
    ``client.options.replace(chunk_size=10)``. ``max_concurrency``, ``rate_limit`` and
    ``item_limit`` of the client hold over all its calls together; an override can only
    narrow them for its own call.

    Attributes:
        max_concurrency: Chunks in flight at once: sent, and their jobs not ended.
        chunk_size: Items in one request at most, fewer where an answer would be over 8 MiB;
            uploads of rows take 1,000, as no model is called for them.
        chunk_bytes: Bytes in one request's body at most, a single larger item excepted.
        chunk_linger: Seconds a part-filled chunk waits for more of a slow async iterable.
        rate_limit: Strict limit on requests of any kind; None for none.
        item_limit: Strict limit on items sent to be generated or rated, such as
            ``RateLimit(3000, 60.0)``; those of a repeated chunk count again, uploads never.
            No chunk has more items than it. None for none.
        retry_for: Seconds in which a request is sent again that the way or the moment failed
            (502, 503, 504, 408, refused, reset, timed out), where a repetition does no harm:
            a GET, one under an idempotency key that the service honours, one that was not
            sent. Once the service has answered nobody for so long, calls fail at once with
            `ServiceUnavailableError` until it answers. 0 never sends again.
        max_attempts: Sendings of one request that fails by what may be its own, such as a
            plain 500 or an unreadable answer, the first included; 1 never sends again.
            An answer of 429 does not count, it is bounded by the deadline.
        max_retry_after: A longer ``Retry-After`` fails at once; for so long no work is begun.
        connect_timeout: Seconds for one connection, TLS included.
        attempt_timeout: Seconds for one exchange from sending to the last byte; the wait
            for a permit or the rate limit comes before and does not count.
        stream_silence: Seconds without a byte on an event stream before it is given up
            and the job is polled.
        job_stall: Seconds in which a job's status stays the same before the job is given up as
            stalled; what rows it made until then still count.
        deadline: Seconds for the whole call.
        settle: Where a service has no idempotency keys, and whether it applied a request is
            not known: its rows are looked at until no new one came for so many seconds.
        replay_after_settle: Then send again what has no row. A service that takes longer
            than ``settle`` to show its rows is then paid twice, which `Batch.surplus`
            tells; without this such items end as `OutcomeUnknownError`.
        on_progress: Called in the event loop after each finished item: keep it short. What it
            raises ends the call and is raised from it (`StopIteration` by a `RuntimeError`).
    """

    max_concurrency: int = 10
    chunk_size: int = 100
    chunk_bytes: int = 1 << 20
    chunk_linger: float = 0.05
    rate_limit: RateLimit | None = None
    item_limit: RateLimit | None = None
    retry_for: float = 120.0
    max_attempts: int = 3
    max_retry_after: float = 120.0
    connect_timeout: float = 10.0
    attempt_timeout: float = 120.0
    stream_silence: float = 45.0
    job_stall: float = 1800.0
    deadline: float = 3600.0
    settle: float = 60.0
    replay_after_settle: bool = False
    on_progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _COUNTS:
                _positive(f"BatchOptions.{field.name}", value, whole=True)
            elif field.name not in _OTHERS:
                zero = field.name == "retry_for"
                _positive(f"BatchOptions.{field.name}", value, or_zero=zero)
        # Told at runtime too: a tuple or a plain function call is an easy slip.
        for name in ("rate_limit", "item_limit"):
            limit: object = getattr(self, name)
            if not isinstance(limit, RateLimit | None):
                _refuse(f"BatchOptions.{name}", limit, "a RateLimit, such as RateLimit(20, 2.0)")
        items: object = getattr(self.item_limit, "requests", 1)
        if not isinstance(items, int):
            _refuse("BatchOptions.item_limit", self.item_limit, "of a whole number of items")
        if self.on_progress is not None and not callable(self.on_progress):
            _refuse("BatchOptions.on_progress", self.on_progress, "a function of one Progress")

    def replace(self, **changes: Any) -> BatchOptions:
        """These options with some changed, by name.

        Raises:
            ConfigurationError: A name is not an option, or a value cannot work.
        """
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise ConfigurationError(
                f"no option named {unknown[0]!r}; the options are {', '.join(sorted(known))}"
            )
        return replace(self, **changes)


_OTHERS = frozenset({"rate_limit", "item_limit", "on_progress", "replay_after_settle"})
_COUNTS = frozenset({"max_concurrency", "chunk_size", "chunk_bytes", "max_attempts"})


def _positive(name: str, value: object, *, whole: bool = False, or_zero: bool = False) -> None:
    wanted = "a whole number of at least 1" if whole else "a finite number above 0"
    if or_zero:
        wanted += ", or 0"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        _refuse(name, value, wanted)
    if not math.isfinite(value) or value < 0 or (value == 0 and not or_zero):
        _refuse(name, value, wanted)


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    raise ConfigurationError(f"{name} must be {wanted}, not {value!r}")
