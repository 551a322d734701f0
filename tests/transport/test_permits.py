"""Permits for connections: reserves, order, and none lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually
from elluminate_async.transport.permits import ConnectionPermits, Lane


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def taken(slots: ConnectionPermits, lane: Lane, wanted: int) -> int:
    """How many of ``wanted`` permits can be had without a wait for who holds them."""
    for number in range(wanted):
        with anyio.move_on_after(1) as scope:
            await slots.acquire(lane)
        if scope.cancelled_caught:
            return number
    return wanted


@pytest.mark.parametrize(("connections", "reserved"), [(1, 0), (2, 0), (3, 1), (5, 2), (26, 2)])
@pytest.mark.parametrize(
    ("first", "second"), [(Lane.CALL, Lane.CONTROL), (Lane.CONTROL, Lane.CALL)]
)
async def test_neither_lane_takes_the_others_reserve(
    connections: int, reserved: int, first: Lane, second: Lane
) -> None:
    """Whoever comes first leaves the other its two, and streams take from neither."""
    slots = ConnectionPermits(connections)

    assert await taken(slots, first, 100) == connections - reserved
    assert await taken(slots, second, 100) == reserved
    assert await taken(slots, Lane.STREAM, 100) == connections
    assert slots.held == 2 * connections


async def test_first_come_first_served() -> None:
    """In each lane."""
    slots = ConnectionPermits(6)
    order: list[int] = []

    async def use(number: int, lane: Lane) -> None:
        await slots.acquire(lane)
        order.append(number)
        await anyio.sleep(1)
        slots.release(lane)

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(use, number, Lane.CALL if number % 2 else Lane.CONTROL)

    assert [n for n in order if n % 2] == list(range(1, 60, 2))
    assert [n for n in order if not n % 2] == list(range(0, 60, 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 9))
def test_no_interleaving_of_cancellations_loses_a_permit(seed: int, connections: int) -> None:
    """Never more than there are, the reserve is kept, and all come back."""
    seeded = random.Random(seed)
    slots = ConnectionPermits(connections)
    held, most = Counter[Lane](), Counter[Lane]()
    shared_peak = 0

    async def use(lane: Lane) -> None:
        nonlocal shared_peak
        await slots.acquire(lane)
        held[lane] += 1
        most[lane] = max(most[lane], held[lane])
        shared_peak = max(shared_peak, held[Lane.CALL] + held[Lane.CONTROL])
        try:
            await asyncio.sleep(seeded.choice([0, 0.001, 0.01]))
        finally:
            held[lane] -= 1
            slots.release(lane)

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(150):
            tasks.append(asyncio.create_task(use(seeded.choice(list(Lane)))))
            await asyncio.sleep(seeded.choice([0, 0, 0.0005]))
            if seeded.random() < 0.4:
                seeded.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert slots.held == 0
        for lane in Lane:
            await taken(slots, lane, connections)
        assert slots.held == 2 * connections

    run_virtually(main)

    reserved = min(2, (connections - 1) // 2)
    assert shared_peak <= connections
    assert most[Lane.CALL] <= connections - reserved
    assert most[Lane.CONTROL] <= connections - reserved
