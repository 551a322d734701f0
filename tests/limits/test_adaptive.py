"""A limit that nobody told is found, kept and found again. Virtual time; one process, no HTTP."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import anyio
import pytest

from elluminate_async.limits.adaptive import AdaptiveGate, AdaptivePace
from elluminate_async.limits.backoff import throttle_back_off
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually

ITEMS = 2_000
SLOTS = 16
HIDDEN_RATE = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@dataclass
class HiddenLimit:
    """A service with a token bucket that it tells nobody about."""

    rates: dict[float, float]
    sent: int = 0
    accepted: list[float] = field(default_factory=list[float])
    _tokens: float = HIDDEN_RATE
    _at: float = 0.0

    def rate(self, now: float) -> float:
        return [rate for since, rate in self.rates.items() if since <= now][-1]

    def takes(self, now: float) -> bool:
        self._tokens = min(HIDDEN_RATE, self._tokens + (now - self._at) * self.rate(now))
        self._at = now
        self.sent += 1
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self.accepted.append(now)
        return True


def seconds_for(service: HiddenLimit, *, latency: float, adaptive: bool = True) -> float:
    """Virtual seconds until the service has taken all items."""

    async def main() -> float:
        limits = Limits(SLOTS, None)
        share = limits.share()
        started = time.monotonic()

        async def item() -> None:
            await share.acquire()
            refusals = 0
            while True:
                await limits.admit()
                await anyio.sleep(latency / 2)
                taken = service.takes(time.monotonic() - started)
                await anyio.sleep(latency / 2)
                if taken:
                    limits.accepted()
                    share.release()
                    return
                refusals += 1
                if adaptive:
                    limits.refused()
                    await anyio.sleep(throttle_back_off(refusals))
                else:
                    await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            for _ in range(ITEMS):
                tasks.start_soon(item)
        return time.monotonic() - started

    return run_virtually(main)


@pytest.mark.parametrize("latency", [0.05, 0.5])
def test_a_hidden_limit_is_used_and_hardly_overstepped(latency: float) -> None:
    """At a hidden 20/s: 90 % of the ideal, at most 1.1 sent for each one taken."""
    random.seed(1)
    service = HiddenLimit({0.0: HIDDEN_RATE})

    seconds = seconds_for(service, latency=latency)

    assert (ITEMS - HIDDEN_RATE) / HIDDEN_RATE / seconds >= 0.9
    assert service.sent / ITEMS <= 1.1


def test_a_capacity_that_halves_is_found_within_ten_seconds() -> None:
    """Half of it goes away after 30 s: still 1.1 sent for each one taken, 90 % of what is left."""
    random.seed(1)
    service = HiddenLimit({0.0: HIDDEN_RATE, 30.0: HIDDEN_RATE / 2})

    seconds = seconds_for(service, latency=0.2)

    done = HIDDEN_RATE + 30 * HIDDEN_RATE
    ideal = 30 + (ITEMS - done) / (HIDDEN_RATE / 2)
    assert ideal / seconds >= 0.9
    assert service.sent / ITEMS <= 1.1
    settled = sum(40 <= at < 60 for at in service.accepted)
    assert settled >= 0.9 * 20 * HIDDEN_RATE / 2


def test_a_client_that_does_not_adapt_oversteps_it() -> None:
    """The same at a fixed concurrency: several times as many sent, for no more throughput."""
    random.seed(1)
    service = HiddenLimit({0.0: HIDDEN_RATE})

    seconds_for(service, latency=0.2, adaptive=False)

    assert service.sent / ITEMS > 2


async def test_without_a_refusal_nothing_is_bounded() -> None:
    """Until the service says that it is too much there is no rate, and the limit is the user's."""
    gate, pace = AdaptiveGate(8), AdaptivePace()
    for _ in range(1000):
        await pace.admit()
        pace.accepted()
        gate.accepted()

    assert (gate.limit, pace.rate) == (8, None)


async def test_the_limit_never_falls_below_one() -> None:
    """Refused for ever, one at a time is still tried; refusals of one second cut once."""
    gate = AdaptiveGate(8)
    gate.refused()
    gate.refused()
    assert gate.limit == 5
    for _ in range(50):
        await anyio.sleep(1.1)
        gate.refused()

    assert gate.limit == 1
    await gate.share().acquire()
    assert gate.free == 7


async def test_the_limit_comes_back() -> None:
    """Successes with the permits in use lead back to the user's limit, and not above it."""
    gate = AdaptiveGate(4)
    for _ in range(5):
        gate.refused()
        await anyio.sleep(1.1)
    assert gate.limit == 1
    holders = 0
    for _ in range(200):
        if holders < gate.limit:
            await gate.share().acquire()
            holders += 1
        gate.accepted()

    assert gate.limit == 4


async def test_permits_are_given_first_come_first_served() -> None:
    """Waiters are served in order, a cancelled one is passed over, and none is stranded."""
    gate = AdaptiveGate(1)
    share = gate.share()
    await share.acquire()
    order: list[int] = []
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def wait(number: int) -> None:
        with scopes[number]:
            await share.acquire()
            order.append(number)
            share.release()

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(wait, number)
            await anyio.sleep(0.01)
        scopes[1].cancel()
        await anyio.sleep(0.01)
        share.release()

    assert order == [0, 2, 3]
    assert gate.free == 1


async def test_the_pace_recovers_after_the_refusals_end() -> None:
    """The rate grows back towards and beyond the rate that was refused."""
    pace = AdaptivePace()
    for _ in range(20):
        await anyio.sleep(0.1)
        pace.accepted()
    pace.refused()
    low = pace.rate
    assert low is not None
    assert low == pytest.approx(7, rel=0.3)
    started = time.monotonic()
    while time.monotonic() - started < 10:
        await pace.admit()
        pace.accepted()

    assert pace.rate is not None
    assert pace.rate > 10
