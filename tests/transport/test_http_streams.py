"""One event stream over a real socket: its events and its ends."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import anyio
import pytest

from elluminate_async.errors import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    DeadlineError,
    ElluminateError,
    NotFoundError,
    ProtocolError,
    ServerError,
    TransportError,
)
from elluminate_async.testing.clock import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, replies, reply
from elluminate_async.transport import exchange
from elluminate_async.transport.http import HttpTransport
from tests.transport.wiring import (
    GET,
    HEAD,
    POST,
    UNREADABLE,
    all_closed,
    budget,
    chunked,
    hang,
    serving,
    then_close,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


# --- streams


def event_stream(*parts: bytes, content_type: str = "text/event-stream") -> Script:
    """Sends the parts one by one, and closes."""

    async def script(received: Received, connection: Connection) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
        await connection.send(head.encode())
        for part in parts:
            await connection.send(part)
            await anyio.sleep(0.005)

    return script


async def listened(
    transport: HttpTransport, seen: list[str] | None = None, **clocks: float
) -> list[str]:
    seen = [] if seen is None else seen
    async with transport.stream(GET, budget(**clocks)) as events:
        async for event in events:
            seen.append(event.data)
    return seen


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/event-stream; charset=UTF-8"])
async def test_a_stream_gives_its_events(content_type: str) -> None:
    """As they come, whatever the borders of the reads; what is unfinished at the end is not."""
    parts = (b"data: 1\r", b"\n\r\nda", b"ta: 2\n\n: ping\n\n", b"data: unfinished\n")
    async with serving(event_stream(*parts, content_type=content_type)) as (server, transport):
        assert await listened(transport) == ["1", "2"]

    assert server.requests[0].headers["accept"] == "application/json, text/event-stream"


async def test_a_streams_event_comes_before_its_end() -> None:
    """Nothing is held back until the stream closes."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(HEAD + b"data: 1\n\n")
        await connection.client_left()

    async with (
        serving(script) as (_, transport),
        transport.stream(GET, budget()) as events,
    ):
        assert (await anext(aiter(events))).data == "1"


@pytest.mark.parametrize(("ends", "connections"), [(True, 1), (False, 2)])
async def test_a_streams_connection_is_used_again(ends: bool, connections: int) -> None:
    """A stream that was left at its last event is waited for, shortly, until its end comes."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def script(received: Received, connection: Connection) -> bytes:
        await connection.send(head + b"9\r\ndata: 1\n\n\r\n")
        await anyio.sleep(0.003)
        if not ends:
            await connection.client_left()
        return b"0\r\n\r\n"

    async with serving(script) as (server, transport):
        for _ in range(2):
            async with transport.stream(GET, budget()) as events:
                assert (await anext(aiter(events))).data == "1"
        assert server.connections == connections


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationError), (404, NotFoundError), (503, ServerError), (418, APIError)],
)
async def test_a_stream_that_is_refused(status: int, kind: type[APIError]) -> None:
    """The status decides before the content type; it is opened once."""
    answer = reply(status, b'{"detail": "no"}', Content_Type="text/event-stream")
    async with serving(replies(answer)) as (server, transport):
        with pytest.raises(kind) as caught:
            await listened(transport)

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.detail) == (status, "no")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>Sign in</html>", Content_Type="text/html"),
        reply(200, b'{"status": "SUCCESS"}'),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        reply(302, Location="http://127.0.0.1:9/"),
    ],
)
async def test_an_answer_that_is_no_stream(answer: bytes) -> None:
    """A `ProtocolError` that quotes what came instead."""
    async with serving(replies(answer)) as (_, transport):
        with pytest.raises(ProtocolError, match=r"without an event stream|redirected"):
            await listened(transport)


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_unreadable_answer_to_a_stream(answer: bytes) -> None:
    """An error of ours too, and nothing else."""
    async with serving(then_close(answer)) as (_, transport):
        with pytest.raises(TransportError):
            await listened(transport)


async def test_a_silent_stream() -> None:
    """It is given up; a heartbeat would have kept it."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(HEAD + b"data: 1\n\n")
        for _ in range(6):
            await anyio.sleep(0.05)
            await connection.send(b": ping\n\n")
        await connection.client_left()

    async with serving(script) as (_, transport):
        started = asyncio.get_running_loop().time()
        with pytest.raises(AttemptTimeoutError, match=r"silent for 0\.2 s"):
            await listened(transport, stream_silence=0.2)

    assert asyncio.get_running_loop().time() - started >= 0.5


