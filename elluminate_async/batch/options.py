"""`BatchOptions`: how a batch is sent, and how its progress is told."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Final, Literal, NoReturn, TypeAlias, TypedDict, Unpack, get_args

from elluminate_async.batch.share import LimitShare
from elluminate_async.errors import ConfigurationError, ElluminateError, InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.errors.arguments import shown as shown


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; passed to ``on_progress`` after each item that finished.

    Attributes:
        operation: ``"generate"``, ``"rate"``, ``"add"`` or ``"evaluate"``.
        total: Positions in the batch, or records of the evaluation; None while an iterable of
            unknown length is read.
        succeeded: Positions that ended with a value.
        failed: Positions that ended with an error, those passed through included.
        elapsed: Seconds since the call began.
        tokens: Of an evaluation: tokens of the responses that have come, as far as they are
            known, those of their prompts included.
        cost: What these cost; None where the price or the tokens of none are known.
    """

    operation: str
    total: int | None
    succeeded: int
    failed: int
    elapsed: float
    tokens: int = 0
    cost: float | None = None

    @property
    def done(self) -> int:
        """Positions with an outcome, in any order; it only grows."""
        return self.succeeded + self.failed


ProgressCallback: TypeAlias = Callable[[Progress], None]

Priority: TypeAlias = Literal["interactive", "normal", "bulk"]
"""Whose requests go first, where several calls wait for the same permit."""

PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``requests`` requests, or items, in any window of ``period`` seconds.

    As a limit on requests every one counts: the chunks, their jobs' streams, listings, retries.
    """

    requests: int
    period: float = 1.0

    def __post_init__(self) -> None:
        _positive("RateLimit.requests", self.requests, whole=True)
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
        chunk_linger: Seconds that the first entry of a part-filled chunk waits for more of a slow
            async iterable; longer only while ``max_concurrency`` chunks are in flight. One chunk
            is read ahead of these: some ``(max_concurrency + 1) * chunk_size`` entries in all.
        rate_limit: Strict limit on requests of any kind; None for none.
        item_limit: Strict limit on items sent to be generated or rated, such as
            ``RateLimit(3000, 60.0)``, singly too; those of a repeated chunk count again, uploads
            never.
            No chunk has more items than it. None for none.
        share: Keeps ``rate_limit`` and ``item_limit`` together with all other processes that have
            it, such as ``FileShare("/run/elluminate.share")``: what is waited for on a
            ``Retry-After``, and the pace that follows the service's refusals, are then theirs too.
            All who share are to have the same limits. Of a client, not of a call. Chunks have at
            most a 20th of the ``item_limit`` then. None for this client alone.
        retry_for: Seconds in which a request is sent again that the way or the moment failed
            (408, 5xx but those below, refused, reset, timed out), where a repetition does no harm:
            a GET, one under an idempotency key that the service honours, one that was not
            sent. Once the service has answered nobody for so long, calls fail at once with
            `ServiceUnavailableError` until it answers. 0 never sends again.
        max_attempts: Sendings of one request that fails by what may be its own, such as a
            plain 500 or an unreadable answer, or by what the service does not do (501, 505,
            506, 508, 510), the first included; 1 never sends again.
            An answer of 429 does not count, it is bounded by the deadline.
        max_retry_after: A longer ``Retry-After`` than this, in seconds, fails at once, and so
            does all work that is begun within this time (10 s at least). Then the service is
            asked again. Work that it has accepted is followed meanwhile.
        connect_timeout: Seconds for one connection, TLS included.
        attempt_timeout: Seconds for one exchange from sending to the last byte; the wait
            for a permit or the rate limit comes before and does not count.
        stream_silence: Seconds without a byte on an event stream before it is given up
            and the job is polled.
        job_stall: Seconds in which a job's status stays the same before the job is given up as
            stalled; what rows it made until then still count.
        deadline: Seconds for the whole call.
        priority: Which call goes first where several of a client wait for a permit or a window:
            ``"interactive"`` before ``"normal"`` before ``"bulk"``, and of the same priority the
            call that has the least in flight. Bulk calls leave the last permit to others. Whom
            others keep waiting has one chunk in flight all the same, now and then.
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
    share: LimitShare | None = None
    retry_for: float = 120.0
    max_attempts: int = 3
    max_retry_after: float = 120.0
    connect_timeout: float = 10.0
    attempt_timeout: float = 120.0
    stream_silence: float = 45.0
    job_stall: float = 1800.0
    deadline: float = 3600.0
    priority: Priority = "normal"
    settle: float = 60.0
    replay_after_settle: bool = False
    on_progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _COUNTS:
                _positive(f"BatchOptions.{field.name}", value, whole=True)
            elif field.name in _SWITCHES:
                flag(value, f"BatchOptions.{field.name}", ConfigurationError)
            elif field.name not in _OTHERS:
                zero = field.name == "retry_for"
                _positive(f"BatchOptions.{field.name}", value, or_zero=zero)
        # Told at runtime too: a tuple or a plain function call is an easy slip.
        for name in ("rate_limit", "item_limit"):
            limit: object = getattr(self, name)
            if not isinstance(limit, RateLimit | None):
                _refuse(f"BatchOptions.{name}", limit, "a RateLimit, such as RateLimit(20, 2.0)")
        share: object = getattr(self, "share")  # noqa: B009 - as of any type
        if share is not None and not isinstance(share, LimitShare):
            _refuse("BatchOptions.share", share, 'a share, such as FileShare("limits.share")')
        if self.priority not in PRIORITIES:
            names = ", ".join(map(repr, PRIORITIES))
            _refuse("BatchOptions.priority", self.priority, f"one of {names}")
        if self.on_progress is not None:
            check_callback("BatchOptions.on_progress", self.on_progress)

    def replace(self, **changes: Unpack[BatchOptionChanges]) -> BatchOptions:
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


class BatchOptionChanges(TypedDict, total=False):
    """The options of `BatchOptions` by name, as `BatchOptions.replace` takes them."""

    max_concurrency: int
    chunk_size: int
    chunk_bytes: int
    chunk_linger: float
    rate_limit: RateLimit | None
    item_limit: RateLimit | None
    share: LimitShare | None
    retry_for: float
    max_attempts: int
    max_retry_after: float
    connect_timeout: float
    attempt_timeout: float
    stream_silence: float
    job_stall: float
    deadline: float
    priority: Priority
    settle: float
    replay_after_settle: bool
    on_progress: ProgressCallback | None


_OTHERS = frozenset({"rate_limit", "item_limit", "share", "priority", "on_progress"})
_SWITCHES = frozenset({"replay_after_settle"})
_COUNTS = frozenset({"max_concurrency", "chunk_size", "chunk_bytes", "max_attempts"})


def _positive(name: str, value: object, *, whole: bool = False, or_zero: bool = False) -> None:
    wanted = "a whole number of at least 1" if whole else "a finite number above 0"
    if or_zero:
        wanted += ", or 0"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        _refuse(name, value, wanted)
    if not is_finite(value) or value < 0 or (value == 0 and not or_zero):
        _refuse(name, value, wanted)


def is_finite(number: float) -> bool:
    """Whether it is one, and one that clocks can count in."""
    try:
        return math.isfinite(number)
    except OverflowError:
        # An int beyond every float.
        return False


def check_callback(
    name: str,
    callback: object,
    *,
    or_else: str = "",
    kind: type[ElluminateError] = ConfigurationError,
) -> None:
    """Raise an error where ``callback`` cannot be told of progress.

    Args:
        name: Of the option or argument.
        callback: Its value.
        or_else: Other values that it may have, for the error's text.
        kind: Of the error.
    """
    wanted = f"{or_else}a function of one Progress"
    if not callable(callback):
        _refuse(name, callback, wanted, kind)
    while isinstance(callback, partial):
        callback = callback.func
    called = type(callback).__call__  # of an object that is called as if it was a function
    for function in (callback, called):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            problem = f"{wanted} and no async one, as nobody would await it"
            _refuse(name, callback, problem, kind)


def check_progress(progress: object) -> None:
    """Raise `InputError` for what neither shows progress, nor hides it, nor can be told of it."""
    if not isinstance(progress, bool):
        check_callback("progress", progress, or_else="True, False or ", kind=InputError)


def _refuse(
    name: str, value: object, wanted: str, kind: type[ElluminateError] = ConfigurationError
) -> NoReturn:
    raise kind(f"{name} must be {wanted}, not {shown(value)}")
