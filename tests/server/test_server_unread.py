"""Readers that ask for much and read nothing, in the time of the real loop.

(Virtual time does not pass while a socket holds what nobody has read.)
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, answers
from elluminate_async.server.answers import LARGE_ROWS
from tests.server.api import Api, batch

if TYPE_CHECKING:
    import aiohttp

    from tests.matrix import Fired

TEXT = "x" * 20_000
READERS = 30


class LongWinded:
    """Answers everything with the same long text."""

    name = "long-winded"

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        return ModelAnswer(text=TEXT)

    async def aclose(self) -> None:
        """There is nothing to close."""


async def finished(api: Api) -> str:
    """The path of a job that has ended with results of some 15 MB."""
    experiment, entries = await api.setup([str(number) for number in range(LARGE_ROWS + 100)])
    task = await api.post("/responses/batches", batch(experiment, entries))
    status = await api.ended(f"/responses/batches/{task}")
    assert len(status["result"]) == LARGE_ROWS + 100
    return f"/responses/batches/{task}"


@pytest.mark.unmeasured
@pytest.mark.row(135)
@pytest.mark.parametrize("way", ["", "/stream"], ids=["polled", "streamed"])
async def test_answers_that_nobody_reads_are_bounded_and_let_go(
    session: aiohttp.ClientSession, way: str, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thirty some are made, others wait; who takes nothing is closed; the rest is served."""
    monkeypatch.setattr(answers, "STALL_SECONDS", 0.5)
    async with LocalServer(model=LongWinded()) as server:
        api, service = Api(session, server), server._service
        assert service is not None
        path = await finished(api)
        parts = urlsplit(api.url(path + way))
        lines = (f"GET {parts.path} HTTP/1.1", "Host: localhost", f"X-API-Key: {server.api_key}")
        head = "\r\n".join((*lines, "", "")).encode()
        writers: list[asyncio.StreamWriter] = []
        for _ in range(READERS):
            # Small buffers, so that nearly all is left at the server.
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, limit=1 << 12
            )
            del reader
            writer.write(head)
            writers.append(writer)
            fired()
        large, most = service.large_answers, 0
        while not large.held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while large.held:
            most = max(most, large.held)
            assert (await api("GET", "//projects")).status == 200
            await asyncio.sleep(0.01)
        assert most < large.most + (20 << 20)
        assert (await api("GET", path)).status == 200
        for writer in writers:
            writer.transport.abort()


@pytest.mark.unmeasured
async def test_a_slow_reader_gets_all(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes some in every stretch of the time allowed is not let go, however slowly."""
    monkeypatch.setattr(answers, "STALL_SECONDS", 2.0)
    async with LocalServer(model=LongWinded()) as server:
        api = Api(session, server)
        path = await finished(api)
        parts = urlsplit(api.url(path))
        lines = (f"GET {parts.path} HTTP/1.1", "Host: localhost", f"X-API-Key: {server.api_key}")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (parts.hostname, parts.port))
        await loop.sock_sendall(slow, "\r\n".join((*lines, "Connection: close", "", "")).encode())
        # Over 20 times what is allowed for one slice, a little in each quarter of a second.
        received = 0
        for _ in range(20):
            received += len(await loop.sock_recv(slow, 100_000))
            await asyncio.sleep(0.25)
        while part := await loop.sock_recv(slow, 1 << 20):
            received += len(part)
        slow.close()
        whole = await session.get(api.url(path), headers=api.headers)
        assert received > len(await whole.read())
