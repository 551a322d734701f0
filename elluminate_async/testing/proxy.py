"""`FaultProxy`: stands between a client and any service on TCP, and spoils the connection.

The toxics are Toxiproxy's (https://github.com/Shopify/toxiproxy), with seconds for its
milliseconds and bytes for its kilobytes. One that acts "after a while" counts from the first
byte that the connection has in its direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

Direction: TypeAlias = Literal["upstream", "downstream"]
"""``upstream`` is from the client to the service."""

_READ = 1 << 16
_AHEAD = 64  # pieces that may wait behind a delay, as they would on a long line


class _Close(Exception):
    pass


class _Reset(Exception):
    pass


@dataclass(slots=True)
class Flow:
    """One direction of one connection, as a toxic sees it.

    Attributes:
        arrived: When the piece that is being passed on came in.
        passed: Bytes that came in before it.
    """

    random: random.Random
    arrived: float = 0.0
    passed: int = 0
    _fired: set[Toxic] = field(default_factory=set["Toxic"])

    def fired(self, toxic: Toxic) -> None:
        """Count ``toxic`` as having done something to this connection."""
        if toxic not in self._fired:
            self._fired.add(toxic)
            toxic.fired += 1


class Toxic:
    """A fault of one direction of a proxy's connections; this base changes nothing.

    Args:
        direction: Which of the two.
        toxicity: Share of the connections that it happens to, 0 to 1.

    Attributes:
        fired: On how many connections it did something.
        fires_at_once: Whether that is so from the first byte on; else it calls `Flow.fired`.
    """

    fires_at_once = True

    def __init__(self, direction: Direction = "downstream", *, toxicity: float = 1.0) -> None:
        self.direction = direction
        self.toxicity = toxicity
        self.fired = 0

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """The pieces to pass on, when their time has come."""
        yield data

    async def finish(self, flow: Flow) -> None:
        """The sender has closed; return when that may be passed on."""


class Latency(Toxic):
    """Delay every piece by ``seconds``, more or less by up to ``jitter``."""

    def __init__(
        self,
        seconds: float,
        *,
        jitter: float = 0.0,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds
        self.jitter = jitter

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """After the delay, counted from the arrival."""
        wait = self.seconds + flow.random.uniform(-self.jitter, self.jitter)
        await asyncio.sleep(max(0.0, flow.arrived + wait - time.monotonic()))
        yield data


class Bandwidth(Toxic):
    """Pass on at most so many bytes a second."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.bytes_per_second = bytes_per_second

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """In pieces of a tenth of a second each."""
        size = max(1, int(self.bytes_per_second / 10))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await asyncio.sleep(len(piece) / self.bytes_per_second)
            yield piece


class SlowClose(Toxic):
    """Pass on the end of the connection only after ``seconds``."""

    fires_at_once = False

    def __init__(
        self, seconds: float, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def finish(self, flow: Flow) -> None:
        """Wait."""
        flow.fired(self)
        await asyncio.sleep(self.seconds)


class Timeout(Toxic):
    """Pass on nothing, and close after ``seconds``; with 0 the connection stays open."""

    def __init__(
        self, seconds: float, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Never."""
        if self.seconds == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        raise _Close
        yield data


class ResetPeer(Toxic):
    """Pass on nothing, and reset the connection after ``seconds``."""

    def __init__(
        self, seconds: float = 0.0, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Never."""
        await asyncio.sleep(self.seconds)
        raise _Reset
        yield data


class Slicer(Toxic):
    """Cut what is sent into pieces of about ``size`` bytes, ``delay`` seconds apart."""

    def __init__(
        self,
        size: int,
        *,
        variation: int = 0,
        delay: float = 0.0,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.size = size
        self.variation = variation
        self.delay = delay

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Piece by piece."""
        while data:
            size = max(1, self.size + flow.random.randint(-self.variation, self.variation))
            yield data[:size]
            data = data[size:]
            await asyncio.sleep(self.delay)


class LimitData(Toxic):
    """Close the connection once it has passed on so many bytes."""

    fires_at_once = False

    def __init__(
        self, limit: int, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.limit = limit

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """The bytes that are left of the limit."""
        left = self.limit - flow.passed
        if len(data) < left:
            yield data
            return
        flow.fired(self)
        yield data[: max(0, left)]
        raise _Close


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
        except* _Close:
            connection.cut(reset=False)
        except* (_Reset, ConnectionError):
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
