"""`HttpTransport`: one logical request, however many attempts it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp
import anyio
from yarl import URL

from elluminate_async._version import __version__
from elluminate_async.errors import (
    AttemptTimeoutError,
    ClientClosedError,
    DeadlineError,
    ElluminateError,
    ProtocolError,
    RateLimitError,
    TransportError,
    WrongEventLoopError,
)
from elluminate_async.schemas.version import IDEMPOTENCY_HEADER
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
from elluminate_async.transport.retry import (
    Policy,
    Throttle,
    Verdict,
    told_to_wait,
    verdict_on,
    wait_after_failure,
    wait_when_told,
)
from elluminate_async.transport.sse import Decoder, Event

if TYPE_CHECKING:
    import ssl

    from elluminate_async.config import Settings

logger = logging.getLogger("elluminate_async")

PROTOCOL_VERSION = "1.5.2"
"""The official client whose protocol is spoken; sent where that client sends its version."""

_MAX_HEADER_BYTES = 64 << 10


class HttpTransport:
    """Sends requests to one origin; the only place that knows aiohttp.

    It is bound to the event loop of its first request.

    Args:
        settings: Origin and credential. The credential is added to each request here and
            nowhere else, and redirects are not followed, so it goes to this origin only.
        throttle: Waited for before every attempt, before its clock starts.
        connections: Requests and streams on the wire at once.
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
        self._ssl_context = ssl_context
        self._slots = anyio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._clocks: set[asyncio.Timeout] = set()

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
                return Answer(result.status, result.headers, result.body, failures + told + 1)
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
        """One sending: an answer of any status, or what went wrong."""
        async with self._permit(policy):
            flag = SimpleNamespace(sent=False)
            seconds = policy.clock(policy.attempt_timeout)
            clock = asyncio.timeout(seconds)
            try:
                async with self._running(clock):
                    response = await self._open(request, policy, flag)
                    try:
                        return await read_answer(response)
                    finally:
                        # Keeps a connection whose answer was read to its end; else closes it.
                        response.release()
            except TimeoutError as error:
                self._check_open(sent=flag.sent)
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
        self, request: Request, policy: Policy
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """The events of one stream, opened once, until it ends or falls silent.

        Raises:
            APIError: The stream was refused.
            TransportError: It could not be opened, broke, fell silent, or is no stream.
            DeadlineError: The policy's deadline passed.
        """
        async with self._permit(policy):
            response = await self._open_stream(request, policy)
            try:
                async with aclosing(self._events(request, response, policy)) as events:
                    yield events
            finally:
                response.release()

    async def _open_stream(self, request: Request, policy: Policy) -> aiohttp.ClientResponse:
        flag = SimpleNamespace(sent=False)
        response = None
        # Before the `try`: a deadline that has passed is no failure of the network.
        seconds = policy.clock(policy.attempt_timeout)
        try:
            async with self._running(asyncio.timeout(seconds)):
                response = await self._open(request, policy, flag)
                if response.status == 200 and response.content_type == "text/event-stream":
                    opened, response = response, None
                    return opened
                answer: Answer | TransportError = await read_answer(response)
        except (*NETWORK_ERRORS, TransportError) as error:
            answer = self._translate(error, request, sent=flag.sent)
        except asyncio.CancelledError as error:
            raise _without_headers(error) from None
        finally:
            if response is not None:
                response.release()
        if isinstance(answer, TransportError):
            self._check_open(sent=flag.sent)
            # Raised out here, as aiohttp's error, which holds the headers, would be its context.
            raise answer
        if answer.status < 400:
            raise ProtocolError(
                f"{request.target} answered {answer.status} without an event stream: "
                f"{excerpt(answer.body)!r}",
                sent=True,
            )
        raise api_error(request, answer)

    async def _events(
        self, request: Request, response: aiohttp.ClientResponse, policy: Policy
    ) -> AsyncGenerator[Event]:
        decoder = Decoder()
        while True:
            seconds = policy.clock(policy.stream_silence)
            failure: TransportError | None = None
            data = b""
            try:
                async with self._running(asyncio.timeout(seconds)):
                    data = await response.content.readany()
            except TimeoutError:
                self._check_open(sent=True)
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
    async def _permit(self, policy: Policy) -> AsyncGenerator[None]:
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
            async with self._running(clock):
                await self._slots.acquire()
                try:
                    # Last, so that an admitted request starts now and the rate stays true.
                    if policy.pace is not None:
                        await policy.pace.admit()
                    await self._throttle.admit()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            self._check_open(sent=False)
            raise DeadlineError("the deadline passed while waiting for a permit") from None
        try:
            yield
        finally:
            self._slots.release()

    async def _open(
        self, request: Request, policy: Policy, flag: SimpleNamespace
    ) -> aiohttp.ClientResponse:
        return await self._open_session().request(
            request.method,
            URL(self._settings.base_url + request.target, encoded=True),
            params=list(request.query) or None,
            data=request.body,
            headers=self._headers(request),
            allow_redirects=False,
            # No `total`: it would count the wait for a connection.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout),
            trace_request_ctx=flag,
        )

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "SDK-Version": PROTOCOL_VERSION,
            "User-Agent": f"elluminate-async/{__version__}",
        }
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if request.idempotency_key is not None:
            headers[IDEMPOTENCY_HEADER] = request.idempotency_key
        if self._settings.api_key is not None:
            headers["X-API-Key"] = self._settings.api_key.reveal()
        elif self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._settings.token.reveal()}"
        return headers

    def _translate(self, error: BaseException, request: Request, *, sent: bool) -> TransportError:
        return transport_error(error, request, self._settings.base_url, sent=sent)

    @asynccontextmanager
    async def _running(self, clock: asyncio.Timeout) -> AsyncGenerator[None]:
        """Run under ``clock``, which `close` lets expire: aiohttp leaves who waits waiting."""
        self._clocks.add(clock)
        try:
            async with clock:
                yield
        finally:
            self._clocks.discard(clock)

    def _check_open(self, *, sent: bool) -> None:
        if self._closed:
            error = ClientClosedError("the client was closed while this waited for an answer")
            error.ambiguous = sent
            try:
                raise error
            finally:
                # What is being handled holds the request's headers in its frames.
                error.__context__ = None

    def check_usable(self) -> None:
        """Bind to the running loop at the first call.

        Raises:
            ClientClosedError: `close` was called.
            WrongEventLoopError: The transport belongs to another loop.
        """
        if self._closed:
            raise ClientClosedError("the client is closed: make a new AsyncClient")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                "this client was first used in another event loop: make one AsyncClient per "
                "loop, for example inside the coroutine that asyncio.run runs"
            )

    def _open_session(self) -> aiohttp.ClientSession:
        # Again, as the client may have been closed while this request waited for its permit.
        self.check_usable()
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            self._session = aiohttp.ClientSession(
                # Permits are ours, so that a wait for one never runs on a request's clock.
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl_context or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trace_configs=[trace],
                trust_env=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
            # aiohttp repeats a GET on a dropped connection by itself, unseen by the limits;
            # attempts are counted in one place only.
            self._session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return self._session

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        self._closed = True
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(0)
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _without_headers(error: asyncio.CancelledError) -> asyncio.CancelledError:
    # The frames below hold the request's headers among their locals, and error trackers
    # report those.
    return error.with_traceback(None)


async def _mark_sent(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: object
) -> None:
    # aiohttp awaits this signal before it writes the first byte.
    context.trace_request_ctx.sent = True
