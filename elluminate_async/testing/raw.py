"""A scripted server over a plain socket: the exact bytes of an answer are the test's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Connection:
    """One client's connection, for a script that writes by itself."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write ``data`` and wait until it is on its way."""
        self.writer.write(data)
        await self.writer.drain()

    async def client_left(self) -> None:
        """Return when the client has closed its side."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Received, Connection], Awaitable[bytes | None]]
"""A script for requests: bytes are sent and the connection stays; None closes it."""


class RawServer:
    """Listens on a free loopback port, records requests, runs ``script`` for each.

    Attributes:
        requests: All that came in completely, in order.
        connections: How many were accepted.
        open: The numbers of those that are open.
        peak: Most requests in the script's hands at once.
    """

    def __init__(self, script: Script, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open: set[int] = set()
        self.peak = 0
        self._busy = 0
        self._script = script
        self._ssl = ssl_context
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, once entered."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._ssl, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection = Connection(self.connections, reader, writer)
        self.open.add(connection.number)
        # A client that leaves is no failure of the server; neither is the test's end.
        with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):
            await self._converse(connection)
        self.open.discard(connection.number)
        self._tasks.discard(task)
        writer.close()

    async def _converse(self, connection: Connection) -> None:
        while True:
            received = await self._read(connection)
            self.requests.append(received)
            self._busy += 1
            self.peak = max(self.peak, self._busy)
            try:
                answer = await self._script(received, connection)
            finally:
                self._busy -= 1
            if answer is None:
                return
            await connection.send(answer)

    async def _read(self, connection: Connection) -> Received:
        return await self._read_rest(await connection.reader.readuntil(b"\r\n\r\n"), connection)

    async def _read_rest(self, encoded: bytes, connection: Connection) -> Received:
        head = encoded.decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await connection.reader.readexactly(int(headers.get("content-length", "0")))
        now = asyncio.get_running_loop().time()
        return Received(method, target, headers, body, connection.number, now)


def reply(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    """A well-formed answer; underscores in header names stand for hyphens."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Words\r\n{head}\r\n".encode() + body


def replies(*answers: bytes | None) -> Script:
    """The answers one after the other, over all connections; the last for ever."""
    left = list(answers)

    async def script(received: Received, connection: Connection) -> bytes | None:
        return left.pop(0) if len(left) > 1 else left[0]

    return script
