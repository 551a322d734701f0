"""The breaker in virtual time: what an outage holds back, and how all come back from it."""

from __future__ import annotations

import asyncio
import random
import time

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.limits.breaker import DOUBT, OPEN, OPEN_SECONDS, Breaker
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Service:
    """Is there or is away, and counts what it is sent.

    Attributes:
        latency: Seconds for an answer.
        at: When each request came.
        order: Their names, in the same order.
        probes: When each probe came.
        running: Requests at work, probes aside.
        peak: Most of them at once, since it was last set to 0.
    """

    def __init__(self, latency: float = 0.1) -> None:
        self.up = True
        self.latency = latency
        self.at: list[float] = []
        self.order: list[int] = []
        self.probes: list[float] = []
        self.running = 0
        self.peak = 0
        self.breaker = Breaker(self.ready)
        self.breaker.probe = self.probe

    async def ready(self) -> None:
        pass

    async def probe(self) -> str | None:
        self.probes.append(time.monotonic())
        await anyio.sleep(0.01)
        return None if self.up else "HTTP 503"

    async def send(self, *, retry: bool = False, name: int = 0) -> bool:
        ticket = await self.breaker.enter(retry=retry)
        try:
            self.at.append(time.monotonic())
            self.order.append(name)
            self.running += 1
            self.peak = max(self.peak, self.running)
            await anyio.sleep(self.latency if self.up else 0.01)
            fine = self.up
        finally:
            self.running -= 1
            self.breaker.leave(ticket)
        if fine:
            self.breaker.answered()
        else:
            self.breaker.failed("HTTP 503")
        return fine

    async def work(self, until: float) -> None:
        """One request after the other; a failed one is sent again until it succeeds."""
        while time.monotonic() < until:
            retry = False
            while not await self.send(retry=retry):
                retry = True

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed("HTTP 503")


async def is_held(service: Service, *, retry: bool) -> bool:
    """Whether a request is held back until somebody was answered."""
    ticket = service.breaker.try_enter(retry=retry)
    if ticket is not None:
        service.breaker.leave(ticket)
    return ticket is None


async def test_after_some_failures_nothing_is_sent_again() -> None:
    """First sendings still go: they lose nothing but themselves, and tell how it is."""
    service = Service()
    service.fail(DOUBT - 1)
    assert not await is_held(service, retry=True)
    service.fail(1)

    assert await is_held(service, retry=True)
    assert not await is_held(service, retry=False)


async def test_after_many_nothing_is_sent() -> None:
    """Twenty in a row that took three seconds; a success before begins the count anew."""
    service = Service()
    service.fail(OPEN - 1)
    await anyio.sleep(OPEN_SECONDS)
    service.breaker.answered()
    service.fail(OPEN - 1)
    await anyio.sleep(OPEN_SECONDS)
    assert not await is_held(service, retry=False)
    service.fail(1)

    assert await is_held(service, retry=False)


async def test_who_comes_at_the_moment_of_a_failure_finds_out_itself() -> None:
    """The failure was before it came, and there is reason to think that the service is back."""
    service = Service()
    breaker = Breaker(service.ready, open_after=1, open_seconds=0.0)
    breaker.failed("HTTP 503")
    await anyio.sleep(1)
    breaker.failed("HTTP 503")
    breaker.ask_now()

    with anyio.fail_after(1):
        breaker.leave(await breaker.enter(retry=False, patience=0.5))


async def test_a_burst_of_failures_does_not_open() -> None:
    """A hundred at one moment are one event, such as a restart behind a load balancer."""
    service = Service()
    service.fail(100)
    await anyio.sleep(OPEN_SECONDS - 0.1)
    service.fail(1)

    assert not await is_held(service, retry=False)


async def test_one_probe_a_second() -> None:
    """However many wait; the first answer ends the outage for all."""
    service = Service()
    service.up = False
    service.fail(OPEN)
    await anyio.sleep(OPEN_SECONDS)
    service.fail(1)
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(lambda n=number: service.send(retry=bool(n % 2)))  # type: ignore[misc]
        await anyio.sleep(30.5)
        assert service.at == []
        service.up = True

    assert len(service.probes) == 32
    gaps = [b - a for a, b in zip(service.probes, service.probes[1:], strict=False)]
    assert min(gaps) >= 1
    assert len(service.at) == 50
    assert min(service.at) - started < 31.2


