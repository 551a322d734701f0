"""Being told to wait, in virtual time: who waits, how long, and how it ends."""

from __future__ import annotations

import asyncio
import math
import random
import time
from itertools import pairwise

import anyio
import pytest

from elluminate_async.errors import (
    APIError,
    ClientClosedError,
    ConflictError,
    DeadlineError,
    ElluminateError,
    RateLimitError,
    ServerError,
)
from elluminate_async.limits.fairness import Share
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.ticket import Ticket
from elluminate_async.testing.clock import VIRTUAL_TIME, VirtualLoop
from elluminate_async.testing.raw import RawServer, replies, reply
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.http import HttpTransport
from elluminate_async.transport.retry import Policy
from tests.matrix import Fired
from tests.transport.wiring import GET, KEYED, POST, budget, hang, serving, settings_for

OK = reply(200)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def failing(transport: HttpTransport, request: Request, policy: Policy) -> ElluminateError:
    with pytest.raises(ElluminateError) as caught:
        await transport.send(request, policy)
    return caught.value


def gaps(server: RawServer) -> list[float]:
    return [b.at - a.at for a, b in pairwise(server.requests)]


async def test_a_429_is_waited_out() -> None:
    """Never earlier than ``Retry-After``, at most a tenth later; a POST too."""
    async with serving(replies(reply(429, Retry_After="20"), OK)) as (server, transport):
        answer = await transport.send(POST, budget(100))

    assert answer.attempts == 2
    assert 20 <= gaps(server)[0] <= 22.1


