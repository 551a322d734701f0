"""Connections that break, answers that cannot be read or are not for us."""

from __future__ import annotations

import gzip
import ssl
import zlib
from pathlib import Path

import pytest
import trustme

from elluminate_async.errors import (
    AnswerTooLargeError,
    ProtocolError,
    RedirectError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, replies, reply
from elluminate_async.transport import exchange
from elluminate_async.transport.exchange import Request
from tests.transport.wiring import (
    GET,
    KEYED,
    OK,
    POST,
    UNREADABLE,
    budget,
    chunked,
    failing,
    serving,
    then_close,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


# --- connections that break


@pytest.mark.parametrize("request_", [POST, GET])
async def test_a_reset(request_: Request) -> None:
    """RST instead of an answer is the same as a close."""

    async def script(received: Received, connection: Connection) -> None:
        connection.reset()

    async with serving(script) as (server, transport):
        error = await failing(transport.send(request_, budget(retry_for=0.6)))

    assert isinstance(error, TransportError | ServiceUnavailableError)
    assert error.ambiguous
    assert len(server.requests) == error.attempts
    assert (error.attempts == 1) is (request_ is POST)


TRUNCATED = {
    "no answer": b"",
    "half a status line": b"HTTP/1.1 20",
    "no end of headers": b"HTTP/1.1 200 OK\r\nContent-Len",
    "content-length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "chunked": chunked(b"{}", end=b""),
    "in a chunk": chunked(b"{}", end=b"ff\r\nabc"),
}


@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED)
async def test_a_truncated_answer(answer: bytes, request_: Request) -> None:
    """Never taken for a whole one: a POST is ambiguous and sent once, a GET is repeated."""
    async with serving(then_close(answer)) as (server, transport):
        error = await failing(transport.send(request_, budget(retry_for=0.6)))

    assert isinstance(error, TransportError | ServiceUnavailableError)
    assert error.ambiguous
    assert len(server.requests) == error.attempts
    assert (error.attempts == 1) is (request_ is POST)


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_unreadable_answer(answer: bytes) -> None:
    """A `ProtocolError`, not the status 400 that the parser invents; a POST is ambiguous."""
    async with serving(then_close(answer)) as (server, transport):
        error = await failing(transport.send(POST, budget()))

    assert type(error) is ProtocolError
    assert error.ambiguous
    assert len(server.requests) == 1
    assert len(str(error)) < 500


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """HTTP/1.0 style; the connection is not used again."""
    async with serving(then_close(b"HTTP/1.1 200 OK\r\n\r\n{}")) as (server, transport):
        assert (await transport.send(GET, budget())).body == b"{}"
        assert (await transport.send(GET, budget())).body == b"{}"

    assert server.connections == 2


# --- sizes


@pytest.mark.parametrize(
    ("wire", "headers"),
    [
        (b"x" * 70_000, {}),
        (gzip.compress(b"\0" * 20_000_000), {"Content_Encoding": "gzip"}),
        (zlib.compress(b"\0" * 20_000_000), {"Content_Encoding": "deflate"}),
    ],
    ids=["plain", "gzip bomb", "deflate bomb"],
)
async def test_a_body_over_the_cap(
    wire: bytes, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cap counts decompressed bytes; the text says what to do."""
    monkeypatch.setattr(exchange, "MAX_BODY_BYTES", 65_536)
    async with serving(replies(reply(200, wire, **headers))) as (_, transport):
        error = await failing(transport.send(POST, budget()))

    assert type(error) is AnswerTooLargeError
    assert "over 65536 bytes" in str(error)
    assert error.ambiguous


async def test_a_body_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly that many bytes are read, compressed or not."""
    monkeypatch.setattr(exchange, "MAX_BODY_BYTES", 65_536)
    wire = gzip.compress(b"x" * 65_536)
    async with serving(replies(reply(200, wire, Content_Encoding="gzip"))) as (_, transport):
        answer = await transport.send(GET, budget())

    assert answer.body == b"x" * 65_536


# --- other origins, certificates


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("request_", [GET, KEYED], ids=["GET", "POST"])
async def test_a_redirect_elsewhere_is_not_followed(status: int, request_: Request) -> None:
    """To another origin: that sees nothing, the key stays; one request, and a hint."""
    async with RawServer(replies(OK)) as other:
        redirect = replies(reply(status, Location=f"{other.url}/x"))
        async with serving(redirect) as (server, transport):
            error = await failing(transport.send(request_, budget()))

    assert type(error) is RedirectError
    assert "redirected" in str(error)
    assert "base_url" in str(error)
    assert len(server.requests) == 1
    assert other.connections == 0


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate for localhost, of an authority nobody knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    issued.write_to_path(folder / "server.pem")
    context.load_cert_chain(folder / "server.pem")
    return context
