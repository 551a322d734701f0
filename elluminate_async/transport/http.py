"""`HttpTransport`: one logical request, however many attempts it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import anyio

from elluminate_async.errors import (
    AttemptTimeoutError,
    DeadlineError,
    ElluminateError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    TransportError,
)
from elluminate_async.transport.exchange import (
    NETWORK_ERRORS,
    Answer,
    Request,
    api_error,
    excerpt,
    final_error,
    read_answer,
    transport_error,
)
from elluminate_async.transport.redirects import Trail
from elluminate_async.transport.retry import (
    Policy,
    Throttle,
    Verdict,
    to_repeat,
    told_to_wait,
    verdict_on,
    wait_after_failure,
    wait_when_told,
)
from elluminate_async.transport.session import SentFlag, Session
from elluminate_async.transport.slots import Lane, Slots
from elluminate_async.transport.sse import Decoder, Event

if TYPE_CHECKING:
    import ssl

    from yarl import URL

    from elluminate_async.config import Settings

logger = logging.getLogger("elluminate_async")


class HttpTransport:
    """Sends requests to one origin; the only place that knows aiohttp.

    It is bound to the event loop of its first request.

    Args:
        settings: Origin and credential. Redirects are followed within the origin only, so
            the credential goes nowhere else.
        throttle: Waited for before every attempt, before its clock starts.
        connections: Requests on the wire at once; as many streams may be open besides.
        ssl_context: For a private certificate authority; None for the system's.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        throttle: Throttle,
        connections: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._throttle = throttle
        self._slots = Slots(connections)
        self._session = Session(settings, ssl_context)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._settings.base_url

    async def send(self, request: Request, policy: Policy) -> Answer:
        """The 2xx answer to ``request``, sent as often as is safe and allowed.

        Raises:
            APIError: The service said no; its class tells the status.
            TransportError: No complete, readable answer.
            DeadlineError: The policy's deadline passed.

            On each of them ``ambiguous`` is True when the service may have applied the
            request all the same.
        """
        failures = told = 0
        ambiguous = False
        limited: Answer | None = None
        while True:
            try:
                result = await self._attempt(request, policy)
            except ElluminateError as error:
                if limited is not None and isinstance(error, DeadlineError):
                    # It waited for the service's limit, so that is what it ended by.
                    error = final_error(request, limited, failures + told)
                error.ambiguous = error.ambiguous or ambiguous
                if isinstance(error, DeadlineError):
                    error.attempts = failures + told
                raise error from None
            limited = None
            verdict = verdict_on(result)
            if isinstance(result, Answer) and verdict is Verdict.ACCEPTED:
                self._throttle.accepted()
                return replace(result, attempts=failures + told + 1)
            if told_to_wait(request, result):
                told += 1
                wait = wait_when_told(result, told, policy)
                if isinstance(result, Answer) and result.status == 429:
                    limited = result
                    if self._slow_down(result) and wait is not None:
                        continue
            else:
                failures += 1
                ambiguous = ambiguous or verdict is Verdict.AMBIGUOUS
                wait = wait_after_failure(request, result, failures, policy)
            if wait is None:
                error = final_error(request, result, failures + told)
                error.ambiguous = ambiguous
                raise error
            request = to_repeat(request, result)
            logger.debug(
                "%s %s failed, again in %.2f s: %s", request.method, request.target, wait, result
            )
            await anyio.sleep(wait)

    def _slow_down(self, answer: Answer) -> bool:
        """Learn from a 429; whether the client is held, so that the gate does the waiting."""
        self._throttle.refused()
        if answer.retry_after is None:
            return False
        # The limit is the client's, not this request's: everything waits, also when this
        # request does not.
        self._throttle.hold(answer.retry_after)
        return True

    async def _attempt(self, request: Request, policy: Policy) -> Answer | TransportError:
        """One sending, and the redirects of a GET: the answer, or what went wrong."""
        trail = Trail(request, self._settings.base_url)
        while True:
            result = await self._exchange(request, trail.url, policy)
            if not isinstance(result, Answer) or not trail.leads_on(result):
                return result
            try:
                trail.follow(result)
            except RedirectError as error:
                return error

    async def _exchange(
        self, request: Request, url: URL, policy: Policy
    ) -> Answer | TransportError:
        """One request on the wire: an answer of any status, or what went wrong."""
        lane = Lane.CONTROL if request.method == "GET" else Lane.CALL
        async with self._permit(lane, policy):
            flag = SentFlag()
            seconds = policy.clock(policy.attempt_timeout)
            clock = asyncio.timeout(seconds)
            try:
                async with self._session.running(clock):
                    response = await self._session.open(request, url, policy, flag)
                    try:
                        return await read_answer(response, self._settings.secret)
                    finally:
                        # Keeps a connection whose answer was read to its end; else closes it.
                        response.release()
            except TimeoutError as error:
                self._session.check_open(sent=flag.sent)
                if clock.expired():
                    return AttemptTimeoutError(
                        f"no answer to {request.method} {request.target} within {seconds:.3g} s",
                        sent=flag.sent,
                    )
                return self._translate(error, request, sent=flag.sent)
            except (*NETWORK_ERRORS, TransportError) as error:
                return self._translate(error, request, sent=flag.sent)
            except asyncio.CancelledError as error:
                raise _without_headers(error) from None

    @asynccontextmanager
    async def stream(
        self, request: Request, policy: Policy, decoder: Decoder | None = None
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """The events of one stream, opened once, until it ends or falls silent.

        ``decoder`` is a new one of the caller's, who wants its state at the end.

        Raises:
            APIError: The stream was refused.
            TransportError: It could not be opened, broke, fell silent, or is no stream.
            DeadlineError: The policy's deadline passed.
        """
        trail = Trail(request, self._settings.base_url)
        while True:
            async with self._permit(Lane.STREAM, policy):
                response = await self._open_stream(request, trail, policy)
                if response is None:
                    continue
                try:
                    reading = self._events(request, response, policy, decoder or Decoder())
                    async with aclosing(reading) as events:
                        yield events
                finally:
                    response.release()
                return

    async def _open_stream(
        self, request: Request, trail: Trail, policy: Policy
    ) -> aiohttp.ClientResponse | None:
        """The stream; None when ``trail`` leads elsewhere now."""
        flag = SentFlag()
        response = None
        # Before the `try`: a deadline that has passed is no failure of the network.
        seconds = policy.clock(policy.attempt_timeout)
        try:
            async with self._session.running(asyncio.timeout(seconds)):
                response = await self._session.open(request, trail.url, policy, flag)
                if response.status == 200 and response.content_type == "text/event-stream":
                    opened, response = response, None
                    return opened
                answer: Answer | TransportError = await read_answer(response, self._settings.secret)
        except (*NETWORK_ERRORS, TransportError) as error:
            answer = self._translate(error, request, sent=flag.sent)
        except asyncio.CancelledError as error:
            raise _without_headers(error) from None
        finally:
            if response is not None:
                response.release()
        if isinstance(answer, TransportError):
            self._session.check_open(sent=flag.sent)
            # Raised out here, as aiohttp's error, which holds the headers, would be its context.
            raise answer
        if trail.leads_on(answer):
            return trail.follow(answer)
        if answer.status < 400:
            raise ProtocolError(
                f"{request.target} answered {answer.status} without an event stream: "
                f"{excerpt(answer)!r}",
                sent=True,
            )
        raise api_error(request, answer)

    async def _events(
        self,
        request: Request,
        response: aiohttp.ClientResponse,
        policy: Policy,
        decoder: Decoder,
    ) -> AsyncGenerator[Event]:
        while True:
            seconds = policy.clock(policy.stream_silence)
            failure: TransportError | None = None
            data = b""
            try:
                async with self._session.running(asyncio.timeout(seconds)):
                    data = await response.content.readany()
            except TimeoutError:
                self._session.check_open(sent=True)
                policy.remaining()
                failure = AttemptTimeoutError(
                    f"{request.target} was silent for {seconds:.3g} s", sent=True
                )
            except NETWORK_ERRORS as error:
                failure = self._translate(error, request, sent=True)
            if failure is not None:
                raise failure
            if not data:
                return
            for event in decoder.feed(data):
                yield event

    @asynccontextmanager
    async def _permit(self, lane: Lane, policy: Policy) -> AsyncGenerator[None]:
        """A connection and the limits' leave, waited for outside of every attempt's clock."""
        self.check_usable()
        held = self._throttle.held_for()
        if not policy.tolerates(held):
            raise RateLimitError(
                f"the service asked this client to wait, and {held:.0f} s of that are left: "
                "longer than max_retry_after in BatchOptions allows",
                status=429,
                retry_after=held,
                attempts=0,
            )
        clock = asyncio.timeout(policy.remaining())
        try:
            async with self._session.running(clock):
                await self._slots.acquire(lane)
                try:
                    # Last, so that an admitted request starts now and the rate stays true.
                    if policy.pace is not None:
                        await policy.pace.admit()
                    await self._throttle.admit()
                except BaseException:
                    self._slots.release(lane)
                    raise
        except TimeoutError:
            self._session.check_open(sent=False)
            raise DeadlineError("the deadline passed while waiting for a permit") from None
        try:
            yield
        finally:
            self._slots.release(lane)

    def _translate(self, error: BaseException, request: Request, *, sent: bool) -> TransportError:
        return transport_error(error, request, self._settings.base_url, sent=sent)

    def check_usable(self) -> None:
        """Bind to the running loop at the first call.

        Raises:
            ClientClosedError: `close` was called.
            WrongEventLoopError: The transport belongs to another loop.
        """
        self._session.check_usable()

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        await self._session.close()


def _without_headers(error: asyncio.CancelledError) -> asyncio.CancelledError:
    # The frames below hold the request's headers among their locals, and error trackers
    # report those.
    return error.with_traceback(None)