async def test_the_deadline_on_a_stream() -> None:
    """Heartbeats do not carry a stream over the deadline of the call."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(HEAD)
        while True:
            await anyio.sleep(0.02)
            await connection.send(b": ping\n\n")

    async with serving(script) as (_, transport):
        with anyio.fail_after(3), pytest.raises(DeadlineError):
            await listened(transport, deadline=0.2)


async def test_a_stream_that_does_not_open() -> None:
    """The attempt's clock is for the opening only."""
    async with serving(hang) as (_, transport):
        with pytest.raises(AttemptTimeoutError):
            await listened(transport, attempt_timeout=0.1)


async def test_a_stream_outlives_an_attempts_clock() -> None:
    """Once open it lasts as long as it is not silent."""
    parts = [b"data: x\n\n"] * 40
    async with serving(event_stream(*parts)) as (_, transport):
        assert await listened(transport, attempt_timeout=0.1) == ["x"] * 40


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_stream_that_breaks(broken: bytes) -> None:
    """A length that is not reached, a chunk that is missing: no end as usual."""
    body = b"data: 1\n\n" if b"999" in broken else b"9\r\ndata: 1\n\n\r\n"
    seen: list[str] = []
    async with serving(then_close(broken + body)) as (_, transport):
        with pytest.raises(TransportError):
            await listened(transport, seen)

    assert seen == ["1"]


async def test_a_stream_that_is_left() -> None:
    """Leaving the block closes the connection and gives the permit back."""

    async def endless(received: Received, connection: Connection) -> None:
        await connection.send(HEAD)
        while True:
            await connection.send(b"data: x\n\n" * 5_000)

    async with serving(endless) as (server, transport):
        async with transport.stream(GET, budget()) as events:
            async for _ in events:
                break
        await all_closed(server)
        assert transport._admission.held == 0


async def test_a_stream_with_an_endless_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capped, and the connection is closed."""
    monkeypatch.setattr("elluminate_async.transport.sse.MAX_LINE_BYTES", 1 << 20)

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(HEAD)
        while True:
            await connection.send(b"x" * 65_536)

    async with serving(script) as (server, transport):
        with pytest.raises(ProtocolError, match="line is over"):
            await listened(transport)
        await all_closed(server)


async def test_whatever_comes_is_an_error_of_ours() -> None:
    """Random bytes, random cuts of a good answer: a result or an `ElluminateError`."""
    seeded = random.Random(7)
    good = reply(200, b'{"a": [1, 2, 3]}', X_Request_Id="r", Retry_After="1") + chunked(b"{}")

    def mangled() -> bytes:
        data = bytearray(good[: seeded.randrange(len(good))])
        for _ in range(seeded.randrange(6)):
            if data:
                data[seeded.randrange(len(data))] = seeded.randrange(256)
        return bytes(data)

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(mangled())

    ends: list[type[Exception]] = []
    async with serving(script) as (_, transport):
        for _ in range(300):
            try:
                await transport.send(POST, budget(attempt_timeout=2))
            except ElluminateError as error:
                ends.append(type(error))

    assert {ProtocolError, TransportError} <= set(ends)
    assert all(issubclass(end, TransportError | APIError) for end in ends)


def test_the_header_of_the_key_is_added_in_one_place() -> None:
    """No other module of the transport reveals the secret."""
    folder = Path(exchange.__file__).parent
    revealing = [path.name for path in folder.glob("*.py") if ".reveal()" in path.read_text()]

    assert revealing == ["session.py"]
