"""`Telemetry`: where a client's layers tell of what they do, and observers are told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

from elluminate_async.errors import ConfigurationError
from elluminate_async.telemetry.logs import LogObserver
from elluminate_async.telemetry.observer import BreakerChange, Hold, Observer, Rated, Readings
from elluminate_async.telemetry.scopes import (
    CallKind,
    ChunkKind,
    ObservedAttempt,
    ObservedCall,
    ObservedChunk,
)

logger = logging.getLogger("elluminate_async")

T = TypeVar("T")

_Within: TypeAlias = ObservedCall | ObservedChunk | None
_WITHIN: ContextVar[_Within] = ContextVar("elluminate_async_within", default=None)
"""The innermost call or chunk of this task. Tasks that it begins are within it too; a task of the
engine's, which sends one chunk after another, is within each for as long as that lasts."""

_LOG: Final = LogObserver()


_OWN: Final = (Exception, asyncio.CancelledError)
"""Raised by an observer itself: it waits for nothing, so no cancellation is its caller's."""

# Where nobody is told, nothing is made for it: a chunk's way is the shorter for that.
_UNTOLD: Final[AbstractContextManager[None]] = nullcontext()
_UNOBSERVED: Final = nullcontext(
    ObservedAttempt(within=None, method="", path=(), is_observed=False)
)


class Sent(Protocol):
    """A request."""

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def path(self) -> Sequence[str | int]:
        """The segments of its path."""
        ...

    @property
    def harmless(self) -> bool:
        """Whether it creates what may be there already."""
        ...


def nothing_rated(_: int) -> int | None:
    """No response was."""
    return None


