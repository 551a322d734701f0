"""A service that is slow, full or away: who waits, for how long, and who does not."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import anyio
import pytest

from elluminate_async.errors import DeadlineError, ElluminateError
from elluminate_async.limits.breaker import DOUBT, OPEN
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, Script
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.http import PROBE, HttpTransport
from tests.matrix import Fired
from tests.transport.wiring import (
    GET,
    HEAD,
    OK,
    POST,
    budget,
    failing,
    serving,
    settings_for,
    until_received,
)


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


class Outage:
    """A service that answers in ``latency`` seconds, or drops every connection.

    Attributes:
        sent: When each request came, by its target; probes by theirs.
        peak: Most requests at work at once, since it was last set to 0.
    """

    def __init__(self, fired: Fired, latency: float) -> None:
        self.up = True
        self.latency = latency
        self.sent: defaultdict[str, list[float]] = defaultdict(list)
        self.peak = 0
        self._running = 0
        self._fired = fired

    async def __call__(self, received: Received, connection: Connection) -> bytes | None:
        self.sent[received.target].append(received.at)
        if not self.up:
            self._fired()
            return None
        self._running += 1
        self.peak = max(self.peak, self._running)
        await anyio.sleep(self.latency)
        self._running -= 1
        return OK if self.up else None

    def between(self, begin: float, end: float) -> tuple[int, int, int]:
        """First sendings, retries and probes in this time."""
        probes = self.sent.get(PROBE.target, [])
        requests = [times for target, times in self.sent.items() if target != PROBE.target]
        first = sum(begin <= times[0] < end for times in requests)
        again = sum(begin <= at < end for times in requests for at in times[1:])
        return first, again, sum(begin <= at < end for at in probes)


@pytest.mark.unmeasured
@pytest.mark.row(70)
@pytest.mark.parametrize("workers", [DOUBT, 10, 24])
async def test_an_outage_of_a_minute(workers: int, fired: Fired) -> None:
    """Waited out: no request fails, retries stop, a probe a second, and no rush afterwards.

    Of fewer than five at work, one may have used up its attempts before it is an outage.
    """
    service = Outage(fired, latency=0.5)
    answers = before = 0
    async with serving(service, connections=26) as (_, transport):
        begin = time.monotonic()

        async def work(worker: int) -> None:
            nonlocal answers
            for number in range(200):
                request = Request("POST", [worker, number], idempotency_key="k", key_honoured=True)
                await transport.send(request, budget(1000))
                answers += 1

        async with anyio.create_task_group() as tasks:
            for worker in range(workers):
                tasks.start_soon(work, worker)
            await anyio.sleep(20)
            before, service.peak, service.up = service.peak, 0, False
            await anyio.sleep(60)
            service.up = True

    first, again, probes = service.between(begin + 20, begin + 80)
    assert answers == workers * 200
    assert before == workers
    assert service.peak <= 1.2 * before
    assert first + again <= 2 * workers + DOUBT
    assert again <= DOUBT
    assert 50 <= probes <= 61


@pytest.mark.unmeasured
@pytest.mark.row(70)
async def test_an_outage_while_requests_keep_coming(fired: Fired) -> None:
    """Ten a second by themselves, not when others end: hundreds wait, and are let in slowly."""
    service = Outage(fired, latency=0.5)
    lost: list[int] = []
    async with serving(service, connections=26) as (_, transport):
        begin = back = time.monotonic()
        before = after = 0

        async def send(number: int) -> None:
            try:
                await transport.send(Request("GET", [number]), budget(1000))
            except ElluminateError:
                lost.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(900):
                tasks.start_soon(send, number)
                await anyio.sleep(0.1)
                if number == 200:
                    before, service.peak, service.up = service.peak, 0, False
                if number == 800:
                    service.up = True
                    back = time.monotonic()
            await anyio.sleep(back + 10 - time.monotonic())
            after = service.peak

    first, again, probes = service.between(begin + 20.5, back)
    # One may have used up its attempts before there was a doubt.
    assert len(lost) <= 1
    assert len(service.sent) == 900 + 1
    assert before == pytest.approx(6, abs=1)
    assert after <= 1.2 * before
    # Twenty failures open it; until then first sendings go, and of those none again.
    assert first <= OPEN + before
    assert again <= 0.1 * first + DOUBT
    assert 50 <= probes <= 60


@pytest.mark.row(70)
async def test_an_outage_longer_than_the_deadline(fired: Fired) -> None:
    """Who was refused and then waits ends by its deadline, with what was wrong in the text."""
    service = Outage(fired, latency=0.1)
    service.up = False
    errors: list[DeadlineError] = []
    async with serving(service, connections=26) as (_, transport):

        async def send() -> None:
            with pytest.raises(DeadlineError) as caught:
                await transport.send(GET, budget(30, max_attempts=10))
            errors.append(caught.value)

        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(send)

    assert all("the connection broke during GET" in str(error) for error in errors)
    assert time.monotonic() - started == pytest.approx(30, abs=0.1)
    assert {error.attempts for error in errors} <= {1, 2}


@pytest.mark.row(71)
async def test_a_service_that_gets_slow_is_not_throttled(fired: Fired) -> None:
    """Twenty times the latency and no error: as many at once as before, for nobody a bound."""
    latency = 0.2
    quick = slow = 0

    async def script(received: Received, connection: Connection) -> bytes:
        if latency > 1:
            fired()
        await anyio.sleep(latency)
        return OK

    limits = Limits(10, None)
    async with RawServer(script) as server:
        transport = HttpTransport(settings_for(server.url), limits=limits, connections=26)

        share = limits.share()

        async def work() -> None:
            for _ in range(100):
                await share.acquire()
                await transport.send(POST, budget(1000))
                share.release()

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(work)
            await anyio.sleep(10)
            quick, latency, server.peak = len(server.requests), 4.0, 0
            await anyio.sleep(100)
            slow = len(server.requests) - quick
            latency = 0.0
        await transport.close()

    assert quick == pytest.approx(10 / 0.2 * 10, rel=0.05)
    assert slow == pytest.approx(100 / 4.0 * 10, rel=0.05)
    assert server.peak == 10
    assert (limits._gate.limit, limits._pace.rate) == (10, None)
