"""Connections: what is unfinished is closed in time, and never at a rightful client's cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer, connections
from elluminate_async.server.connections import BODY_SECONDS, HEADER_SECONDS
from elluminate_async.testing import VIRTUAL_TIME
from tests.matrix import Fired
from tests.server.api import Api, ScriptedModel, batch

MOST = 64
HOSTILE = 200


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.fixture(autouse=True)
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes 64 connections, half of them without a key."""
    monkeypatch.setattr(connections, "_most_by_files", lambda: MOST)


@dataclass
class Raw:
    """A connection of bytes, and what came back."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *data: bytes) -> None:
        with suppress(ConnectionError):
            for one in data:
                self.writer.write(one)
                await self.writer.drain()

    async def answer(self) -> bytes:
        """All that comes until the server closes the connection."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""

    @property
    def is_closed(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None


@pytest.fixture
async def connect(server: LocalServer) -> AsyncIterator[Callable[[], object]]:
    parts = urlsplit(server.url)
    opened: list[Raw] = []

    async def one() -> Raw:
        raw = Raw(*await asyncio.open_connection(parts.hostname, parts.port))
        opened.append(raw)
        return raw

    yield one
    for raw in opened:
        raw.writer.transport.abort()


def head(server: LocalServer, method: str, path: str, *more: str) -> bytes:
    lines = (f"{method} /api/v0{path} HTTP/1.1", "Host: localhost", *more)
    return "\r\n".join((*lines, f"X-API-Key: {server.api_key}", "", "")).encode()


async def settled() -> None:
    """Let what has been sent be read."""
    await asyncio.sleep(0.5)


@pytest.mark.row(135)
@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "begun"])
async def test_unfinished_requests_lock_nobody_out(
    api: Api, connect: Callable[[], Any], start: bytes, fired: Fired
) -> None:
    """Far more than there is room for are opened: the newest few stay, the rightful are served."""
    hostile: list[Raw] = []
    for _ in range(HOSTILE):
        hostile.append(await connect())
        await hostile[-1].send(start)
        fired()
    for _ in range(3):
        assert (await api("GET", "//projects", headers={"Connection": "close"})).status == 200
    await settled()
    assert HOSTILE - sum(one.is_closed for one in hostile) <= MOST // 2
    assert not hostile[-1].is_closed


@pytest.mark.row(135)
async def test_who_has_a_key_stays(
    server: LocalServer,
    api: Api,
    model: ScriptedModel,
    connect: Callable[[], Any],
    fired: Fired,
) -> None:
    """Streams that run are not closed for connections without a key, as many as they are."""
    experiment, entries = await api.setup(["a"])
    model.gate.clear()
    task = await api.post("/responses/batches", batch(experiment, entries))
    path = f"/projects/1/responses/batches/{task}/stream"
    streams = [await connect() for _ in range(MOST // 2)]
    for one in streams:
        await one.send(head(server, "GET", path, "Connection: close"))
    await settled()
    for _ in range(HOSTILE):
        await (await connect()).send(b"POST / HTTP/1.1\r\n")
        fired()
    await settled()
    model.gate.set()
    for one in streams:
        assert b'"SUCCESS"' in await one.answer()


@pytest.mark.row(135)
async def test_no_more_connections_than_there_is_room_for(
    server: LocalServer, api: Api, model: ScriptedModel, connect: Callable[[], Any], fired: Fired
) -> None:
    """When all have a key, one more is told to come again."""
    experiment, entries = await api.setup(["a"])
    model.gate.clear()
    task = await api.post("/responses/batches", batch(experiment, entries))
    path = f"/projects/1/responses/batches/{task}/stream"
    for _ in range(MOST - 1):  # one is the client's own
        await (await connect()).send(head(server, "GET", path))
    await settled()
    fired()
    answer = await (await connect()).answer()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    model.gate.set()


@pytest.mark.row(135)
async def test_headers_that_do_not_end(connect: Callable[[], Any], fired: Fired) -> None:
    """They have ten seconds, however steadily some more of them comes."""
    clock = asyncio.get_running_loop().time
    one, silent = await connect(), await connect()
    began = clock()
    answer = asyncio.create_task(one.answer())
    await one.send(b"GET / HTTP/1.1\r\n")
    while not answer.done():
        await one.send(b"x: y\r\n")
        fired()
        await asyncio.sleep(0.5)
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    assert await silent.answer() == b""
    assert HEADER_SECONDS <= clock() - began <= HEADER_SECONDS + 3


@pytest.mark.row(135)
async def test_body_that_does_not_come(
    server: LocalServer, connect: Callable[[], Any], fired: Fired
) -> None:
    """A body may be slow, but not silent for half a minute."""
    body = b'{"name": "C"}'
    request = head(
        server, "POST", "/projects/1/collections", "Content-Type: application/json",
        f"Content-Length: {len(body)}", "Connection: close",
    )  # fmt: skip
    silent, slow = await connect(), await connect()
    await silent.send(request, body[:4])
    await slow.send(request)
    for part in (body[:4], body[4:8], body[8:]):
        await asyncio.sleep(BODY_SECONDS - 2)
        await slow.send(part)
    fired()
    assert (await slow.answer()).startswith(b"HTTP/1.1 201 ")
    assert (await silent.answer()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.row(135)
async def test_unfinished_headers_take_a_bounded_memory(
    server: LocalServer,
    api: Api,
    connect: Callable[[], Any],
    fired: Fired,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Large ones beyond the bound are closed, oldest first; a long request line is served."""
    monkeypatch.setattr(connections, "MOST_HEADER_BYTES", 2 << 20)
    size = 300_000
    hostile = [await connect() for _ in range(20)]
    for one in hostile:
        await one.send(b"GET / HTTP/1.1\r\nx: ", b"x" * size)
        fired()
    await settled()
    held = [not one.is_closed for one in hostile]
    assert 1 <= sum(held) <= (2 << 20) // size
    assert held == sorted(held)
    ids = "&".join(f"response_ids={10**9 + n}" for n in range(10_000))
    one = await connect()
    await one.send(head(server, "GET", f"/projects/1/responses?{ids}", "Connection: close"))
    assert (await one.answer()).startswith(b"HTTP/1.1 200 ")


async def test_a_caller_that_leaves_while_it_sends_is_no_fault_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is done, and nothing is logged as an error."""
    async with LocalServer() as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /api/v0/projects/1/collections HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"X-API-Key: {server.api_key}\r\nContent-Type: application/json\r\n"
            'Content-Length: 1000\r\n\r\n{"name": '.encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with AsyncClient(base_url=server.url, api_key=server.api_key) as client:
            assert not await client.collections.list()

    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
