"""A forward proxy that records what it hears, and TLS in front of a service."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import trustme

from elluminate_async.testing.raw import reply

NAME = "service.test"
"""A name that nobody resolves."""

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Certificates:
    """An authority, a client's context that trusts it, and a server's for names."""

    authority: trustme.CA
    trusting: ssl.SSLContext
    server: ssl.SSLContext


def certificates(folder: Path, *names: str) -> Certificates:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    trusting.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    issued = authority.issue_cert(*names).private_key_and_cert_chain_pem
    issued.write_to_path(folder / "server.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return Certificates(authority, trusting, server)


@dataclass(slots=True)
class ForwardProxy:
    """A proxy that makes tunnels.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        heads: The heads of the requests, in order.
        tunnelled: All bytes that clients sent into tunnels.
        answer: Sent instead of a tunnel, then the connection is closed; None makes the tunnel.
        silent: Answer nothing at all.
        leads_to: The port of this machine at which a tunnel ends; None by the request's address.
    """

    port: int = 0
    heads: list[bytes] = field(default_factory=list[bytes])
    tunnelled: bytearray = field(default_factory=bytearray)
    answer: bytes | None = None
    silent: bool = False
    leads_to: int | None = None

    @property
    def heard(self) -> bytes:
        """Everything."""
        return b"".join(self.heads) + bytes(self.tunnelled)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if self.silent:
            await reader.read()
            return
        if self.answer is not None:
            writer.write(self.answer)
            return
        address = self.heads[-1].split(b" ")[1].decode()
        host, _, port = address.rpartition(":")
        if self.leads_to is not None:
            host, port = "127.0.0.1", str(self.leads_to)
        there, to_there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await relay(reader, writer, there, to_there, self.tunnelled)


@asynccontextmanager
async def forward_proxy(
    *, leads_to: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ForwardProxy]:
    """A proxy on a free port, itself behind TLS if need be."""
    proxy = ForwardProxy(leads_to=leads_to)
    async with listening(proxy.serve, tls) as proxy.port:
        yield proxy


@asynccontextmanager
async def tap(port: int) -> AsyncGenerator[tuple[int, bytearray]]:
    """A port that leads to ``port``, and all bytes that went there."""
    heard = bytearray()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await relay(reader, writer, *there, heard)

    async with listening(pass_on) as own:
        yield own, heard


@asynccontextmanager
async def tls_in_front_of(port: int, context: ssl.SSLContext) -> AsyncGenerator[int]:
    """A port that speaks TLS and passes on to ``port``, which does not."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await relay(reader, writer, *there, bytearray())

    async with listening(pass_on, context) as own:
        yield own


async def relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there: asyncio.StreamReader,
    to_there: asyncio.StreamWriter,
    heard: bytearray,
) -> None:
    """Pass bytes on both ways until one end closes; ``heard`` gets those of ``reader``."""

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                kept += data
                to.write(data)
                await to.drain()

    ways = [
        asyncio.ensure_future(copy(reader, to_there, heard)),
        asyncio.ensure_future(copy(there, writer, bytearray())),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        to_there.close()
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)


@asynccontextmanager
async def listening(
    serve: Serve,
    context: ssl.SSLContext | None = None,
) -> AsyncGenerator[int]:
    """A free port where ``serve`` has each connection, which is closed after it."""
    open_: set[asyncio.Task[None]] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            open_.discard(task)
            writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_:
            task.cancel()
        if open_:
            await asyncio.wait(open_, timeout=60)


def refusal(status: int, body: bytes = b"no", **headers: str) -> bytes:
    return reply(status, body, Connection="close", **headers)
