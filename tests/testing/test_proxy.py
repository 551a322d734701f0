"""The proxy's toxics do on the wire what they say, and count it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from elluminate_async.testing import VIRTUAL_TIME, FaultProxy
from elluminate_async.testing.proxy import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@asynccontextmanager
async def echo() -> AsyncGenerator[FaultProxy]:
    """A proxy before a server that sends back what it gets, and closes when told "bye"."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                if data.endswith(b"bye"):
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, FaultProxy(f"http://127.0.0.1:{port}", seed=3) as proxy:
        yield proxy


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        """What comes back, all of it."""
        self.writer.write(data)
        async with asyncio.timeout(10):
            return await self.reader.readexactly(len(data))

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()


@asynccontextmanager
async def peer(proxy: FaultProxy) -> AsyncGenerator[Peer]:
    port = int(proxy.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_without_toxics_it_changes_nothing() -> None:
    """All bytes arrive, in order, and the end with them."""
    data = bytes(range(256)) * 2000
    async with echo() as proxy, peer(proxy) as client:
        assert await client.ask(data) == data
        assert await client.ask(b"bye") == b"bye"
        assert await client.rest() == b""
    assert proxy.connections == 1


async def test_latency_delays_each_answer() -> None:
    """No answer comes before the delay, less the jitter."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(Latency(0.2, jitter=0.05))
        for _ in range(2):
            begun = time.monotonic()
            assert await client.ask(b"hello") == b"hello"
            assert time.monotonic() - begun > 0.14
    assert toxic.fired == 1


async def test_latency_keeps_the_order() -> None:
    """Jitter never lets a later piece pass an earlier one."""
    async with echo() as proxy, peer(proxy) as client:
        proxy.add(Slicer(10))
        proxy.add(Latency(0.01, jitter=0.01))
        data = bytes(range(200))
        assert await client.ask(data) == data


async def test_bandwidth_bounds_the_bytes_per_second() -> None:
    """So many bytes take so many seconds."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(Bandwidth(10_000))
        begun = time.monotonic()
        assert len(await client.ask(bytes(3000))) == 3000
        assert time.monotonic() - begun > 0.29
    assert toxic.fired == 1


async def test_slicer_cuts_what_is_sent_into_pieces() -> None:
    """The pieces are small, apart, and together the whole."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(Slicer(5, variation=2, delay=0.01))
        client.writer.write(bytes(100))
        sizes: list[int] = []
        async with asyncio.timeout(10):
            while sum(sizes) < 100:
                sizes.append(len(await client.reader.read(1000)))
    assert len(sizes) > 5
    assert toxic.fired == 1


async def test_limit_data_closes_after_so_many_bytes() -> None:
    """What is within the limit arrives, also in several pieces, and then the end."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(LimitData(10))
        assert await client.ask(b"abcdef") == b"abcdef"
        assert toxic.fired == 0
        client.writer.write(b"ghijklmnop")
        assert await client.rest() == b"ghij"
    assert toxic.fired == 1


async def test_reset_peer_resets() -> None:
    """The client sees a reset and not an end."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(ResetPeer(0.05))
        client.writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await client.rest()
    assert toxic.fired == 1


async def test_timeout_swallows_and_closes() -> None:
    """Nothing comes back but the end."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(Timeout(0.1))
        client.writer.write(b"hello")
        begun = time.monotonic()
        assert await client.rest() == b""
        assert time.monotonic() - begun > 0.09
    assert toxic.fired == 1


async def test_timeout_of_zero_stays_open() -> None:
    """The client waits for as long as it likes, and the proxy can be left all the same."""
    async with echo() as proxy, peer(proxy) as client:
        proxy.add(Timeout(0, direction="upstream"))
        client.writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.reader.read()


async def test_slow_close_delays_the_end_only() -> None:
    """Data is not delayed, the end is."""
    async with echo() as proxy, peer(proxy) as client:
        toxic = proxy.add(SlowClose(0.3))
        assert await client.ask(b"good bye") == b"good bye"
        begun = time.monotonic()
        assert await client.rest() == b""
        assert time.monotonic() - begun > 0.25
    assert toxic.fired == 1


async def test_toxicity_takes_a_seeded_share_of_the_connections() -> None:
    """Some connections are hit and others not, and the count says how many."""
    hit = 0
    async with echo() as proxy:
        toxic = proxy.add(ResetPeer(toxicity=0.5))
        for _ in range(20):
            async with peer(proxy) as client:
                try:
                    assert await client.ask(b"hello") == b"hello"
                except (ConnectionError, asyncio.IncompleteReadError):
                    hit += 1
    assert hit == toxic.fired
    assert 3 < hit < 17


async def test_down_refuses_and_resets_until_up() -> None:
    """Open connections are reset, new ones refused, and afterwards the port serves again."""
    async with echo() as proxy:
        async with peer(proxy) as client:
            assert await client.ask(b"hello") == b"hello"
            await proxy.down()
            with pytest.raises(ConnectionResetError):
                await client.rest()
        with pytest.raises(ConnectionRefusedError):
            async with peer(proxy):
                pass
        await proxy.up()
        async with peer(proxy) as client:
            assert await client.ask(b"hello") == b"hello"
    assert proxy.refused == 1


async def test_a_toxic_of_ones_own() -> None:
    """A subclass says what happens to the bytes."""

    class Shout(Toxic):
        async def feed(self, data: bytes, flow: object) -> AsyncGenerator[bytes]:
            yield data.upper()

    async with echo() as proxy, peer(proxy) as client:
        proxy.add(Shout("upstream"))
        assert await client.ask(b"hello") == b"HELLO"


def test_a_target_needs_a_port() -> None:
    """A slip is told at once."""
    with pytest.raises(ValueError, match="http://host:port"):
        FaultProxy("localhost")