async def test_a_probe_that_hangs_does_not_keep_the_next() -> None:
    """The second is asked while the first still hangs, and its answer counts."""
    service = Service()
    service.fail(DOUBT)
    asked = 0

    async def probe() -> str | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await anyio.sleep(5)
            return "no answer"
        return None

    service.breaker.probe = probe
    started = time.monotonic()
    ended: list[float] = []

    async def enter() -> None:
        service.breaker.leave(await service.breaker.enter(retry=True))
        ended.append(time.monotonic() - started)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(enter)

    assert asked == 2
    assert sorted(ended)[:2] == pytest.approx([1, 1], abs=0.1)


async def test_who_sent_a_probe_that_hangs_does_not_keep_others_either() -> None:
    """First in the queue, it leaves its probe when the next one's is answered."""
    service = Service()
    service.fail(OPEN - 1)
    await anyio.sleep(OPEN_SECONDS)
    service.fail(1)

    async def probe() -> str | None:
        service.probes.append(time.monotonic())
        if len(service.probes) == 1:
            await anyio.sleep(100)
        return None

    service.breaker.probe = probe
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(service.send)

    assert len(service.probes) == 2
    assert len(service.at) == 5
    assert max(service.at) - started < 2


async def test_nobody_loses_the_probe_with_who_sends_it() -> None:
    """The one that asks is cancelled, before or during: the next asks in its stead."""
    service = Service()
    service.fail(DOUBT)
    hold = anyio.Event()
    service.breaker._ready = hold.wait
    first = asyncio.create_task(service.send(retry=True))
    await anyio.sleep(0.1)
    second = asyncio.create_task(service.send(retry=True))
    await anyio.sleep(0.1)
    first.cancel()
    hold.set()
    with anyio.fail_after(3):
        await second

    assert len(service.probes) == 1


@pytest.mark.parametrize("workers", [1, 3, 10, 40])
async def test_no_rush_after_an_outage(workers: int) -> None:
    """60 s away: one request a second at most meanwhile, and afterwards no more than before."""
    service = Service()
    begin = time.monotonic()
    before, during = 0, list[float]()
    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(service.work, begin + 120)
        await anyio.sleep(20)
        before, service.peak = service.peak, 0
        service.up = False
        await anyio.sleep(60)
        during = [at for at in service.at if begin + 20.2 <= at < begin + 80]
        service.up, service.peak = True, 0

    assert before == workers
    assert service.peak <= 1.2 * before
    # What was in flight, then those that had not failed yet; after that only probes.
    assert len(during) <= 2 * workers
    assert len([at for at in service.probes if begin + 20 <= at < begin + 80]) <= 60
    assert len(service.at) > workers * 400


async def test_those_who_came_during_an_outage_are_no_rush_either() -> None:
    """Six times as many wait as were ever at work: let in by and by, in their order."""
    service = Service(latency=1.0)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(service.work, time.monotonic() + 20)
    before, service.peak = service.peak, 0
    service.fail(OPEN)
    await anyio.sleep(OPEN_SECONDS)
    service.fail(1)
    service.order.clear()
    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(lambda n=number: service.send(name=n))  # type: ignore[misc]
            await anyio.lowlevel.checkpoint()

    assert before == 10
    assert service.peak <= 1.2 * before
    assert service.order == list(range(60))


async def test_a_client_that_begins_in_an_outage_is_not_slow_afterwards() -> None:
    """There is no "before" then: as many more at once as there were answers."""
    service = Service()
    service.fail(OPEN)
    await anyio.sleep(OPEN_SECONDS)
    service.fail(1)
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(service.send)

    assert time.monotonic() - started < 1.5


async def test_an_exchange_that_an_outage_left_hanging_takes_nobodys_place() -> None:
    """Ten hang for minutes, and who waited gets in all the same."""
    service = Service(latency=300)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(service.send)
        await anyio.sleep(1)
        service.fail(OPEN)
        await anyio.sleep(OPEN_SECONDS)
        service.fail(1)
        service.latency = 0.1
        with anyio.fail_after(3):
            await service.send()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_interleaving_loses_a_place(seed: int) -> None:
    """Outages, cancellations and retries in any order: in the end all are through."""
    seeded = random.Random(seed)

    async def main() -> None:
        service = Service(latency=0.3)
        tasks: list[asyncio.Task[bool]] = []
        for _ in range(150):
            service.up = service.up if seeded.random() < 0.9 else not service.up
            tasks.append(asyncio.create_task(service.send(retry=seeded.random() < 0.5)))
            await asyncio.sleep(seeded.choice([0, 0, 0.05, 1.0]))
            if seeded.random() < 0.3:
                seeded.choice(tasks).cancel()
        service.up = True
        with anyio.fail_after(300):
            await asyncio.wait(tasks)
        assert service.running == service.breaker._in_flight == 0
        assert not service.breaker._waiting
        with anyio.fail_after(10):
            for _ in range(20):
                await service.send()

    run_virtually(main)
