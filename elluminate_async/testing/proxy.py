"""`FaultProxy`: stands between a client and any service on TCP, and spoils the connection.

What spoils it are its toxics, which are in here too by their names.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

from elluminate_async.testing.toxics import Bandwidth as Bandwidth
from elluminate_async.testing.toxics import Close, Reset
from elluminate_async.testing.toxics import Direction as Direction
from elluminate_async.testing.toxics import Flow as Flow
from elluminate_async.testing.toxics import Latency as Latency
from elluminate_async.testing.toxics import LimitData as LimitData
from elluminate_async.testing.toxics import ResetPeer as ResetPeer
from elluminate_async.testing.toxics import Slicer as Slicer
from elluminate_async.testing.toxics import SlowClose as SlowClose
from elluminate_async.testing.toxics import Timeout as Timeout
from elluminate_async.testing.toxics import Toxic as Toxic

_READ = 1 << 16
_AHEAD = 64  # pieces that may wait behind a delay, as they would on a long line


T = TypeVar("T", bound=Toxic)


@dataclass(slots=True, eq=False)
class _Connection:
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])
    affected: dict[Toxic, bool] = field(default_factory=dict[Toxic, bool])

    def cut(self, *, reset: bool) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if reset and sock is not None and not writer.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if reset:
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Listens on a free loopback port and passes everything on to a service, toxics applied.

    ::

        async with FaultProxy(service.url) as proxy:
            slow = proxy.add(Latency(0.2, jitter=0.1))
            client = AsyncClient(base_url=proxy.url, ...)
            ...
            assert slow.fired

    Args:
        target: ``http://host:port`` of the service.
        seed: Of jitter, variation and toxicity.

    Attributes:
        toxics: Applied in this order; may be changed while it runs.
        connections: How many were accepted.
        refused: How often `down` cut a connection.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        parts = urlsplit(target)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"a target is http://host:port, not {target!r}")
        self.toxics: list[Toxic] = []
        self.connections = 0
        self.refused = 0
        self._target = (parts.hostname, parts.port)
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens, once entered."""
        return f"http://127.0.0.1:{self._port}"

    def add(self, toxic: T) -> T:
        """Apply ``toxic`` from now on, to open connections too; returns it."""
        self.toxics.append(toxic)
        return toxic

    async def down(self) -> None:
        """Refuse connections and reset those that are open, until `up`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._open):
            self.refused += 1
            connection.cut(reset=True)

    async def up(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, backlog=512
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.cut(reset=False)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # Closed transports tell their protocols in the next turn.
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection = _Connection([writer])
        self._open.add(connection)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._pass(connection, reader, writer)
        finally:
            self._open.discard(connection)
            self._tasks.discard(task)
            connection.cut(reset=False)

    async def _pass(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, here = await asyncio.open_connection(*self._target)
        connection.writers.append(here)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump("upstream", connection, reader, here))
                tasks.create_task(self._pump("downstream", connection, there, writer))
        except* Close:
            connection.cut(reset=False)
        except* (Reset, ConnectionError):
            connection.cut(reset=True)

    async def _pump(
        self,
        direction: Direction,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_AHEAD)
        flow = Flow(self._random)

        async def read() -> None:
            while data := await reader.read(_READ):
                await queue.put((time.monotonic(), data))
            await queue.put((time.monotonic(), b""))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            while True:
                flow.arrived, data = await queue.get()
                toxics = self._toxics(direction, connection)
                if not data:
                    break
                await self._through(data, toxics, flow, writer)
                flow.passed += len(data)
        for toxic in toxics:
            await toxic.finish(flow)
        if writer.can_write_eof() and not writer.is_closing():
            # The other end may be gone for good meanwhile.
            with contextlib.suppress(OSError):
                writer.write_eof()

    def _toxics(self, direction: Direction, connection: _Connection) -> list[Toxic]:
        found: list[Toxic] = []
        for toxic in self.toxics:
            if toxic.direction != direction:
                continue
            if toxic not in connection.affected:
                connection.affected[toxic] = self._random.random() < toxic.toxicity
            if connection.affected[toxic]:
                found.append(toxic)
        return found

    async def _through(
        self, data: bytes, toxics: list[Toxic], flow: Flow, writer: asyncio.StreamWriter
    ) -> None:
        if not toxics:
            writer.write(data)
            await writer.drain()
            return
        first, *others = toxics
        if first.fires_at_once:
            flow.fired(first)
        async with contextlib.aclosing(first.feed(data, flow)) as pieces:
            async for piece in pieces:
                await self._through(piece, others, flow, writer)