class _ChunkTold:
    """A chunk, from its beginning to its end.

    A class and no generator, and each event told by its name: what runs once in some
    milliseconds finds no cache warm, so that each function more is dear.
    """

    __slots__ = ("_chunk", "_observers", "_pairs", "_rated", "_telemetry", "_token")

    def __init__(
        self,
        telemetry: Telemetry,
        observers: Sequence[Observer],
        chunk: ObservedChunk,
        pairs: Sequence[tuple[int, object]],
        rated: Rated,
    ) -> None:
        self._telemetry = telemetry
        self._observers = observers
        self._chunk = chunk
        self._pairs = pairs
        self._rated = rated

    def __enter__(self) -> None:
        self._token = _WITHIN.set(self._chunk)
        for observer in self._observers:
            try:
                observer.chunk_began(self._chunk)
            except _OWN:
                self._telemetry.blame(observer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        chunk = self._chunk
        chunk.seconds, chunk.error = time.monotonic() - chunk.began_at, kind
        chunk.count(self._pairs)
        _leave(self._token)
        for observer in reversed(self._observers):
            try:
                observer.outcomes(chunk, self._pairs, self._rated)
                observer.chunk_ended(chunk, error)
            except _OWN:
                self._telemetry.blame(observer)


class _AttemptTold:
    """An attempt, from its beginning to its end."""

    __slots__ = ("_attempt", "_observers", "_telemetry")

    def __init__(
        self, telemetry: Telemetry, observers: Sequence[Observer], attempt: ObservedAttempt
    ) -> None:
        self._telemetry = telemetry
        self._observers = observers
        self._attempt = attempt

    def __enter__(self) -> ObservedAttempt:
        for observer in self._observers:
            try:
                observer.attempt_began(self._attempt)
            except _OWN:
                self._telemetry.blame(observer)
        return self._attempt

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        attempt = self._attempt
        if kind is not None and attempt.cause is None:
            attempt.cause = kind.__name__
        attempt.seconds = time.monotonic() - attempt.began_at
        for observer in reversed(self._observers):
            try:
                observer.attempt_ended(attempt)
            except _OWN:
                self._telemetry.blame(observer)
        # A chain of them all would be kept for as long as the request is sent again.
        attempt.after = None


class Telemetry:
    """Tells the observers of one client; of nobody's, where nothing else is said.

    Args:
        base_url: Of the service.
        observers: Those besides the log.

    Raises:
        ConfigurationError: One of them is no `Observer`.

    Attributes:
        scheme, host, port: Of the service.
    """

    def __init__(self, base_url: str = "", observers: Iterable[Observer] = ()) -> None:
        parts = urlsplit(base_url)
        self.scheme = parts.scheme or "http"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.scheme == "https" else 80)
        self._observers: tuple[Observer, ...] = (_LOG,)
        self._faulty: set[int] = set()
        self._read: Callable[[], Readings] = Readings
        self._blot: Callable[[str], str] = str
        try:
            told = [*observers]
        except TypeError:
            raise ConfigurationError(f"observers must be a list, not {observers!r:.80}") from None
        for observer in told:
            self.subscribe(observer)

    def subscribe(self, observer: Observer) -> None:
        """Tell ``observer`` of what begins from now on; again does nothing.

        Raises:
            ConfigurationError: It is no `Observer`.
        """
        if not isinstance(observer, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"an observer must be an Observer, not {observer!r:.80}")
        if observer not in self._observers:
            self._observers = (*self._observers, observer)
            self._tell((observer,), lambda one: one.subscribed(self))

    def unsubscribe(self, observer: Observer) -> None:
        """Tell it of no more than the ends of what it saw begin; again does nothing."""
        if observer in self._observers:
            self._observers = tuple(one for one in self._observers if one is not observer)
            self._tell((observer,), lambda one: one.unsubscribed(self))

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Those that are told, the log first."""
        return self._observers

    def blotted(self, text: str) -> str:
        """``text`` of the service's without the credential."""
        return self._blot(text)

    def readings(self) -> Readings:
        """The state of the client's limits now."""
        return self._read()

    def read_by(self, read: Callable[[], Readings]) -> None:
        """Have `readings` ask ``read``."""
        self._read = read

    def blot_by(self, blot: Callable[[str], str]) -> None:
        """Have `blotted` ask ``blot``."""
        self._blot = blot

    @contextmanager
    def call(
        self, operation: str, *, kind: CallKind = "batch", total: int | None = None
    ) -> Generator[ObservedCall]:
        """Around one call. Who has the outcomes counts them in what this gives."""
        call = ObservedCall(operation=operation, kind=kind, total=total, parent=_call_now())
        observers, error, token = self._observers, None, _WITHIN.set(call)
        self._tell(observers, lambda one: one.call_began(call))
        try:
            yield call
        except BaseException as raised:
            error, call.error = raised, type(raised)
            if kind == "single" and isinstance(raised, Exception):
                call.codes[str(getattr(raised, "code", "failed"))] += 1
            raise
        finally:
            call.seconds, call.is_over = time.monotonic() - call.began_at, True
            _leave(token)
            self._tell(reversed(observers), partial(_end_call, call, error))
            error = None

    def came(self, call: ObservedCall, outcome: T, rated: int | None = None) -> T:
        """Tell of the outcome of a single call, and give it back.

        ``rated`` is the id of the response that was.
        """
        pairs = [(0, outcome)]
        call.count(pairs)
        self._tell(self._observers, lambda one: one.outcomes(call, pairs, lambda _: rated))
        return outcome

    def chunk(
        self,
        items: int,
        pairs: Sequence[tuple[int, object]],
        *,
        rated: Rated = nothing_rated,
        kind: ChunkKind = "sent",
        queued: float = 0.0,
        job: str | None = None,
    ) -> AbstractContextManager[None]:
        """Around the sending of so many items; ``pairs`` are their outcomes by then.

        ``rated`` tells the id of the response at a position.
        """
        observers = self._told_of_all()
        if not observers:
            return _UNTOLD
        call = _call_now()
        number = 1
        if call is not None:
            number = call.chunks = call.chunks + 1
        chunk = ObservedChunk(
            call=call,
            number=number,
            items=items,
            kind=kind,
            queued=queued,
            jobs=[] if job is None else [job],
        )
        return _ChunkTold(self, observers, chunk, pairs, rated)

    def job(self, job_id: str) -> None:
        """Tell of the job that the items which are being sent became."""
        within = _WITHIN.get()
        if isinstance(within, ObservedChunk) and job_id not in within.jobs:
            within.jobs.append(job_id)

    def attempt(
        self,
        request: Sent,
        after: ObservedAttempt | None = None,
        came: float | None = None,
        *,
        is_stream: bool = False,
    ) -> AbstractContextManager[ObservedAttempt]:
        """Around one sending of one request; its answer is noted in what this gives.

        Args:
            request: What is sent.
            after: The sending before this one.
            came: `time.monotonic` from which on it has waited to be sent.
            is_stream: Whether the answer is an event stream.
        """
        observers = self._told_of_all()
        if not observers:
            return _UNOBSERVED
        if after is not None and not after.is_observed:
            after = None
        attempt = ObservedAttempt(
            within=_within_now(),
            method=request.method,
            path=request.path,
            host=self.host,
            port=self.port,
            number=after.number + 1 if after is not None else 1,
            after=after,
            is_stream=is_stream,
            may_exist=request.harmless,
        )
        if came is not None:
            attempt.waited = attempt.began_at - came
        return _AttemptTold(self, observers, attempt)

    def retrying(self, attempt: ObservedAttempt | None, wait: float) -> None:
        """Tell that its request is sent again after ``wait`` seconds."""
        if attempt is not None and attempt.is_observed:
            self._tell(self._observers, lambda one: one.retrying(attempt, wait))

    def hold_began(self, seconds: float, *, is_waited_out: bool = True) -> None:
        """Tell that the service asked for a wait."""
        hold = Hold(seconds, is_waited_out)
        self._tell(self._observers, lambda one: one.hold_began(hold))

    def breaker_changed(self, change: BreakerChange) -> None:
        """Tell that requests are held back, or are not any more."""
        self._tell(self._observers, lambda one: one.breaker_changed(change))

    def _told_of_all(self) -> tuple[Observer, ...]:
        """Those that are told of chunks and attempts: the log only where it is read so far down."""
        return self._observers if logger.isEnabledFor(logging.DEBUG) else self._observers[1:]

    def _tell(self, observers: Iterable[Observer], event: Callable[[Observer], None]) -> None:
        for observer in observers:
            try:
                event(observer)
            except _OWN:
                self.blame(observer)

    def blame(self, observer: Observer) -> None:
        """Log what ``observer`` has raised, once."""
        if id(observer) not in self._faulty:
            self._faulty.add(id(observer))
            logger.exception("the observer %r raised; this is told once", observer)


def _within_now() -> _Within:
    """The innermost call or chunk that has not ended: a task may outlive what began it."""
    within = _WITHIN.get()
    call = within.call if isinstance(within, ObservedChunk) else within
    if call is None or not call.is_over:
        return within
    return _running(call)


def _call_now() -> ObservedCall | None:
    within = _WITHIN.get()
    return _running(within.call if isinstance(within, ObservedChunk) else within)


def _running(call: ObservedCall | None) -> ObservedCall | None:
    while call is not None and call.is_over:
        call = call.parent
    return call


def _leave(token: Token[_Within]) -> None:
    # A coroutine that is thrown away is closed in whatever context that happens.
    with suppress(ValueError):
        _WITHIN.reset(token)


def _end_call(call: ObservedCall, error: BaseException | None, observer: Observer) -> None:
    observer.call_ended(call, error)
