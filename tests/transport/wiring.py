"""A transport on a scripted server, and answers that several tests send."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest

from elluminate_async.batch import RateLimit
from elluminate_async.config import Settings
from elluminate_async.errors import ElluminateError
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.raw import Connection, RawServer, Received, Script, reply
from elluminate_async.transport.exchange import Answer, Request
from elluminate_async.transport.http import HttpTransport
from elluminate_async.transport.retry import Policy

KEY = "canary-4f1d8a"

OK = reply(200, b'{"fine": true}')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

GET = Request("GET", ["api", "things"])
POST = Request("POST", ["api", "things"], body=b'{"a": 1}')
KEYED = Request("POST", ["api", "things"], body=b"{}", idempotency_key="key-1", key_honoured=True)


def budget(deadline: float = 60.0, **changes: Any) -> Policy:
    return Policy(time.monotonic() + deadline, **changes)


def settings_for(url: str) -> Settings:
    return Settings.resolve(base_url=url, api_key=KEY, environment={})


@contextmanager
def nobody_listens(host: str = "127.0.0.1") -> Generator[socket.socket]:
    """A port that is taken, so that nobody else gets it, and where nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock


@asynccontextmanager
async def transport_to(
    url: str, *, connections: int = 10, rate_limit: RateLimit | None = None, **arguments: Any
) -> AsyncGenerator[HttpTransport]:
    limits = Limits(connections, rate_limit)
    transport = HttpTransport(
        settings_for(url), limits=limits, connections=connections, **arguments
    )
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def serving(
    script: Script, **arguments: Any
) -> AsyncGenerator[tuple[RawServer, HttpTransport]]:
    """A server, and a transport to it; afterwards no connection and no permit may be out."""
    async with RawServer(script) as server:
        async with transport_to(server.url, **arguments) as transport:
            yield server, transport
        await all_closed(server)
        assert transport._admission.held == 0
    # An unclosed socket or response warns when it is collected, and a warning is an error.
    gc.collect()


async def all_closed(server: RawServer) -> None:
    """Return when no connection is open any more; fail when one stays."""
    with anyio.fail_after(60):
        while server.open:  # noqa: ASYNC110
            await anyio.sleep(0.002)


async def until_accepted(server: RawServer, count: int) -> None:
    """Return when so many connections have been accepted."""
    with anyio.fail_after(60):
        while server.connections < count:  # noqa: ASYNC110
            await anyio.sleep(0.002)


async def until_received(server: RawServer, count: int) -> None:
    """Return when so many requests have come in."""
    with anyio.fail_after(60):
        while len(server.requests) < count:  # noqa: ASYNC110
            await anyio.sleep(0.002)


async def hang(received: Received, connection: Connection) -> None:
    await connection.client_left()


async def failing(sending: Awaitable[Answer]) -> ElluminateError:
    """The error that ``sending`` ends with, within its own deadline."""
    with anyio.fail_after(120), pytest.raises(ElluminateError) as caught:
        await sending
    return caught.value


def then_close(data: bytes) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        await connection.send(data)

    return script


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


UNREADABLE = {
    "garbage": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "binary": bytes(range(256)) * 4 + b"\r\n\r\n",
    "an odd version": b"HTTP/9 200 OK\r\n\r\n",
    "no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a header without colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "an over-long header": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n{}",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a bad chunk size": chunked(b"{}", end=b"zz\r\nab\r\n"),
    "no gzip": reply(200, b"this is not gzip", Content_Encoding="gzip"),
    "101 unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}
