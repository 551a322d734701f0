"""Requests that wait for a window: calls take turns, and the windows stay strict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import RateLimit
from elluminate_async.limits.fairness import RANKS, TURN, FairGate, Share
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.strict import StrictLimits
from elluminate_async.limits.turnstile import Turnstile
from elluminate_async.testing import VIRTUAL_TIME, run_virtually
from tests.engine.scripted import turns

GATE = FairGate(1)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Entry:
    """Requests of calls that go through a turnstile, one for each `open`.

    Attributes:
        order: The names of those that went in.
    """

    def __init__(self) -> None:
        self.turnstile = Turnstile()
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._open = asyncio.Semaphore(0)

    async def wait(self, name: str, share: Share | None, count: int = 1, weight: int = 1) -> None:
        """Have so many requests of a call wait."""

        async def request() -> None:
            async with self.turnstile.turn(share, weight):
                await self._open.acquire()
                self.order.append(name)

        self.tasks += [asyncio.create_task(request()) for _ in range(count)]
        await turns()

    async def open(self, count: int) -> str:
        """The names of all that went in, with so many more."""
        for _ in range(count):
            self._open.release()
            await turns()
        return "".join(self.order)

    def end(self) -> None:
        """Cancel who waits still."""
        for task in self.tasks:
            task.cancel()


async def test_one_request_does_not_wait_behind_a_run() -> None:
    """It is the next, however many of another call came before it."""
    entry = Entry()
    await entry.wait("r", GATE.share(), 50)
    assert await entry.open(5) == "r" * 5
    await entry.wait("s", GATE.share())

    # One of the run has its turn already.
    assert await entry.open(3) == "r" * 5 + "rsr"
    entry.end()


async def test_runs_take_turns() -> None:
    """Each has every second one, and within each they stay in order."""
    entry = Entry()
    await entry.wait("a", GATE.share(), 6)
    await entry.wait("b", GATE.share(), 6)

    assert (await entry.open(12))[2:8] in ("ababab", "bababa")


async def test_classes_go_one_before_the_other() -> None:
    """Interactive, normal, bulk, whoever came first."""
    entry = Entry()
    await entry.wait("x", None)
    for priority in reversed(RANKS):
        await entry.wait(priority[0], GATE.share(priority), 2)

    assert await entry.open(7) == "xiinnbb"


@pytest.mark.parametrize("weight", [1, 5])
async def test_a_class_has_its_turn_by_weight(weight: int) -> None:
    """Interactive requests pass over bulk until they weigh nine times as much as its next one."""
    entry = Entry()
    await entry.wait("i", GATE.share("interactive"), 100)
    await entry.wait("b", GATE.share("bulk"), 2, weight)

    order = await entry.open(101)

    between = (TURN - 1) * weight
    assert order.startswith("i" + "i" * between + "b" + "i" * between + "b")


async def test_one_that_is_waited_for_goes_first() -> None:
    """Such as a bulk request that has its turn among the items already."""
    entry = Entry()
    await entry.wait("x", None)
    await entry.wait("i", GATE.share("interactive"))

    async def urgent() -> None:
        async with entry.turnstile.turn(GATE.share("bulk"), first=True):
            entry.order.append("b")

    task = asyncio.create_task(urgent())
    await turns()
    await entry.wait("i", GATE.share("interactive"), 3)

    assert (await entry.open(5)).index("b") <= 2
    await task


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_cancellations_stop_nobody_else(seed: int) -> None:
    """Cancelled at any moment, waiting or inside: the rest goes in one at a time, each once."""
    seeded, inside, done = random.Random(seed), 0, 0

    async def main() -> int:
        turnstile = Turnstile()
        shares = [None, *(GATE.share(priority) for priority in RANKS for _ in range(2))]

        async def request() -> None:
            nonlocal inside, done
            turn = turnstile.turn(seeded.choice(shares), 1 + seeded.randrange(5))
            async with turn:
                inside += 1
                assert inside == 1
                try:
                    await turns(seeded.randrange(3))
                finally:
                    inside -= 1
            done += 1

        tasks = [asyncio.create_task(request()) for _ in range(60)]
        cancelled = 0
        while not all(task.done() for task in tasks):
            if seeded.random() < 0.3:
                cancelled += seeded.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turnstile.turn(None):
            return sum(task.cancelled() for task in tasks)

    gone = asyncio.run(main())
    assert gone + done == 60


def most_in_a_window(times: list[float], period: float) -> int:
    return max(sum(start <= at < start + period for at in times) for start in times)


async def test_a_call_that_comes_late_is_hardly_kept_back_by_a_rate() -> None:
    """Behind 300 requests of a run at 10/s: within two windows of a tenth, not after 30 s."""
    limits = Limits(10, RateLimit(10, 1.0))
    times: list[float] = []
    run, single = limits.share("bulk"), limits.share("interactive")

    async def admit(share: Share) -> None:
        limits.ended(await limits.admit(share=share))
        times.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(admit, run)
        await anyio.sleep(5)
        started = time.monotonic()
        await admit(single)
        assert time.monotonic() - started <= 0.21

    assert most_in_a_window(times, 0.9999) <= 10


async def test_one_row_is_hardly_kept_back_by_chunks_under_a_limit_on_items() -> None:
    """Chunks of 100 at 1,000 a second: the row waits for the one that has its turn, not for all."""
    limits = Limits(10, None, RateLimit(1000, 1.0))
    run, single = limits.share("bulk"), limits.share("interactive")

    async def admit(share: Share, items: int) -> None:
        limits.ended(await limits.admit(items=items, share=share))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(admit, run, 100)
        await anyio.sleep(3.05)
        started = time.monotonic()
        await admit(single, 1)
        assert time.monotonic() - started <= 0.21
        tasks.cancel_scope.cancel()


async def test_a_call_with_a_slow_limit_of_its_own_keeps_nobody_else_back() -> None:
    """It waits for its own window before it takes its turn among all."""
    limits = Limits(10, RateLimit(100, 1.0))
    slow = limits.narrowed(StrictLimits(RateLimit(1, 10.0)))
    share, other = limits.share(), limits.share("bulk")
    done = Counter[str]()

    async def admit(scope: Limits, share: Share, name: str) -> None:
        scope.ended(await scope.admit(share=share))
        done[name] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(admit, slow, share, "slow")
        await anyio.sleep(0.1)
        for _ in range(50):
            tasks.start_soon(admit, limits, other, "other")
        await anyio.sleep(1)
        assert done == {"slow": 1, "other": 50}
        tasks.cancel_scope.cancel()


def test_windows_stay_strict_whoever_takes_turns() -> None:
    """Calls of each class, cancelled and held by chance: no window has more than the limit."""
    limit = RateLimit(10, 1.0)
    times: list[float] = []

    async def main() -> None:
        seeded = random.Random(3)
        limits = Limits(10, limit)
        shares = [limits.share(priority) for priority in RANKS for _ in range(3)]

        async def admit() -> None:
            ticket = await limits.admit(share=seeded.choice(shares))
            times.append(time.monotonic())
            limits.ended(ticket)

        async with anyio.create_task_group() as tasks:
            for _ in range(400):
                scope = anyio.CancelScope()

                async def one(scope: anyio.CancelScope = scope) -> None:
                    with scope:
                        await admit()

                tasks.start_soon(one)
                await anyio.sleep(seeded.choice([0, 0, 0.1]))
                if seeded.random() < 0.2:
                    scope.cancel()
                if seeded.random() < 0.02:
                    limits.hold(seeded.random())

    run_virtually(main)

    assert len(times) > 200
    assert most_in_a_window(times, limit.period - 1e-9) <= limit.requests
