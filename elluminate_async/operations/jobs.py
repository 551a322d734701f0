"""Jobs of the service, followed by their event stream or by polling."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self, TypeAlias, TypeVar

import anyio

from elluminate_async.engine.item_errors import FATAL, item_error
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.errors import (
    AnswerTooLargeError,
    APIError,
    AuthenticationError,
    DeadlineError,
    ElluminateError,
    ItemError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.errors.deadlines import passed
from elluminate_async.operations.connection import decoded
from elluminate_async.operations.reading import read_status
from elluminate_async.schemas.jobs import TERMINAL, JobStatus
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.sse import Decoder

if TYPE_CHECKING:
    from elluminate_async.limits.limits import Limits
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

logger = logging.getLogger("elluminate_async")

POLL_FIRST = 0.2
POLL_GROWTH = 1.5
POLL_LONGEST = 3.0
SENSELESS_POLLS = 5
"""Answers in a row that no wait will change, before a job is given up."""

STREAM_OPENINGS = 2
"""Times a stream is opened; one that ended early is opened once more, then polling takes over."""

RECONNECT_WAITS = (0.5, 30.0)
"""Seconds before that: the shortest, and the longest that a stream may ask for."""

LONGEST_EVENT_ID = 200
"""Characters of an event's id that are named when its stream is opened again."""


MOST_DENIED = 12
"""Chunks answered 403 before any was taken, until that is about the key and not an item."""


class Denials:
    """Tells a 403 about some items of a call from one about the key."""

    def __init__(self) -> None:
        self._taken = False
        self._refused = 0

    def taken(self) -> None:
        """A chunk was taken, so the key may do this."""
        self._taken = True

    def refuse(self, error: PermissionDeniedError) -> NoReturn:
        """Have the chunk halved, or raise ``error`` where it is true of all items."""
        self._refused += 1
        if self._refused > MOST_DENIED and not self._taken:
            raise error
        raise ChunkRefusedError(error) from None


class StatusDocument(Protocol):
    """A job's status document, polled or streamed."""

    @property
    def status(self) -> str:
        """A `JobStatusName`, or a word this version does not know."""
        ...

    @property
    def error_msg(self) -> str | None:
        """Why it failed, if it did and the service says so."""
        ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """The same with some of it changed."""
        ...


S = TypeVar("S", bound=StatusDocument)
L = TypeVar("L", bound=StatusDocument, contravariant=True)


class Listener(Protocol[L]):
    """Told of a job's statuses before the terminal one."""

    @property
    def news(self) -> int:
        """How many of them said something new."""
        ...

    def opened(self) -> None:
        """The next are read from a stream that was opened just then, or by polls."""

    async def told(self, status: L, /) -> None:
        """A status; the time that this takes is no stall of the job."""


Measured: TypeAlias = Callable[[int], None]
"""Told of the bytes of a terminal status document."""


def unmeasured(_: int) -> None:
    """Nobody wants to know."""


def unknown_or_raise(error: ElluminateError, operation: str) -> ItemError:
    """The error of items whose sending leaves a doubt; raises ``error`` if it leaves none."""
    doubtful = error.ambiguous or isinstance(error, OutcomeUnknownError)
    if isinstance(error, FATAL) or not doubtful:
        raise error
    return item_error(error, position=0, operation=operation)


