"""The retry budget in virtual time: what it lets through, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import time

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.limits.backoff import back_off
from elluminate_async.limits.budget import CAPACITY, RetryBudget
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually
from elluminate_async.transport.retry import COST_FAILED, COST_NOT_SENT, COST_THROTTLED


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def passing_at_once(budget: RetryBudget, cost: int) -> int:
    """How many retries pass before one has to wait; the floor's one is among them."""
    count = 0
    while True:
        with anyio.move_on_after(0.5) as scope:
            await budget.spend(cost)
        if scope.cancelled_caught:
            return count
        count += 1


@pytest.mark.parametrize("cost", [COST_FAILED, COST_THROTTLED, COST_NOT_SENT])
async def test_a_full_bucket_is_spent_at_once(cost: int) -> None:
    """500 at the price of the kind, and one more from the floor."""
    assert await passing_at_once(RetryBudget(), cost) == CAPACITY // cost + 1


async def test_an_empty_bucket_lets_one_a_second_through() -> None:
    """Also when no success ever fills it, so that a service that is back is found out."""
    budget = RetryBudget()
    await passing_at_once(budget, COST_FAILED)
    started = time.monotonic()
    for _ in range(10):
        await budget.spend(COST_FAILED)

    assert 9 <= time.monotonic() - started <= 10


async def test_a_success_lets_who_waits_through() -> None:
    """At once, and what a success after retries gives back is what they had cost."""
    budget = RetryBudget()
    await passing_at_once(budget, COST_FAILED)
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budget.spend, COST_FAILED)
        await anyio.sleep(0.1)
        budget.refund(COST_FAILED)

    assert time.monotonic() - started == pytest.approx(0.1, abs=0.01)
    assert budget.left < COST_FAILED


async def test_successes_do_not_overfill_it() -> None:
    """A long good time saves up no more than the bucket holds."""
    budget = RetryBudget()
    for _ in range(1000):
        budget.refund(1)

    assert budget.left == CAPACITY


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_interleaving_of_cancellations_strands_a_waiter(seed: int) -> None:
    """Who is cancelled pays nothing, and who stays comes through, in order."""
    seeded = random.Random(seed)
    budget = RetryBudget()
    order: list[int] = []

    async def spend(number: int) -> None:
        await budget.spend(COST_FAILED)
        order.append(number)

    async def main() -> None:
        await passing_at_once(budget, COST_FAILED)
        tasks: list[asyncio.Task[None]] = []
        for number in range(30):
            tasks.append(asyncio.create_task(spend(number)))
            await asyncio.sleep(seeded.choice([0, 0, 0.3]))
            if seeded.random() < 0.4:
                seeded.choice(tasks).cancel()
            if seeded.random() < 0.3:
                budget.refund(seeded.choice([1, COST_FAILED]))
        with anyio.fail_after(60):
            await asyncio.wait(tasks)
        assert len(order) == sum(not task.cancelled() for task in tasks)

    run_virtually(main)

    assert order == sorted(order)


class Client:
    """Ten workers that send requests in three attempts to a service that fails some of them."""

    def __init__(self, seed: int, faults: float) -> None:
        self.seeded = random.Random(seed)
        self.faults = faults
        self.limits = Limits(10, None)
        self.limits.probe_with(self.exchange)
        self.succeeded = 0
        self.seconds = 0.0

    async def exchange(self) -> str | None:
        await anyio.sleep(self.seeded.uniform(0.02, 0.2))
        return None if self.seeded.random() >= self.faults else "HTTP 503"

    async def request(self) -> float:
        """Seconds of back-off that it took."""
        spent, backed_off = 0, 0.0
        for attempt in range(3):
            cost = COST_FAILED if attempt else 0
            spent += cost
            ticket = await self.limits.admit(cost=cost)
            reason = await self.exchange()
            self.limits.ended(ticket)
            if reason is None:
                self.limits.answered()
                self.limits.accepted(spent)
                self.succeeded += 1
                break
            self.limits.failed(reason)
            pause = back_off(attempt + 1)
            backed_off += pause
            await anyio.sleep(pause)
        return backed_off

    async def work(self, requests: int) -> None:
        started, backed_off = time.monotonic(), 0.0
        for _ in range(requests):
            backed_off += await self.request()
        self.seconds = max(self.seconds, time.monotonic() - started - backed_off)

    async def run(self, requests: int) -> float:
        """Seconds for all of them, back-off aside."""
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(self.work, requests // 10)
        return self.seconds


@pytest.mark.parametrize(("requests", "slower"), [(30, 3.0), (1_500, 2.0), (8_000, 2.5)])
@pytest.mark.parametrize("seed", range(4))
def test_a_service_that_fails_three_of_ten_is_retried_at_speed(
    seed: int, requests: int, slower: float
) -> None:
    """1.4 times as many exchanges cost about so much time, their back-off aside."""
    plain, faulted = Client(seed, 0.0), Client(seed, 0.3)

    seconds = run_virtually(lambda: plain.run(requests))
    with_faults = run_virtually(lambda: faulted.run(requests))

    assert plain.succeeded == requests
    assert faulted.succeeded >= 0.9 * requests
    assert with_faults / seconds < slower
