"""Limits in virtual time: strict in any window, nearly used up, and every permit comes back."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import RateLimit
from elluminate_async.limits.limits import Limits, Traffic
from elluminate_async.limits.strict import StrictLimits, strict_limiter
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually

EPSILON = 1e-6  # of a period: what floating point adds and takes away


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def most_in_a_window(times: list[float], period: float) -> int:
    """The largest count in any half-open window."""
    width = period * (1 - EPSILON)
    return max(bisect_left(times, start + width) - i for i, start in enumerate(times))


async def admissions(limit: RateLimit, count: int) -> list[float]:
    limiter = strict_limiter(limit)
    times: list[float] = []

    async def admit() -> None:
        await limiter.acquire()
        times.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(admit)
    return times


@pytest.mark.parametrize(
    ("requests", "period"),
    [(1, 1.0), (5, 1.0), (20, 2.0), (99, 1.0), (100, 1.0), (101, 7.0), (1000, 1.0), (600, 60.0)],
)
async def test_a_limit_is_strict_and_used(requests: int, period: float) -> None:
    """At most n in any window, and 95 % of n over the whole; a full bucket gives no second n."""
    times = await admissions(RateLimit(requests, period), requests * 6)

    assert most_in_a_window(times, period) <= requests
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.95 * requests / period


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 400),
    st.sampled_from([0.1, 1.0, 2.0, 60.0]),
    st.lists(st.floats(0, 3), max_size=30),
)
def test_a_limit_is_strict_after_pauses_too(n: int, period: float, pauses: list[float]) -> None:
    """Whatever the bursts and pauses of those who ask: an idle time saves nothing up."""
    limiter = strict_limiter(RateLimit(n, period))
    times: list[float] = []

    async def bursts() -> None:
        for pause in pauses:
            for _ in range(min(n, 20)):
                await limiter.acquire()
                times.append(time.monotonic())
            await anyio.sleep(pause * period)

    run_virtually(bursts)

    assert not times or most_in_a_window(times, period) <= n


async def test_waiters_are_admitted_in_their_order() -> None:
    """Nobody overtakes: the first to ask is the first to go."""
    limits = Limits(1, RateLimit(5))
    order: list[int] = []

    async def admit(number: int) -> None:
        await limits.admit()
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(admit, number)

    assert order == list(range(40))


async def test_no_limit_waits_for_nothing() -> None:
    """Ten thousand at one moment."""
    limits = Limits(1, None)
    started = time.monotonic()
    for _ in range(10_000):
        await limits.admit()

    assert time.monotonic() == started


async def test_a_hold_admits_nothing() -> None:
    """Never early, at most a tenth late; a shorter hold does not end a longer one."""
    limits = Limits(1, None)
    started = time.monotonic()
    limits.hold(10)
    limits.hold(1)
    await limits.admit()

    assert 10 <= time.monotonic() - started <= 11


async def test_a_hold_that_begins_during_a_wait() -> None:
    """Who already waits for a window is held too."""
    limits = Limits(1, RateLimit(1, 5.0))
    await limits.admit()
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limits.admit)
        await anyio.sleep(1)
        limits.hold(60)

    assert 61 <= time.monotonic() - started <= 67


async def test_a_hold_can_be_prolonged_while_it_is_waited_out() -> None:
    """The longer one counts."""
    limits = Limits(1, None)
    started = time.monotonic()
    limits.hold(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limits.admit)
        await anyio.sleep(5)
        limits.hold(50)

    assert 55 <= time.monotonic() - started <= 60.1


async def test_the_limit_holds_across_a_hold() -> None:
    """After a hold its waiters do not come all at once."""
    limit = RateLimit(10, 1.0)
    limits = Limits(1, limit)
    times: list[float] = []

    async def admit() -> None:
        await limits.admit()
        times.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(admit)
        await anyio.sleep(1.05)
        limits.hold(20)

    assert most_in_a_window(times, limit.period) <= limit.requests


async def test_permits_for_chunks_are_counted() -> None:
    """The peak is the limit; waiting is in order."""
    limits = Limits(3, None)
    share = limits.share()
    running = peak = 0
    order: list[int] = []

    async def chunk(number: int) -> None:
        nonlocal running, peak
        await share.acquire()
        order.append(number)
        running += 1
        peak = max(peak, running)
        await anyio.sleep(1)
        running -= 1
        share.release()

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(chunk, number)

    assert peak == 3
    assert order == list(range(20))
    assert limits.free_chunks == 3


async def test_a_permit_too_many_is_a_bug() -> None:
    """More permits than there are would silently raise the limit."""
    with pytest.raises(ValueError, match="released too many times"):
        Limits(2, None).share().release()


async def test_a_cancelled_wait_for_a_window_costs_no_throughput() -> None:
    """Waiters that leave do not use up the windows of those who stay."""
    limits = Limits(1, RateLimit(10, 1.0))
    done = 0

    async def admit() -> None:
        nonlocal done
        await limits.admit()
        done += 1

    tasks = [asyncio.create_task(admit()) for _ in range(200)]
    await anyio.sleep(0.55)
    for task in tasks[100:]:
        task.cancel()
    started = time.monotonic()
    await asyncio.wait(tasks)

    assert done == 100
    assert time.monotonic() - started <= 100 / 10


def test_traffic_tells_what_requests_are_up_to() -> None:
    """Chunks in flight now, and refusals and repetitions so far; a narrowed twin counts along."""
    limits = Limits(3, None)
    share = limits.share()
    assert share.try_acquire()
    limits.narrowed(StrictLimits(RateLimit(5))).refused()
    limits.sent_again()

    assert limits.traffic == Traffic(in_flight=1, throttled=1, retried=1)
    share.release()
    assert limits.traffic.in_flight == 0
