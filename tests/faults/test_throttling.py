"""A service that is slow, full or away: who waits, for how long, and who does not."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from elluminate_async.errors import DeadlineError
from elluminate_async.testing.clock import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script
from elluminate_async.transport.exchange import Request
from tests.matrix import Fired
from tests.transport.wiring import GET, HEAD, OK, POST, budget, failing, serving, until_received


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


STREAM = Request("GET", ["stream"])


def slow(method: str, fired: Fired) -> Script:
    """Takes 100 s for requests of this method, and none for others and for streams."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if received.path == "/stream":
            await connection.send(HEAD + b"data: 1\n\n")
            return None
        if received.method == method:
            fired()
            with anyio.move_on_after(100):
                await connection.client_left()
        return OK

    return script


@pytest.mark.row(28)
@pytest.mark.parametrize(("taking", "other"), [(POST, GET), (GET, POST)], ids=["calls", "control"])
async def test_slow_requests_leave_a_way_for_others(
    taking: Request, other: Request, fired: Fired
) -> None:
    """All connections they can get are taken: polls and streams pass calls, calls pass polls."""
    async with (
        serving(slow(taking.method, fired), connections=8) as (server, transport),
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(transport.send, taking, budget(1000, attempt_timeout=200))
        await until_received(server, 6)
        started = time.monotonic()
        for _ in range(10):
            await transport.send(other, budget())
        async with transport.stream(STREAM, budget()) as events:
            seen = [event.data async for event in events]

        assert time.monotonic() - started < 1
        assert seen == ["1"]
        assert len(server.requests) == 6 + 10 + 1


@pytest.mark.row(28)
async def test_who_waits_for_a_slow_call_is_not_sent(fired: Fired) -> None:
    """The wait for a connection ends by the deadline, and proves that nothing was sent."""
    async with serving(slow("POST", fired), connections=8) as (server, transport):
        slow_ones = [
            asyncio.ensure_future(transport.send(POST, budget(1000, attempt_timeout=200)))
            for _ in range(6)
        ]
        await until_received(server, 6)
        started = time.monotonic()
        error = await failing(transport.send(POST, budget(5)))
        waited = time.monotonic() - started
        for task in slow_ones:
            task.cancel()
        await asyncio.wait(slow_ones)

    assert type(error) is DeadlineError
    assert (error.ambiguous, error.attempts) == (False, 0)
    assert 5 <= waited < 6
    assert len(server.requests) == 6


@pytest.mark.row(28)
async def test_open_streams_leave_a_way_for_requests(fired: Fired) -> None:
    """Held for their jobs' life, they take no connection from calls and polls."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if received.path != "/stream":
            return OK
        fired()
        await connection.send(HEAD)
        await connection.client_left()
        return None

    async with serving(script, connections=8) as (server, transport):

        async def listen() -> None:
            async with transport.stream(STREAM, budget(1000, stream_silence=500)) as events:
                async for _ in events:
                    pass

        listening = [asyncio.ensure_future(listen()) for _ in range(20)]
        await until_received(server, 8)
        started = time.monotonic()
        await transport.send(POST, budget())
        await transport.send(GET, budget())
        waited = time.monotonic() - started
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)

    assert waited < 1
    assert len(server.requests) == 10
