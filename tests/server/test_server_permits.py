"""The permits for model calls: a cap over all, of which no endpoint takes everything."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from elluminate_async.server.llms.callers import Caller, Callers
from elluminate_async.server.llms.permits import Permits

CALLERS = Callers()
A_JOB = CALLERS.of(1)


async def test_one_endpoint_alone_has_them_all() -> None:
    """Nothing is kept back for nobody."""
    permits = Permits(4)
    assert [permits.try_acquire("a", A_JOB) for _ in range(5)] == [True] * 4 + [False]


async def test_one_is_left_for_each_endpoint_that_is_expected() -> None:
    """Known beforehand, two others have one each, however much the first asks for."""
    permits = Permits(8)
    permits.expect("b")
    permits.expect("c")
    assert [permits.try_acquire("a", A_JOB) for _ in range(7)] == [True] * 6 + [False]
    assert permits.try_acquire("b", A_JOB)
    assert permits.try_acquire("c", A_JOB)


async def test_endpoints_that_nobody_calls_keep_back_a_quarter_at_most() -> None:
    """A thousand that configurations name leave three quarters to the one that is called."""
    permits = Permits(8)
    for number in range(1000):
        permits.expect(str(number))
    assert [permits.try_acquire("0", A_JOB) for _ in range(7)] == [True] * 6 + [False]


async def test_endpoints_that_hang_together_leave_as_much_as_one() -> None:
    """Two that hold whatever they get: the third, and the operator's own, still have a turn."""
    permits = Permits(8)
    permits.expect("own", is_operators=True)
    permits.expect("c")
    for endpoint in "abababababab":
        permits.try_acquire(endpoint, A_JOB)
    assert permits.try_acquire("c", A_JOB)
    assert permits.try_acquire("own", A_JOB)


async def test_two_that_hang_leave_a_turn_to_a_third_and_to_the_operators() -> None:
    """Also of few permits: eight, of which a quarter is two."""
    permits = Permits(8)
    permits.expect("own", is_operators=True)
    for name in ("a", "b", "good"):
        permits.expect(name)
    for _ in range(10):
        permits.try_acquire("a", A_JOB)
    for _ in range(10):
        permits.try_acquire("b", A_JOB)
    assert permits.try_acquire("good", A_JOB)
    assert permits.try_acquire("own", A_JOB)


async def test_the_operators_endpoint_has_a_permit_left_by_any_number_of_others() -> None:
    """Also the first permit of an endpoint is not its."""
    permits = Permits(4)
    permits.expect("own", is_operators=True)
    assert [permits.try_acquire(name, A_JOB) for name in "abcd"] == [True] * 3 + [False]
    assert permits.try_acquire("own", A_JOB)


async def test_endpoints_take_turns() -> None:
    """Of two that wait, each gets every second permit, however many wait before."""
    permits = Permits(1)
    order: list[str] = []

    async def call(endpoint: str) -> None:
        await permits.acquire(endpoint, A_JOB)
        order.append(endpoint)
        await asyncio.sleep(0)
        permits.release(endpoint, A_JOB)

    async with asyncio.TaskGroup() as tasks:
        for endpoint in ["a"] * 6 + ["b"] * 3:
            tasks.create_task(call(endpoint))
    assert "".join(order[1:7]) in ("bababa", "ababab")


@pytest.mark.parametrize("seed", range(20))
async def test_calls_that_are_cancelled_lose_no_permit(seed: int) -> None:
    """Whoever is cancelled, waiting or woken: the cap holds, and all permits come back."""
    chance, permits, held = random.Random(seed), Permits(3), Counter[str]()

    async def call(endpoint: str) -> None:
        await permits.acquire(endpoint, A_JOB)
        held[endpoint] += 1
        try:
            assert held.total() <= 3
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            held[endpoint] -= 1
            permits.release(endpoint, A_JOB)

    tasks = [asyncio.create_task(call(chance.choice("abc"))) for _ in range(200)]
    while not all(task.done() for task in tasks):
        if chance.random() < 0.7:
            chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert permits.in_flight == 0
    assert [permits.try_acquire("a", A_JOB) for _ in range(3)] == [True, True, False]


async def order_of(permits: Permits, waiting: list[Caller], releases: int) -> list[Caller]:
    """Who gets the permits that the one endpoint gives back, of those who wait for it."""
    served: list[Caller] = []

    async def call(caller: Caller) -> None:
        await permits.acquire("a", caller)
        served.append(caller)

    tasks = [asyncio.create_task(call(caller)) for caller in waiting]
    await asyncio.sleep(0)
    for _ in range(releases):
        permits.release("a", A_JOB)
        for _ in range(3):
            await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    return served


async def test_a_job_with_nothing_in_flight_goes_before_one_with_much() -> None:
    """Of one project: a row of another job is asked for before the rest of a long one."""
    permits, other = Permits(4), CALLERS.of(1)
    assert all(permits.try_acquire("a", A_JOB) for _ in range(4))

    served = await order_of(permits, [A_JOB, A_JOB, other], 2)

    assert served == [other, A_JOB]
    for caller in (*served, A_JOB, A_JOB):
        permits.release("a", caller)


async def test_a_project_goes_before_one_that_has_more_in_flight() -> None:
    """However many jobs that has, each with nothing in flight."""
    permits, jobs, other = Permits(4), [CALLERS.of(1) for _ in range(3)], CALLERS.of(2)
    assert all(permits.try_acquire("a", A_JOB) for _ in range(4))

    served = await order_of(permits, [*jobs, other, other], 3)

    # At first three calls of the one project and none of the other are in flight, then two
    # and one; where both have two, who came first.
    assert served == [other, other, jobs[0]]
    for caller in (*served, A_JOB):
        permits.release("a", caller)
