"""The pace that the clients of a share find together, in virtual time."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import pytest

from elluminate_async.limits.backoff import throttle_back_off
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually
from tests.limits.shares import MemoryShare
from tests.limits.test_adaptive import HiddenLimit


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Service(Protocol):
    sent: int
    accepted: list[float]

    def takes(self, now: float) -> bool: ...


@dataclass
class Quota:
    """So many requests in each 10 s, whenever they come."""

    requests: int
    sent: int = 0
    accepted: list[float] = field(default_factory=list[float])

    def takes(self, now: float) -> bool:
        self.sent += 1
        used = sum(at // 10 == now // 10 for at in self.accepted[-self.requests :])
        if used < self.requests:
            self.accepted.append(now)
        return used < self.requests


@dataclass
class Sheds:
    """A service that refuses one request of a hundred, however slowly they come."""

    sent: int = 0
    accepted: list[float] = field(default_factory=list[float])

    def takes(self, now: float) -> bool:
        self.sent += 1
        if self.sent % 100:
            self.accepted.append(now)
        return self.sent % 100 != 0


async def generate(
    limits: Limits,
    service: Service,
    started: float,
    items: int,
    retry_after: float | None = None,
) -> None:
    """So many items, each sent until the service takes it."""
    share = limits.share()

    async def item() -> None:
        await share.acquire()
        refusals = 0
        while True:
            await limits.admit()
            await anyio.sleep(0.1)
            taken = service.takes(time.monotonic() - started)
            await anyio.sleep(0.1)
            if taken:
                limits.accepted()
                share.release()
                return
            refusals += 1
            limits.refused()
            if retry_after is None:
                await anyio.sleep(throttle_back_off(refusals))
            else:
                limits.hold(retry_after)

    async with anyio.create_task_group() as tasks:
        for _ in range(items):
            tasks.start_soon(item)
    await limits.aclose()


def seconds_for(
    service: Service, *, clients: int, at_once: int, each: int, retry_after: float | None = None
) -> float:
    """Virtual seconds until the clients of one share have had all their items taken."""
    share = MemoryShare()

    async def main() -> float:
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(clients):
                limits = Limits(at_once, None, share=share)
                tasks.start_soon(generate, limits, service, started, each, retry_after)
        return time.monotonic() - started

    return run_virtually(main)


@pytest.mark.parametrize("later", [20.0, 10.0])
def test_a_hidden_limit_is_found_by_all_together(later: float) -> None:
    """16 clients at a hidden 20/s, also when it halves: at most 1.1 sent for each one taken."""
    random.seed(1)
    service, each = HiddenLimit({0.0: 20.0, 30.0: later}), 150

    seconds = seconds_for(service, clients=16, at_once=4, each=each)

    ideal = 30 + (16 * each - 20 - 30 * 20) / later
    assert ideal / seconds >= 0.9
    assert service.sent / (16 * each) <= 1.1


async def test_a_pace_is_off_until_somebody_is_refused() -> None:
    """Then all know it within their next request; each asks for news four times a second."""
    share = MemoryShare()
    one, other = Limits(10, None, share=share), Limits(10, None, share=share)
    for _ in range(50):
        for limits in (one, other):
            await limits.admit()
            limits.accepted()
        await anyio.sleep(0.05)
    assert one.readings().pace is other.readings().pace is None
    await other.admit()
    assert other.try_admit() is not None
    for _ in range(3):
        one.refused()
    await anyio.sleep(0.3)
    assert other.try_admit() is None
    await other.admit()

    pace = other.readings().pace
    assert pace is not None
    assert 20 <= pace <= 40
    assert 0 < other.kept_for() <= 1 / pace


async def first_ends(share: MemoryShare) -> None:
    """Refuse a client that then ends, before anybody else is."""
    limits = Limits(1, None, share=share)
    await limits.admit()
    limits.accepted()
    limits.refused()
    await anyio.sleep(1)
    await limits.aclose()


@pytest.mark.parametrize("who_refused_first_ends", [False, True])
@pytest.mark.parametrize("limit", [50.0, 300.0])
def test_any_hidden_limit_is_found_within_ten_seconds(
    limit: float, who_refused_first_ends: bool
) -> None:
    """Though at the first refusal, of a burst of 20, nobody knows: then 90 % of it is used."""
    random.seed(1)
    service, share = HiddenLimit({0.0: limit}), MemoryShare()

    async def main() -> None:
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                limits = Limits(32, None, share=share)
                tasks.start_soon(generate, limits, service, started, int(limit * 4))
            if who_refused_first_ends:
                await first_ends(share)
            await anyio.sleep(started + 25 - time.monotonic())
            tasks.cancel_scope.cancel()

    run_virtually(main)

    assert sum(10 <= at < 25 for at in service.accepted) >= 0.9 * 15 * limit
    assert service.sent <= 1.1 * len(service.accepted) + 8 * 32


async def test_a_limit_is_no_more_looked_for_once_nothing_is_sent() -> None:
    """After the one refusal of a burst the share is not asked for ever."""
    share = MemoryShare()
    limits = Limits(10, None, share=share)
    for _ in range(20):
        await limits.admit()
        limits.accepted()
    limits.refused()
    await anyio.sleep(30)

    before = share.table.refused_at
    await anyio.sleep(30)
    assert share.table.refused_at == before
    assert (await share.pace()).refused_rate < 1_000
    await limits.aclose()


def test_after_everything_was_refused_the_rate_comes_back_soon() -> None:
    """Ten seconds after a service took 200/s again more than half of it is used."""
    random.seed(1)
    service, share = HiddenLimit({0.0: 0.001, 10.0: 200.0}), MemoryShare()

    async def main() -> None:
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                limits = Limits(16, None, share=share)
                tasks.start_soon(generate, limits, service, started, 500)
            await anyio.sleep(30)
            tasks.cancel_scope.cancel()

    run_virtually(main)

    assert sum(10 <= at < 20 for at in service.accepted) >= 200
    assert sum(at >= 20 for at in service.accepted) >= 1_100


@pytest.mark.parametrize(("retry_after", "most"), [(2.0, 1.15), (None, 1.35)])
def test_a_quota_of_ten_seconds_is_used_each_time(retry_after: float | None, most: float) -> None:
    """What is refused as a quota is used up tells nothing of how fast the next one may be."""
    random.seed(1)
    service = Quota(500)

    seconds = seconds_for(service, clients=6, at_once=10, each=400, retry_after=retry_after)

    assert seconds <= 80
    assert service.sent <= most * 2_400


def test_what_is_refused_now_and_then_slows_nobody_down() -> None:
    """One of a hundred, whatever the rate, is no limit on the rate."""
    random.seed(1)

    seconds = seconds_for(Sheds(), clients=4, at_once=10, each=1_000)

    assert seconds <= 25  # 4,000 items, 40 at once, 0.2 s each


async def test_a_refusal_after_a_pause_costs_seconds_only() -> None:
    """A fleet that was idle, and is refused once as it goes on, is as fast as before within 6 s."""
    share = MemoryShare()
    share.table.refused_rate, share.table.refused_at = 20.0, time.monotonic() - 4
    limits = Limits(10, None, share=share)
    await limits.admit()
    limits.refused()
    taken = 0
    with anyio.move_on_after(12):
        while True:
            await limits.admit()
            limits.accepted()
            taken += 1

    assert taken >= 6 * 20
    await limits.aclose()


@pytest.mark.parametrize("since", [-1e300, 0.0, 1e300])
async def test_a_pace_is_a_number_whatever_its_share_says(since: float) -> None:
    """A clock that was set, or a share that is damaged, ends no call."""
    share = MemoryShare()
    limits = Limits(10, None, share=share)
    share.table.refused_rate, share.table.refused_at = 5.0, time.monotonic() - since
    await limits.admit()

    pace = limits.readings().pace
    assert pace is None or 0.5 <= pace < math.inf
    await limits.aclose()


async def test_a_minute_after_the_last_refusal_the_pace_is_off() -> None:
    """Who sends seldom is not slowed down for ever by one refusal."""
    share = MemoryShare()
    limits = Limits(100, None, share=share)
    await limits.admit()
    limits.refused()
    await anyio.sleep(61)
    await limits.admit()
    began = time.monotonic()
    for _ in range(50):
        await limits.admit()

    assert time.monotonic() - began < 1
    assert limits.readings().pace is None
    await limits.aclose()


async def test_at_the_end_of_a_hold_all_who_share_start_at_their_pace() -> None:
    """And not one request of each of them at once."""
    share, started = MemoryShare(), list[float]()
    fleet = [Limits(10, None, share=share) for _ in range(20)]
    for limits in fleet:
        await limits.admit()
    share.table.refused_rate, share.table.refused_at = 10.0, time.monotonic() - 6
    share.table.pace(time.monotonic(), accepted=20)
    await anyio.sleep(0.3)

    async def one(limits: Limits) -> None:
        await limits.admit()
        started.append(time.monotonic())

    held = time.monotonic() + 0.05
    async with anyio.create_task_group() as tasks:
        for limits in fleet:
            tasks.start_soon(one, limits)
        await anyio.sleep(0.05)
        fleet[0].hold(1.0)

    assert len(started) == 20
    assert sum(0.9 < at - held < 1.4 for at in started) <= 6
    for limits in fleet:
        await limits.aclose()


async def test_who_was_idle_looks_for_no_limit_that_is_known() -> None:
    """Others have found it: a rate that is doubled would be refused."""
    share = MemoryShare()
    limits = Limits(10, None, share=share)
    await limits.admit()
    share.table.refused_rate, share.table.refused_at = 20.0, time.monotonic()
    await anyio.sleep(5)
    with anyio.move_on_after(20):
        while True:
            await limits.admit()
            limits.accepted()

    assert share.table.refused_rate == 20
    await limits.aclose()
