"""The HTTP clients under the OpenAI library: where they connect, and what they send along."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, cast

import anyio
import httpcore2
import httpx2
from openai import DefaultAsyncHttpxClient

from elluminate_async._version import __version__
from elluminate_async.server.llms.addresses import fault_of_address
from elluminate_async.server.llms.base import ModelError

if TYPE_CHECKING:
    import ssl

    from elluminate_async.server.llms.addresses import Reach

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a host name."""

_MOST_CONNECTIONS = 1000
_MOST_IDLE = 100
_IDLE_SECONDS = 5.0
_CONNECT_SECONDS = 60.0


class EndpointRefusedError(ModelError):
    """An endpoint is not where a configuration may send prompts; asking again is in vain."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver.

    Raises:
        OSError: It knows no such name.
    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def endpoint_client(
    reach: Reach, api_key: str | None, *, resolve: Resolve = resolve
) -> httpx2.AsyncClient:
    """The client for an endpoint that a configuration names.

    It takes nothing from this process's environment but certificates: no proxy, no headers.

    Args:
        reach: How far it may connect.
        api_key: The only key it sends; None sends none.
        resolve: Finds the addresses of names.
    """
    return httpx2.AsyncClient(
        transport=_Transport(_Backend(reach, resolve), api_key),
        trust_env=False,
        follow_redirects=False,
        event_hooks={"response": [_refuse_redirect]},
    )


def operator_client() -> httpx2.AsyncClient:
    """The client for the model that the operator has chosen, wherever that is."""
    return DefaultAsyncHttpxClient(
        follow_redirects=False, event_hooks={"response": [_refuse_redirect]}
    )


def refusal_in(error: BaseException) -> EndpointRefusedError | None:
    """The refusal that the OpenAI library has wrapped in an error of its own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, EndpointRefusedError):
        cause = cause.__cause__
    return cause


async def _refuse_redirect(response: httpx2.Response) -> None:
    if response.has_redirect_location:
        # To another place would go the prompt as well.
        try:
            target = response.url.join(response.headers["location"])
            where = str(target.copy_with(query=None, fragment=None, userinfo=b""))
        except httpx2.InvalidURL:
            where = "what is no address"
        raise EndpointRefusedError(
            f"the endpoint redirects to {where}, which is not followed; "
            "if that is right, name it in the configuration itself"
        )


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were looked at, and to no other that a name has later."""

    def __init__(self, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve
        # To the checker it may be another, as it needs anyio, which is always here.
        self._sockets = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        seconds = _CONNECT_SECONDS if timeout is None else timeout
        until = anyio.current_time() + seconds
        addresses = await self._allowed(host, port, seconds)
        for left in range(len(addresses), 0, -1):
            # Each of the addresses that are left has an equal share of the time.
            share = (until - anyio.current_time()) / left
            try:
                return await self._sockets.connect_tcp(
                    addresses[-left], port, share, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _allowed(self, host: str, port: int, seconds: float) -> list[str]:
        try:
            with anyio.fail_after(seconds):
                found = await self._resolve(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"{host} was not looked up in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host}: {error}") from error
        faults = {address: fault_of_address(address, self._reach) for address in found}
        allowed = [address for address, fault in faults.items() if fault is None]
        if not allowed and faults:
            fault = next(iter(faults.values()))
            # Without the address: what a name is on this network is nobody else's to know.
            raise EndpointRefusedError(f"the endpoint {host} leads to {fault}")
        return allowed


class _Transport(httpx2.AsyncBaseTransport):
    """The library's own transport is this one, but has no place for a backend."""

    def __init__(self, backend: _Backend, api_key: str | None) -> None:
        self._authorization = (
            () if api_key is None else ((b"Authorization", f"Bearer {api_key}".encode()),)
        )
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trusted(),
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_IDLE,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        url = request.url
        with _translated():
            answer = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme,
                        host=url.raw_host,
                        port=url.port,
                        target=url.raw_path,
                    ),
                    headers=self._headers(url, body),
                    content=body,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Stream(answer))

    async def aclose(self) -> None:
        await self._pool.aclose()

    def _headers(self, url: httpx2.URL, body: bytes) -> list[tuple[bytes, bytes]]:
        # All of them anew: the library takes some from variables of the environment, which
        # are its user's and not this endpoint's.
        return [
            (b"Host", url.netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip, deflate"),
            (b"User-Agent", f"elluminate-async/{__version__}".encode()),
            *self._authorization,
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(body)).encode()),
        ]


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._answer.stream, AsyncIterable)
        with _translated():
            async for part in self._answer.stream:
                yield part

    async def aclose(self) -> None:
        with _translated():
            await self._answer.aclose()


@contextlib.contextmanager
def _translated() -> Generator[None]:
    """The errors of the lower library as those of the upper, which have the same names."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error


@cache
def trusted() -> ssl.SSLContext:
    """The authorities whose certificates count: the system's, or those of SSL_CERT_FILE."""
    return httpx2.create_ssl_context()