async def follow_job(
    connection: Connection,
    kind: type[S],
    *segments: str | int,
    operation: str,
    policy: Policy,
    measured: Measured = unmeasured,
    listener: Listener[S] | None = None,
    watches: bool = False,
) -> S:
    """The terminal status document of a job, and its bytes to ``measured``.

    Its event stream is followed; where that is refused, breaks or falls silent, it is polled.
    Where the call only ``watches`` what others have begun, its end leaves the job alone.

    Raises:
        AnswerTooLargeError: The document is over the cap, so that the job must have ended; or
            it says that its results would be.
        OutcomeUnknownError: The service does not know the job any more, with the status 404; or
            the job had not ended by the deadline, with the code ``deadline``: then it is cancelled
            where the service can do that; or it has shown nothing new for too long, with the code
            ``stalled``, and goes on.
        AuthenticationError, PermissionDeniedError: The key was refused.
    """
    clock = asyncio.timeout(policy.job_stall)
    watchdog = StallWatchdog(clock, policy.job_stall, connection.limits)
    follower = _JobFollower(connection, kind, segments, policy, watchdog, measured, listener)
    work = None
    try:
        awaited = nullcontext() if watches else connection.work.awaited(*segments)
        async with awaited as work, clock:
            found = await follower.follow()
            if getattr(found, "result_omitted", False):
                raise AnswerTooLargeError("the job's results are larger than one answer", sent=True)
            return _blotted(found, connection.blotted)
    except ServiceUnavailableError as error:
        error.own = error.own or watchdog.failure
        raise
    except DeadlineError:
        is_cancelled = work is not None and work.is_cancelled
        left = outlived_the_call(segments[-1], operation, is_cancelled=is_cancelled)
    except TimeoutError:
        if not clock.expired():
            raise
        text = f"the job {segments[-1]} has shown nothing new for {policy.job_stall:.0f} s"
        left = OutcomeUnknownError(text, position=0, operation=operation, code="stalled")
    except NotFoundError:
        text = f"the job {segments[-1]} was accepted, and the service does not know it any more"
        left = OutcomeUnknownError(text, position=0, operation=operation, status=404)
    # Not within what it comes from, whose frames it would keep, as this one would keep it.
    try:
        raise left
    finally:
        del left


def outlived_the_call(
    job_id: str | int, operation: str, *, is_cancelled: bool = False
) -> OutcomeUnknownError:
    """The error of items whose job had not ended by the call's deadline.

    Args:
        job_id: Of the job.
        operation: ``"generate"`` or ``"rate"``.
        is_cancelled: Whether the service has cancelled it since.
    """
    ends = "was cancelled: what it had done is kept" if is_cancelled else "goes on at the service"
    return OutcomeUnknownError(
        f"{passed(f'before the job {job_id} had ended')}, and it {ends}",
        position=0,
        operation=operation,
        code="deadline",
        cause=DeadlineError.__name__,
    )


class StallWatchdog:
    """Ends the wait for a job that shows nothing new: puts ``clock`` off while its status changes.

    Attributes:
        failure: Of the last look, where there was no answer to it.
    """

    def __init__(self, clock: asyncio.Timeout, seconds: float, limits: Limits) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limits = limits
        self._last: StatusDocument | None = None
        self.failure: ElluminateError | None = None

    def look(self) -> None:
        """The job is about to be looked at: not before the end of a hold, which is no stall."""
        if held := self._limits.held_for():
            end = asyncio.get_running_loop().time() + held + self._seconds
            if not self._clock.expired():
                self._clock.reschedule(max(self._clock.when() or 0.0, end))

    @contextmanager
    def paused(self) -> Generator[None]:
        """Around a wait that is not for the job: its time does not count."""
        loop, ends = asyncio.get_running_loop(), self._clock.when()
        if ends is None or self._clock.expired():
            yield
            return
        began = loop.time()
        self._clock.reschedule(None)
        try:
            yield
        finally:
            self._clock.reschedule(ends + loop.time() - began)

    def see(self, document: StatusDocument) -> None:
        """A status of the job."""
        self.failure = None
        if document != self._last:
            self._last = document
            if not self._clock.expired():
                self._clock.reschedule(asyncio.get_running_loop().time() + self._seconds)


