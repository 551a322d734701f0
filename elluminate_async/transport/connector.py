"""`Connector`: aiohttp's connections, opened ahead of need, and through a proxy by name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from elluminate_async._version import __version__
from elluminate_async.errors import ProxyError, is_passing_status
from elluminate_async.transport.blotting import NOTHING_TO_BLOT, Blotter
from elluminate_async.transport.forks import let_go_of

if TYPE_CHECKING:
    import ssl

    from aiohttp.tracing import Trace
    from yarl import URL

    from elluminate_async.config import Proxy

USER_AGENT = f"elluminate-async/{__version__}"

# Of a proxy: it is away for a while. What is left is another than was thought.
_PASSING = (TimeoutError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)

_QUOTED = 200  # characters of a proxy's words


class Connector(aiohttp.TCPConnector):
    """A pool of connections that can be filled ahead.

    A new connection takes a round trip of TCP and one or two of TLS, and another to a proxy.
    aiohttp opens one when a request finds none idle, so that requests which begin together wait
    for theirs together.

    Args:
        proxy: That requests through this connector name; None where they name none.
        blotter: Takes credentials out of what a proxy says.
        ssl_context: For a private certificate authority, the proxy's too.
        force_close: Use each connection once.
    """

    def __init__(
        self,
        proxy: Proxy | None = None,
        blotter: Blotter = NOTHING_TO_BLOT,
        *,
        ssl_context: ssl.SSLContext | None = None,
        force_close: bool = False,
    ) -> None:
        # Permits are ours, so that a wait for one never runs on a request's clock.
        super().__init__(limit=0, ssl=ssl_context or True, force_close=force_close)  # pyright: ignore[reportUnknownMemberType]
        self._proxy = proxy
        self._blotter = blotter

    def __del__(self, _warnings: object = None) -> None:
        # Its client has been collected too, and warned; aiohttp would once more.
        self._close()

    async def open_ahead(
        self,
        url: URL,
        count: int,
        connect_timeout: float,
        *,
        proxy: URL | None = None,
        proxy_headers: dict[str, str] | None = None,
    ) -> None:
        """Have ``count`` connections to ``url``'s origin, those in use and idle ones included.

        What cannot be opened is left to the requests, which tell why.
        """
        there = len(self._acquired) + sum(map(len, self._conns.values()))  # pyright: ignore[reportPrivateUsage]
        # Only its origin matters: it is never sent.
        request = aiohttp.ClientRequest(
            "GET", url, loop=self._loop, proxy=proxy, proxy_headers=proxy_headers
        )
        # Before the first is opened: aiohttp adds to the headers that it goes by.
        key = request.connection_key
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)

        async def open_one() -> None:
            protocol = await self._create_connection(request, [], timeout)
            if self.closed:
                protocol.close()
            else:
                self._release(key, protocol)

        await asyncio.gather(*(open_one() for _ in range(there, count)), return_exceptions=True)

    def leave_to_parent(self) -> None:
        """Have no connections any more, in a child process, without closing one of the parent's.

        Nor is one closed once this is garbage, as aiohttp's own are.
        """
        pool, acquired = self._conns, self._acquired  # pyright: ignore[reportPrivateUsage]
        idle = [protocol for of_host in pool.values() for protocol, _ in of_host]
        for protocol in [*idle, *acquired]:
            if protocol.transport is not None:
                # One that is closed has none.
                with suppress(AttributeError, OSError):
                    let_go_of(protocol.transport.get_extra_info("socket").fileno())
        pool.clear()
        acquired.clear()
        self._closed = True

    async def _create_proxy_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> tuple[asyncio.BaseTransport, Any]:
        """A connection to the service through the proxy, TLS included, on one clock.

        Raises:
            ProxyError: The proxy is in the way of it. Nothing of the request was sent.
        """
        assert self._proxy is not None
        clock = asyncio.timeout(timeout.sock_connect)
        try:
            async with clock:
                return await super()._create_proxy_connection(req, traces, timeout)
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = self._failure_of(error, req)
            if failure is None:
                raise
        # Raised out here, as aiohttp's error, which holds the headers, would be its context.
        raise failure

    def _failure_of(
        self, error: aiohttp.ClientError | TimeoutError, req: aiohttp.ClientRequest
    ) -> ProxyError | None:
        """The error to raise for ``error``; None where it is the service's end that failed."""
        assert self._proxy is not None
        assert req.proxy is not None
        proxy, where = self._proxy.url, f"{req.url.host}:{req.url.port}"
        reach = "check that it runs, that it may and can reach the service, and that"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self._refusal(error, where)
        if isinstance(error, aiohttp.ClientConnectorError):
            if (error.host, error.port) != (req.proxy.host, req.proxy.port):
                return None
            said = self._quoted(error.os_error.strerror or str(error.os_error))
            text = f"cannot reach the proxy {proxy}: {said}; check that it runs and that"
        elif isinstance(error, TimeoutError):
            text = f"the proxy {proxy} made no connection to {where} in time; {reach}"
        elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            text = f"the proxy {proxy} closed the connection that was to lead to {where}; {reach}"
        else:
            said = self._quoted(getattr(error, "message", "") or str(error))
            text = f"the proxy {proxy} does not answer as an HTTP proxy does: {said}; check that"
        failure = ProxyError(f"{text} {self._proxy.source} is right", proxy=proxy)
        failure.worth_repeating = isinstance(error, _PASSING) and not isinstance(
            error, aiohttp.ClientSSLError
        )
        return failure

    def _refusal(self, error: aiohttp.ClientHttpProxyError, where: str) -> ProxyError:
        """The proxy answered, and made no connection."""
        assert self._proxy is not None
        proxy, status = self._proxy, error.status
        host, source = where.rpartition(":")[0], self._proxy.source
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            hint = f"write them into {source}, as http://user:password@host:port"
            if proxy.authorization is not None:
                hint = f"check those in {source}, with %40 for an @ in them"
            text = f"the proxy {proxy.url} asks for a user and a password that it knows"
        else:
            text = f"the proxy {proxy.url} refuses a connection to {where}"
            hint = f"have it allowed there, or go around it with NO_PROXY={host}"
            if status >= 500:
                text = f"the proxy {proxy.url} has no connection to {where}"
                hint = "check that base_url is right and that the proxy can reach it"
        said = self._quoted(error.message)
        failure = ProxyError(f"{text} ({status} {said}): {hint}", proxy=proxy.url, status=status)
        failure.worth_repeating = status == 429 or is_passing_status(status)
        return failure

    def _quoted(self, text: str) -> str:
        return self._blotter.text(text[: 10 * _QUOTED])[:_QUOTED]