async def test_a_429_holds_the_whole_client() -> None:
    """A neighbour that was told nothing waits as well; then all go on."""
    async with (
        serving(replies(reply(429, Retry_After="20"), OK)) as (server, transport),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(transport.send, GET, budget(100))
        while not server.requests:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        await anyio.sleep(0.5)
        for _ in range(5):
            tasks.start_soon(transport.send, GET, budget(100))

    assert len(server.requests) == 7
    assert all(seen.at - server.requests[0].at >= 20 for seen in server.requests[1:])


async def test_a_429_is_no_attempt() -> None:
    """Thirty of them in a row, then two failures: the third attempt succeeds."""
    told = [reply(429, Retry_After="1")] * 30
    async with serving(replies(*told, reply(503), reply(503), OK)) as (server, transport):
        answer = await transport.send(GET, budget(1000, max_attempts=3))

    assert answer.attempts == 33
    assert len(server.requests) == 33


@pytest.mark.row(4)
async def test_a_429_without_a_time(fired: Fired, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own back-off, jittered over all of 1, 2, 4, … 20 s, and fewer at once from then on."""
    ends: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ends.append((low, high))
        return random.Random(len(ends)).uniform(low, high)

    monkeypatch.setattr(random, "uniform", uniform)
    async with serving(replies(*[reply(429)] * 40, OK)) as (server, transport):
        limits = transport._limits
        assert isinstance(limits, Limits)
        before = limits._gate.limit
        await transport.send(GET, budget(10_000))
        after = limits._gate.limit
        fired(times=len(server.requests) - 1)

    backing_off = [pair for pair in ends if pair[1] >= 1]
    assert backing_off[:6] == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (0, 20)]
    assert set(backing_off[6:]) == {(0, 20)}
    assert max(gaps(server)) <= 22.1
    assert sum(gaps(server)) > 60
    assert after < before


@pytest.mark.row(5)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("retry_after", ["7", ""])
async def test_429_for_ever(
    seed: int, retry_after: str, monkeypatch: pytest.MonkeyPatch, fired: Fired
) -> None:
    """Ends by the deadline as a `RateLimitError`, whatever the jitter; nothing is ambiguous."""
    monkeypatch.setattr(random, "uniform", random.Random(seed).uniform)
    async with serving(replies(reply(429, Retry_After=retry_after))) as (server, transport):
        started = time.monotonic()
        error = await failing(transport, POST, budget(60, max_attempts=3))
        fired(times=len(server.requests))

    assert type(error) is RateLimitError
    assert not error.ambiguous
    assert error.attempts == len(server.requests) > 3
    assert time.monotonic() - started <= 61


async def test_a_neighbours_hold_over_the_deadline() -> None:
    """Told to wait once, and then held by others until its end: still the service's 429."""
    async with serving(replies(reply(429, Retry_After="5"))) as (server, transport):
        asyncio.get_running_loop().call_later(3, transport._limits.hold, 500)
        error = await failing(transport, GET, budget(60))

    assert type(error) is RateLimitError
    assert len(server.requests) == 1


async def test_a_hold_over_the_deadline_of_a_request_that_was_told_nothing() -> None:
    """It is not sent, and does not wait for what it cannot outlast: it says how long at once."""
    async with serving(replies(OK)) as (server, transport):
        transport._limits.hold(100)
        started = time.monotonic()
        error = await failing(transport, GET, budget(60))

    assert time.monotonic() - started < 0.1
    assert type(error) is RateLimitError
    assert error.retry_after == pytest.approx(100)
    assert error.attempts == 0
    assert server.requests == []


async def test_a_hold_is_tolerated_by_the_time_that_was_asked_for() -> None:
    """Its jitter of a tenth aside: 120 s are waited out at a bound of 120, and 121 are not."""
    async with serving(replies(OK)) as (server, transport):
        transport._limits.hold(121)
        error = await failing(transport, GET, budget(10_000, max_retry_after=120))
        await anyio.sleep(1.5)
        await transport.send(GET, budget(10_000, max_retry_after=120))

    assert type(error) is RateLimitError
    assert len(server.requests) == 1


@pytest.mark.row(3)
@pytest.mark.parametrize("seconds", ["3600", "1e9"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_time_beyond_what_may_be_waited(status: int, seconds: str, fired: Fired) -> None:
    """Fails at once with the figure in the error, and is not sent earlier instead."""
    async with serving(replies(reply(status, Retry_After=seconds))) as (server, transport):
        started = time.monotonic()
        error = await failing(transport, GET, budget(10_000, max_retry_after=120))
        fired()

    assert isinstance(error, APIError)
    assert (error.status, error.retry_after, error.attempts) == (status, float(seconds), 1)
    assert f"told to wait {float(seconds):g} s" in str(error)
    assert time.monotonic() - started < 2
    assert len(server.requests) == 1


async def test_one_attempt_is_one_request() -> None:
    """`max_attempts=1` is honoured for a 429 as well."""
    async with serving(replies(reply(429, Retry_After="1"))) as (server, transport):
        error = await failing(transport, GET, budget(max_attempts=1))

    assert type(error) is RateLimitError
    assert len(server.requests) == 1


async def test_a_key_in_flight_is_waited_for() -> None:
    """409 with a time for a keyed POST: the same key again, no attempt used, nobody held."""
    busy = reply(409, Retry_After="10")
    async with serving(replies(busy, busy, OK)) as (server, transport):
        sending = asyncio.ensure_future(transport.send(KEYED, budget(100, max_attempts=2)))
        await anyio.sleep(1)
        with anyio.fail_after(0.001):
            await transport._limits.admit()
        answer = await sending

    assert answer.attempts == 3
    assert [seen.headers["idempotency-key"] for seen in server.requests] == ["key-1"] * 3
    assert gaps(server) == pytest.approx([10, 10], abs=0.5)


async def test_a_key_that_stays_in_flight_is_no_proof() -> None:
    """A proxy may have sent it before: the request is at work under its own key."""
    async with serving(replies(reply(409, Retry_After="20"))) as (_, transport):
        error = await failing(transport, KEYED, budget(50))

    assert type(error) is ConflictError
    assert error.ambiguous


async def test_a_conflict_without_a_time_is_final() -> None:
    """A name that exists is not waited for."""
    async with serving(replies(reply(409))) as (server, transport):
        error = await failing(transport, KEYED, budget())

    assert type(error) is ConflictError
    assert len(server.requests) == 1


async def test_the_time_of_a_503_is_obeyed() -> None:
    """For a request that may be repeated."""
    async with serving(replies(reply(503, Retry_After="30"), OK)) as (server, transport):
        await transport.send(GET, budget(100))

    assert gaps(server)[0] == pytest.approx(30, abs=0.5)


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.row(2)
@pytest.mark.parametrize(
    "when",
    [
        "Sun, 06 Nov 1994 08:49:57 GMT",
        "Sunday, 06-Nov-94 08:49:57 GMT",
        "Sun Nov  6 08:49:57 1994",
    ],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
async def test_the_date_of_a_retry_after(when: str, fired: Fired) -> None:
    """Each of the three forms, read against the answer's own clock, however wrong that is."""
    told = reply(429, Date=DATE, Retry_After=when)
    async with serving(replies(told, OK)) as (server, transport):
        await transport.send(GET, budget(100))
        fired()

    assert 20 <= gaps(server)[0] <= 22.1


@pytest.mark.row(2)
async def test_a_date_of_a_retry_after_that_has_passed(fired: Fired) -> None:
    """The client's own back-off: neither at once and for ever, nor a wait of decades."""
    told = reply(429, Date=DATE, Retry_After="Sun, 06 Nov 1994 08:49:00 GMT")
    async with serving(replies(told, told, told, OK)) as (server, transport):
        await transport.send(GET, budget(100))
        fired(times=3)

    assert 0 < sum(gaps(server)) < 1 + 2 + 4 + 0.5


def telling_twice(status: int) -> bytes:
    return reply(status).replace(b"\r\n", b"\r\nRetry-After: 9\r\nRetry-After: 7\r\n", 1)


@pytest.mark.row(3)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("bad", ["nan", "inf", "-1", "", "soon", "twice"])
async def test_a_useless_retry_after(bad: str, status: int, fired: Fired) -> None:
    """The client's own back-off instead: no crash, no wait without end."""
    told = telling_twice(status) if bad == "twice" else reply(status, Retry_After=bad)
    async with serving(replies(told, OK)) as (server, transport):
        answer = await transport.send(GET, budget(100))
        fired()

    assert answer.attempts == 2
    assert gaps(server)[0] < 1.2


async def test_the_deadline_ends_repeating() -> None:
    """No wait is begun that the deadline would cut; the last answer is the error."""
    async with serving(replies(reply(503, Retry_After="10"))) as (server, transport):
        started = time.monotonic()
        error = await failing(transport, GET, budget(35, max_attempts=100))

    assert type(error) is ServerError
    assert len(server.requests) == 4
    assert time.monotonic() - started < 35


async def _outage(transport: HttpTransport) -> None:
    """From here on nothing but probes is sent until there is an answer."""
    for _ in range(30):
        transport._limits.failed("HTTP 503")
        await anyio.sleep(0.2)


async def test_a_probe_that_is_told_to_wait() -> None:
    """It holds the whole client, as the 429 of any other request does."""
    async with serving(replies(reply(429, Retry_After="20"), OK)) as (server, transport):
        await _outage(transport)
        await transport.send(POST, budget(100))

    assert [seen.method for seen in server.requests] == ["GET", "POST"]
    assert 20 <= gaps(server)[0] <= 22.1


async def test_a_client_closed_while_its_probe_is_out() -> None:
    """The request that waits for the probe was not sent, and its error says so."""
    errors: list[ElluminateError] = []

    async with serving(hang) as (server, transport):
        await _outage(transport)

        async def send() -> None:
            errors.append(await failing(transport, POST, budget(100)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while not server.requests:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            await transport.close()

    assert [type(error) for error in errors] == [ClientClosedError]
    assert not errors[0].ambiguous


class Delaying(Limits):
    """Admits after the deadline, by a step that gives no timer a chance to run."""

    def __init__(self) -> None:
        super().__init__(1, None)

    def try_admit(
        self, *, items: int = 0, cost: int = 0, chunk: bool = False, patience: float = math.inf
    ) -> Ticket | None:
        return None

    async def admit(
        self,
        *,
        items: int = 0,
        cost: int = 0,
        chunk: bool = False,
        patience: float = math.inf,
        share: Share | None = None,
    ) -> Ticket:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.now += 100
        return Ticket(0)


async def test_a_deadline_that_passes_at_the_moment_of_admission() -> None:
    """A `DeadlineError` for a request and for a stream: the service was never asked."""
    async with RawServer(replies(OK)) as server:
        transport = HttpTransport(settings_for(server.url), limits=Delaying(), connections=1)
        sending = await failing(transport, GET, budget(10))
        with pytest.raises(ElluminateError) as caught:
            async with transport.stream(GET, budget(10)):
                pass
        await transport.close()

    assert type(sending) is DeadlineError
    assert type(caught.value) is DeadlineError
    assert server.requests == []
