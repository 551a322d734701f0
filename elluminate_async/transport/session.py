"""aiohttp's session: one event loop, one origin, the credential, and an end for who waits."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from elluminate_async.config.headers import with_added
from elluminate_async.errors import ClientClosedError, ProxyError, WrongEventLoopError
from elluminate_async.errors.loops import running_loop
from elluminate_async.schemas.version import IDEMPOTENCY_HEADER
from elluminate_async.transport.blotting import Blotter
from elluminate_async.transport.connector import USER_AGENT, Connector
from elluminate_async.transport.encoding import ACCEPTED
from elluminate_async.transport.exchange import NETWORK_ERRORS, Incoming
from elluminate_async.transport.forks import left_to_parent_on_fork
from elluminate_async.transport.left_open import place_of_caller, warn_when_collected

if TYPE_CHECKING:
    import ssl

    from elluminate_async.config import Settings
    from elluminate_async.transport.exchange import Request
    from elluminate_async.transport.retry import Policy

PROTOCOL_VERSION = "1.5.2"
"""The official client whose protocol is spoken; sent where that client sends its version."""

STREAM_END_SECONDS = 0.02

_MAX_HEADER_BYTES = 64 << 10
_WHOLE_BODY_BYTES = 512 << 10


@dataclass(slots=True)
class SentFlag:
    """Whether a byte of the request may have left this machine."""

    sent: bool = False


class Session:
    """Opens exchanges; bound to the event loop of the first.

    Args:
        settings: Origin and credential. The credential is added to each request here and
            nowhere else.
        ssl_context: For a private certificate authority; None for the system's.

    Attributes:
        blotter: Takes the credentials out of what a service or a proxy says.
    """

    def __init__(self, settings: Settings, ssl_context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self.blotter = Blotter(*settings.secrets)
        self._proxy = None if settings.proxy is None else URL(settings.proxy.url)
        self._ssl_context = ssl_context
        # By whether each request gets a connection of its own.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False
        self._closed = False
        self._is_parents = False
        self._clocks: set[asyncio.Timeout] = set()
        leave = partial(_leave, self._sessions)
        warn_when_collected(self, leave, settings.base_url, place_of_caller())

    async def open(
        self,
        request: Request,
        url: URL,
        policy: Policy,
        flag: SentFlag,
        added: Mapping[str, str],
    ) -> Incoming:
        """Send ``request`` to ``url``, which is of the settings' origin.

        With the headers ``added`` by observers, besides those that it has anyway.

        Gives the answer's status and headers; the caller reads and releases it.
        """
        session = self._opened(fresh=request.fresh_connection, is_last=request.is_last)
        try:
            return Incoming(
                await session.request(
                    request.method,
                    url,
                    data=_in_parts(request.body),
                    headers=with_added(self._headers(request), added),
                    allow_redirects=False,
                    # No `total`: it would count the wait for a connection.
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout),
                    trace_request_ctx=flag,
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers(),
                )
            )
        except (aiohttp.ClientConnectorError, ProxyError):
            # By the next attempt the name may lead elsewhere.
            if isinstance(session.connector, aiohttp.TCPConnector):
                session.connector.clear_dns_cache()
            raise

    async def open_ahead(self, url: URL, count: int, policy: Policy) -> None:
        """Have ``count`` connections to the origin of ``url``, as far as they can be opened."""
        connector = self._opened(fresh=False, is_last=False).connector
        assert isinstance(connector, Connector)
        await connector.open_ahead(
            url,
            count,
            policy.connect_timeout,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers(),
        )

    def _proxy_headers(self) -> dict[str, str] | None:
        """All that a proxy is told, besides where to."""
        if self._settings.proxy is None:
            return None
        headers = {"User-Agent": USER_AGENT}
        if self._settings.proxy.authorization is not None:
            headers["Proxy-Authorization"] = self._settings.proxy.authorization.reveal()
        return headers

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": ACCEPTED,
            "SDK-Version": PROTOCOL_VERSION,
            "User-Agent": USER_AGENT,
        }
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if request.idempotency_key is not None:
            headers[IDEMPOTENCY_HEADER] = request.idempotency_key
        if request.last_event_id:
            headers["Last-Event-ID"] = request.last_event_id
        if self._settings.api_key is not None:
            headers["X-API-Key"] = self._settings.api_key.reveal()
        elif self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._settings.token.reveal()}"
        for name, value in self._settings.headers.items():
            headers[name] = value.reveal()
        return headers

    @asynccontextmanager
    async def running(self, clock: asyncio.Timeout) -> AsyncGenerator[None]:
        """Run under ``clock``, which `close` lets expire: aiohttp leaves who waits waiting."""
        self._clocks.add(clock)
        try:
            async with clock:
                yield
        finally:
            self._clocks.discard(clock)

    def check_open(self, *, sent: bool) -> None:
        """Raise `ClientClosedError` when `close` is what ended a wait."""
        if self._ended:
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
            WrongEventLoopError: The session belongs to another loop or process, or none of
                asyncio's runs here.
        """
        if self._ended:
            raise ClientClosedError("the client is closed: make a new AsyncClient")
        if self._is_parents:
            raise WrongEventLoopError(
                "this client was first used in another process, before a fork, and its connections "
                "are that one's: make one AsyncClient per process, after the fork"
            )
        loop = running_loop("this client")
        if self._loop is None:
            self._loop = loop
            left_to_parent_on_fork(self)
        elif self._loop is not loop:
            raise WrongEventLoopError(
                "this client was first used in another event loop: make one AsyncClient per "
                "loop, for example inside the coroutine that asyncio.run runs"
            )

    def _opened(self, *, fresh: bool, is_last: bool) -> aiohttp.ClientSession:
        # Again, as the client may have been closed while this request waited for its permit.
        if self._closed or not is_last:
            self.check_usable()
        if fresh not in self._sessions:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            session = self._sessions[fresh] = aiohttp.ClientSession(
                connector=Connector(
                    self._settings.proxy,
                    self.blotter,
                    ssl_context=self._ssl_context,
                    force_close=fresh,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trace_configs=[trace],
                # Nor `.netrc`: what of the environment counts is in the settings.
                trust_env=False,
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
            # aiohttp repeats a GET on a dropped connection by itself, unseen by the limits;
            # attempts are counted in one place only.
            session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return self._sessions[fresh]

    async def end_of(self, incoming: Incoming) -> None:
        """Wait shortly for the end of a stream that is not needed any more.

        Its last event and its end often come apart, and a connection whose answer has not
        ended is closed instead of used again.
        """
        content = incoming.response.content
        if content.is_eof():
            return
        # aiohttp has a bare RuntimeError for a connection that is lost already.
        with suppress(TimeoutError, RuntimeError, *NETWORK_ERRORS):
            async with self.running(asyncio.timeout(STREAM_END_SECONDS)):
                await content.readany()

    def leave_to_parent(self) -> None:
        """Let go of all connections, in a child process: they are the parent's."""
        self._is_parents = True
        self._clocks.clear()
        while self._sessions:
            _, session = self._sessions.popitem()
            connector = session.connector
            # So that it does not close them as garbage either.
            session.detach()
            if isinstance(connector, Connector):
                connector.leave_to_parent()

    def end_calls(self) -> None:
        """Have all that runs end, and nothing begin but a request that is the last."""
        self._ended = True
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(0)

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        self.end_calls()
        self._closed = True
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()


def _leave(sessions: Mapping[bool, aiohttp.ClientSession], at_exit: bool) -> bool:
    """Close ``sessions``, in their loop if that still runs; whether one was open.

    At a program's end those whose loop is there yet, as in a portal's thread, live as long as it,
    and are let be.
    """
    was_open = False
    for session in sessions.values():
        connector = session.connector
        if connector is None or connector.closed:
            continue
        loop = connector._loop  # pyright: ignore[reportPrivateUsage]
        if at_exit and not loop.is_closed():
            continue
        was_open = True
        session.detach()
        with suppress(RuntimeError):
            # The collector may run in any thread.
            loop.call_soon_threadsafe(connector._close)  # pyright: ignore[reportPrivateUsage]
    return was_open


def _in_parts(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp writes a large one at once otherwise, and warns that this blocks the loop.
    return io.BytesIO(body) if body is not None and len(body) > _WHOLE_BODY_BYTES else body


async def _mark_sent(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: object
) -> None:
    # aiohttp awaits this signal before it writes the first byte.
    context.trace_request_ctx.sent = True
