"""Https to something that is not the service: refused before a byte of a request leaves."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from elluminate_async import AsyncClient, ConnectError, ServiceUnavailableError
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import RawServer, replies, reply
from tests.matrix import Fired
from tests.transport.wiring import KEY, OK, POST, budget, failing, transport_to


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


pytestmark = pytest.mark.row(21)

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def trust(context: ssl.SSLContext, authority: trustme.CA) -> None:
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())


def serving_as(authority: trustme.CA, folder: Path, name: str, **arguments: Any) -> ssl.SSLContext:
    """A server's context with a certificate for ``name``."""
    issued = authority.issue_cert(name, **arguments).private_key_and_cert_chain_pem
    issued.write_to_path(folder / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@pytest.mark.parametrize("kind", ["expired", "wrong host", "unknown authority", "self-signed"])
async def test_a_certificate_that_does_not_hold(kind: str, tmp_path: Path, fired: Fired) -> None:
    """Refused once, not three times, and the request with its key never left."""
    ours = trustme.CA()
    trusting = ssl.create_default_context()
    if kind in ("expired", "wrong host"):
        trust(trusting, ours)
    if kind == "expired":
        context = serving_as(ours, tmp_path, "localhost", not_after=LONG_AGO)
    elif kind == "wrong host":
        context = serving_as(ours, tmp_path, "other.localhost")
    elif kind == "unknown authority":
        context = serving_as(ours, tmp_path, "localhost")
    else:
        ours.cert_pem.write_to_path(tmp_path / "self.pem")
        ours.private_key_pem.write_to_path(tmp_path / "self.pem", append=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "self.pem")
    heard: list[bytes] = []
    async with listening(context, heard) as port:
        client = AsyncClient(
            base_url=f"https://localhost:{port}",
            api_key=KEY,
            ssl_context=trusting,
            skip_version_check=True,
        )
        started = time.monotonic()
        with pytest.raises(ConnectError, match="certificate") as caught:
            await client.__aenter__()
        seconds = time.monotonic() - started
    fired(times=len(heard))

    assert not caught.value.worth_repeating
    assert (caught.value.sent, caught.value.ambiguous, caught.value.attempts) == (False, False, 1)
    assert heard == [b""]
    assert seconds < 5


@asynccontextmanager
async def listening(context: ssl.SSLContext, heard: list[bytes]) -> AsyncGenerator[int]:
    """A TLS port that notes what it hears once a handshake has ended, however that ends."""
    shaking: list[asyncio.Task[None]] = []

    async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        shaking.append(task)
        said = b""
        with contextlib.suppress(OSError):
            await writer.start_tls(context)
            said = await reader.read(100)
        heard.append(said)
        writer.close()

    server = await asyncio.start_server(shake, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait(shaking, timeout=60)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answers_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(reply(400, b"this is an http port"))
    writer.close()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.close()


async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the client's greeting and keeps silent."""
    while await reader.read(100):
        pass
    writer.close()


@pytest.mark.parametrize("handler", [answers_plainly, closes, stalls])
async def test_a_port_without_tls(handler: Handler, fired: Fired) -> None:
    """Refused in plain words, closed, or met with silence: in time, and nothing was sent."""

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fired()
        await handler(reader, writer)

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    started = time.monotonic()
    async with transport_to(f"https://127.0.0.1:{port}") as transport:
        clocks = budget(retry_for=1.0, connect_timeout=0.4)
        error = await failing(transport.send(POST, clocks))
    seconds = time.monotonic() - started
    server.close()

    assert type(error) is ServiceUnavailableError
    assert not error.ambiguous
    assert error.attempts >= 2
    assert seconds < 10


async def test_a_context_of_ones_own_is_used(tmp_path: Path, fired: Fired) -> None:
    """A private authority is trusted where it is passed, and only there."""
    ours = trustme.CA()
    trusting = ssl.create_default_context()
    trust(trusting, ours)
    context = serving_as(ours, tmp_path, "localhost")
    async with RawServer(replies(OK), ssl_context=context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with transport_to(url, ssl_context=trusting) as transport:
            answer = await transport.send(POST, budget())
        async with transport_to(url) as transport:
            error = await failing(transport.send(POST, budget()))
            fired()

    assert answer.status == 200
    assert isinstance(error, ConnectError)
    assert len(server.requests) == 1