@dataclass(frozen=True, slots=True)
class _JobFollower(Generic[S]):
    """Follows one job to its terminal status document."""

    connection: Connection
    kind: type[S]
    segments: tuple[str | int, ...]
    policy: Policy
    watchdog: StallWatchdog
    measured: Measured
    listener: Listener[S] | None

    async def _see(self, document: S) -> None:
        """A status that is not terminal."""
        self.watchdog.see(document)
        if self.listener is not None:
            with self.watchdog.paused():
                await self.listener.told(document)

    def _opened(self) -> None:
        if self.listener is not None:
            self.listener.opened()

    async def follow(self) -> S:
        """The terminal document, by the job's stream where there is one, else by polls.

        For a listener, one that told something is worth opening again, however it ended.
        """
        decoder, openings = Decoder(), 0
        while openings < STREAM_OPENINGS:
            if openings > 0:
                await anyio.sleep(self.policy.clock(_reconnect_wait(decoder)))
            openings += 1
            news = self._news()
            try:
                found, decoder = await self._stream(decoder.last_id)
                if found is not None:
                    return found
            except (AuthenticationError, PermissionDeniedError):
                raise
            except (APIError, TransportError) as error:
                logger.debug("a job's stream is not followed to its end: %s", error)
                self.watchdog.failure = error.with_traceback(None)
                if self._news() == news:
                    break
            if self._news() > news:
                openings = 1
        return await self._poll()

    def _news(self) -> int:
        return 0 if self.listener is None else self.listener.news

    async def _stream(self, last_id: str) -> tuple[S | None, Decoder]:
        """The terminal document, None where the stream ended without one, and its state."""
        path = await self.connection.path(*self.segments, "stream", policy=self.policy)
        known = last_id if len(last_id) <= LONGEST_EVENT_ID else ""
        decoder, skipped = Decoder(), 0
        opening = Request("GET", path, last_event_id=known)
        self.watchdog.look()
        self._opened()
        async with self.connection.stream(opening, self.policy, decoder) as events:
            async for event in events:
                try:
                    data = event.data.encode()
                    # It may be four times its bytes, and what is read of it too.
                    del event
                    found = read_status(self.kind, data)
                except (ValueError, AnswerTooLargeError):
                    skipped += 1
                    continue
                if found.status in TERMINAL:
                    self.measured(len(data))
                    return found, decoder
                await self._see(found)
        if skipped:
            logger.debug("a stream ended with %d events that are no status document", skipped)
        return None, decoder

    async def _poll(self) -> S:
        interval, senseless = POLL_FIRST, 0
        self._opened()
        while True:
            found = None
            self.watchdog.look()
            try:
                answer = await self.connection.call("GET", *self.segments, policy=self.policy)
                found = decoded(answer, partial(read_status, self.kind))
                self.measured(len(answer.body))
            except (AuthenticationError, PermissionDeniedError, NotFoundError, AnswerTooLargeError):
                raise
            except (APIError, TransportError) as error:
                # The job goes on at the service, so an outage is waited out; an answer that waiting
                # does not change is not.
                passing = isinstance(error, ServerError | RateLimitError)
                passing = passing or not isinstance(error, APIError | ProtocolError)
                senseless = 0 if passing else senseless + 1
                if senseless >= SENSELESS_POLLS:
                    raise
                logger.debug("a job's status could not be read, trying again: %s", error)
                self.watchdog.failure = error.with_traceback(None)
            if found is not None:
                if found.status in TERMINAL:
                    return found
                await self._see(found)
            self.policy.remaining()
            await anyio.sleep(self.policy.clock(interval))
            interval = min(POLL_LONGEST, interval * POLL_GROWTH)


def _blotted(document: S, blotted: Callable[[str], str]) -> S:
    """``document`` without the credential in what becomes the text of an error."""
    changes: dict[str, object] = {}
    if document.error_msg:
        changes["error_msg"] = blotted(document.error_msg)
    if isinstance(document, JobStatus) and document.item_failures:
        changes["item_failures"] = [
            failure.model_copy(
                update={"message": blotted(failure.message), "code": blotted(failure.code)}
            )
            for failure in document.item_failures
        ]
    return document.model_copy(update=changes) if changes else document


def _reconnect_wait(decoder: Decoder) -> float:
    shortest, longest = RECONNECT_WAITS
    return min(longest, max(shortest, (decoder.retry or 0) / 1000))


def job_failure(job_id: str, status: str, message: str | None) -> JobError | None:
    """The error of a job that ended without success; None for one that succeeded."""
    if status == "SUCCESS":
        return None
    return JobError(
        f"the job ended as {status}: {message or 'no reason given'}",
        job_id=job_id,
        job_status=status,
    )
