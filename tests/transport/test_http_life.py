"""Clocks, permits, the key, and what cancelling and closing leave behind."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio
import pytest

from elluminate_async.errors import (
    AttemptTimeoutError,
    ClientClosedError,
    DeadlineError,
    ElluminateError,
    TransportError,
    WrongEventLoopError,
)
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, replies, reply
from elluminate_async.transport.exchange import Answer, Request
from elluminate_async.transport.http import HttpTransport
from tests.transport.wiring import (
    GET,
    HEAD,
    KEY,
    KEYED,
    OK,
    POST,
    all_closed,
    budget,
    failing,
    hang,
    nobody_listens,
    serving,
    settings_for,
    transport_to,
    until_accepted,
    until_received,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


# --- clocks


async def test_an_answer_that_does_not_come() -> None:
    """The attempt's clock ends it: ambiguous for a POST, sent once."""
    async with serving(hang) as (server, transport):
        error = await failing(transport.send(POST, budget(attempt_timeout=0.1)))

    assert type(error) is AttemptTimeoutError
    assert (error.sent, error.ambiguous) == (True, True)
    assert "0.1 s" in str(error)
    assert len(server.requests) == 1


async def test_an_answer_that_comes_in_drops() -> None:
    """A byte now and then does not keep an attempt alive: its clock is for the whole of it."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await connection.send(b"x")
            await anyio.sleep(0.01)

    async with serving(script) as (_, transport):
        error = await failing(transport.send(POST, budget(attempt_timeout=0.15)))

    assert type(error) is AttemptTimeoutError


async def test_a_get_that_times_out_is_repeated() -> None:
    """Each attempt has the clock for itself."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if len(server.requests) < 3:
            await connection.client_left()
            return None
        return OK

    async with serving(script) as (server, transport):
        answer = await transport.send(GET, budget(attempt_timeout=0.1))

    assert answer.attempts == 3


async def test_the_wait_for_a_permit_is_on_no_attempts_clock() -> None:
    """Six requests of 0.1 s on one connection, 0.25 s for an attempt: all succeed."""

    async def script(received: Received, connection: Connection) -> bytes:
        await anyio.sleep(0.1)
        return OK

    answers: list[Answer] = []
    async with serving(script, connections=1) as (server, transport):

        async def send() -> None:
            answers.append(await transport.send(POST, budget(attempt_timeout=0.25)))

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(send)

    assert [answer.attempts for answer in answers] == [1] * 6
    assert server.peak == 1


async def test_the_deadline_while_waiting_for_a_permit() -> None:
    """Nothing was sent, so nothing is ambiguous."""
    async with serving(hang, connections=1) as (server, transport):
        first = asyncio.ensure_future(transport.send(GET, budget()))
        await until_received(server, 1)
        error = await failing(transport.send(POST, budget(0.1)))
        first.cancel()
        await asyncio.wait({first})

    assert type(error) is DeadlineError
    assert not error.ambiguous
    assert len(server.requests) == 1


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_the_deadline_during_an_attempt(request_: Request) -> None:
    """It cuts the attempt's clock, and is what the error names; the service may have acted."""
    async with serving(hang) as (server, transport):
        error = await failing(transport.send(request_, budget(0.15)))

    assert isinstance(error, DeadlineError)
    assert (error.ambiguous, error.attempts) == (True, 1)
    assert len(server.requests) == 1


async def test_the_deadline_during_a_later_attempt() -> None:
    """Counted, and what an earlier attempt left open stays open."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if len(server.requests) < 3:
            return reply(503)
        return await hang(received, connection)

    async with serving(script) as (server, transport):
        error = await failing(transport.send(GET, budget(30, attempt_timeout=100)))

    assert isinstance(error, DeadlineError)
    assert (error.ambiguous, error.attempts) == (True, 3)


async def test_the_deadline_while_connecting() -> None:
    """No byte was sent, so nothing is ambiguous."""
    with full_backlog() as url:
        async with transport_to(url) as transport:
            error = await failing(transport.send(POST, budget(0.2)))

    assert isinstance(error, DeadlineError)
    assert (error.ambiguous, error.attempts) == (False, 1)


async def test_the_deadline_while_a_stream_opens() -> None:
    """It is what the error names there too."""
    async with serving(hang) as (_, transport):
        with pytest.raises(DeadlineError):
            async with transport.stream(GET, budget(0.15)):
                pass


async def test_a_deadline_that_has_passed() -> None:
    """Nothing is sent."""
    async with serving(replies(OK)) as (server, transport):
        error = await failing(transport.send(GET, budget(-1)))

    assert type(error) is DeadlineError
    assert server.connections == 0


@contextmanager
def full_backlog() -> Generator[str]:
    """An address where connections are neither made nor refused."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            for filler in fillers:
                filler.close()


# --- how many at once


async def test_connections_bound_what_is_on_the_wire() -> None:
    """The bound is reached, and holds until the answers' bodies are read."""

    async def script(received: Received, connection: Connection) -> bytes:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await anyio.sleep(0.01)
        return b"{}"

    async with (
        serving(script, connections=7) as (server, transport),
        anyio.create_task_group() as tasks,
    ):
        for request in (GET, POST) * 30:
            tasks.start_soon(transport.send, request, budget())

    assert server.peak == 7
    assert server.connections == 7


async def test_connections_are_opened_ahead() -> None:
    """As many as are asked for, an idle one counted in: the requests that follow open no more."""
    begun = asyncio.Barrier(5)

    async def script(received: Received, connection: Connection) -> bytes:
        if received.method == "POST":
            await begun.wait()
        return OK

    async with serving(script) as (server, transport):
        await transport.send(GET, budget())
        await transport.open_ahead(5, budget())
        await until_accepted(server, 5)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(transport.send, POST, budget())

        assert server.connections == 5
        await transport.close()
        await all_closed(server)


async def test_what_cannot_be_opened_ahead_is_left_to_the_requests() -> None:
    """Nothing is raised where nobody listens, and a client's bound on connections holds."""
    with nobody_listens() as sock:
        async with transport_to(f"http://127.0.0.1:{sock.getsockname()[1]}") as transport:
            await transport.open_ahead(3, budget())

    async with serving(hang, connections=2) as (server, transport):
        await transport.open_ahead(100, budget())
        await until_accepted(server, 2)
        await anyio.sleep(1)

        assert server.connections == 2


async def test_more_connections_than_aiohttps_default() -> None:
    """Asked for 150, 150 are on the wire."""
    everybody = anyio.Event()

    async def script(received: Received, connection: Connection) -> bytes:
        if len(server.requests) == 150:
            everybody.set()
        await everybody.wait()
        return OK

    async with (
        serving(script, connections=150) as (server, transport),
        anyio.create_task_group() as tasks,
    ):
        for request in (GET, POST) * 75:
            tasks.start_soon(transport.send, request, budget())

    assert server.peak == 150


# --- the key


async def test_the_key_is_nowhere_but_in_the_header(caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs at DEBUG, errors, reprs or pickles, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    found: list[object] = []
    async with serving(
        replies(reply(503), reply(500), b"garbage\r\n\r\n", reply(500), reply(401), reply(302), OK)
    ) as (server, transport):
        for _ in range(4):
            try:
                found.append(await transport.send(GET, budget()))
            except ElluminateError as error:
                found += [
                    error,
                    error.args,
                    vars(error),
                    getattr(error, "__notes__", []),
                    pickle.dumps(error),
                ]
                found += [error.__cause__, error.__context__]
        found += [transport, vars(transport), transport._settings, GET, KEYED]

    assert len(server.requests) == 7
    assert all(KEY in seen.headers["x-api-key"] for seen in server.requests)
    assert all(KEY not in seen.target for seen in server.requests)
    assert caplog.records
    for record in caplog.records:
        found += [record.getMessage(), vars(record)]
    assert [text for text in map(str, found) if KEY in text] == []
    assert [text for text in map(repr, found) if KEY in text] == []


# --- the client's life


async def test_a_closed_client() -> None:
    """Says so at once; closing again does nothing."""
    async with serving(replies(OK)) as (server, transport):
        await transport.send(GET, budget())
        await transport.close()
        await transport.close()
        error = await failing(transport.send(GET, budget()))

    assert type(error) is ClientClosedError
    assert len(server.requests) == 1


def test_a_second_event_loop() -> None:
    """An error that says what to do, instead of a future of another loop."""
    transport = HttpTransport(
        settings_for("http://127.0.0.1:9"), limits=Limits(1, None), connections=1
    )

    async def first() -> None:
        transport.check_usable()

    async def second() -> None:
        await transport.send(GET, budget())

    asyncio.run(first())
    with pytest.raises(WrongEventLoopError, match="one AsyncClient per loop"):
        asyncio.run(second())


async def test_closing_during_a_request() -> None:
    """The request ends with an error of ours, and the socket is closed."""
    async with serving(hang) as (server, transport):
        sending = asyncio.ensure_future(failing(transport.send(POST, budget())))
        await until_received(server, 1)
        await transport.close()
        error = await sending

    assert isinstance(error, TransportError | ClientClosedError)


async def cancelled_after(
    condition: Callable[[], bool], sending: Callable[[], Awaitable[object]]
) -> None:
    """Cancel ``sending()`` once ``condition()`` holds; it must end by that cancellation."""
    tasks_before = asyncio.all_tasks()
    task = asyncio.ensure_future(sending())
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.002)
    await anyio.sleep(0.01)
    assert task.cancel()
    with anyio.fail_after(1), pytest.raises(asyncio.CancelledError):
        await task
    # The server's own tasks aside.
    left = {t for t in asyncio.all_tasks() - tasks_before if "_serve" not in repr(t)}
    assert left == set()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", HEAD, HEAD + b"data: x\n"])
async def test_cancelled_during_a_request(sent: bytes) -> None:
    """Before the answer, in its headers, in its body: permit back, socket closed, no task."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(sent)
        await connection.client_left()

    async with serving(script) as (server, transport):
        await cancelled_after(
            lambda: len(server.requests) == 1, lambda: transport.send(POST, budget())
        )
        assert transport._admission.held == 0
        await all_closed(server)


async def test_cancelled_while_waiting_for_a_permit() -> None:
    """The next in line gets it."""
    async with serving(hang, connections=1) as (server, transport):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.send, GET, budget())
            await until_received(server, 1)
            await cancelled_after(lambda: True, lambda: transport.send(GET, budget()))
            tasks.cancel_scope.cancel()
        assert transport._admission.held == 0
    assert len(server.requests) == 1


async def test_cancelled_between_attempts() -> None:
    """The wait before the next attempt is cut short, and there is no next attempt."""
    async with serving(replies(reply(503, Retry_After="30"))) as (server, transport):
        await cancelled_after(
            lambda: len(server.requests) == 1, lambda: transport.send(GET, budget(60))
        )
    assert len(server.requests) == 1


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"data: 1\n\ndata: 2"])
async def test_cancelled_on_a_stream(sent: bytes) -> None:
    """While it opens, before its first event, in the midst of one."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.send(sent)
        await connection.client_left()

    async with serving(script) as (server, transport):

        async def listen() -> None:
            async with transport.stream(GET, budget()) as events:
                async for _ in events:
                    pass

        await cancelled_after(lambda: len(server.requests) == 1, listen)
        assert transport._admission.held == 0
        await all_closed(server)
