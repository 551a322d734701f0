"""Row 80: whoever waits for a permit, or holds one, may be cancelled, and none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import pytest

from elluminate_async.batch import RateLimit
from elluminate_async.limits.adaptive import AdaptiveGate
from elluminate_async.limits.fairness import RANKS, Share
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.ticket import Ticket
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.transport.permits import ConnectionPermits, Lane
from tests.matrix import Fired

ACQUISITIONS = 10_000
PERMITS = 5


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@dataclass
class Gate:
    """A gate as its users see it.

    Attributes:
        most: How many may hold it at once; None where it counts by time.
        disturb: Something that happens to it now and then.
        lowest: How many can hold it at once whatever has happened.
    """

    acquire: Callable[[], Awaitable[object]]
    release: Callable[[object], None]
    most: int | None
    disturb: Callable[[], None] = lambda: None
    lowest: int = 3


Make: TypeAlias = Callable[[random.Random], Gate]


def of_calls(
    gate: AdaptiveGate,
    seeded: random.Random,
    disturb: Callable[[], None] = lambda: None,
    lowest: int = 3,
) -> Gate:
    """``gate`` as several calls of each priority use it."""
    shares = [gate.share(priority) for priority in RANKS for _ in range(3)]

    async def acquire() -> Share:
        share = seeded.choice(shares)
        await share.acquire()
        return share

    def release(share: object) -> None:
        assert isinstance(share, Share)
        share.release()

    return Gate(acquire, release, PERMITS, disturb, lowest)


def fixed(seeded: random.Random) -> Gate:
    return of_calls(AdaptiveGate(PERMITS), seeded)


def adaptive(seeded: random.Random) -> Gate:
    gate = AdaptiveGate(PERMITS)

    def disturb() -> None:
        # Mostly recovering, so that it is not at its lowest all the time.
        seeded.choice([gate.refused, *[gate.accepted] * 9])()

    return of_calls(gate, seeded, disturb, lowest=1)


def strict(seeded: random.Random) -> Gate:
    limits = Limits(PERMITS, RateLimit(1000, 1.0), RateLimit(3000, 1.0))

    def disturb() -> None:
        seeded.choice([limits.accepted, limits.answered, lambda: limits.hold(0.001)])()

    async def admit() -> Ticket:
        return await limits.admit(items=seeded.randrange(5))

    def ended(ticket: object) -> None:
        assert isinstance(ticket, Ticket)
        limits.ended(ticket)

    return Gate(admit, ended, None, disturb)


def retries(seeded: random.Random) -> Gate:
    limits = Limits(PERMITS, None)

    async def admit() -> Ticket:
        return await limits.admit(cost=seeded.choice([0, 5, 14]))

    def ended(ticket: object) -> None:
        assert isinstance(ticket, Ticket)
        limits.accepted(14)
        limits.ended(ticket)

    return Gate(admit, ended, None)


def connections(seeded: random.Random) -> Gate:
    permits = ConnectionPermits(PERMITS)

    async def acquire() -> Lane:
        lane = seeded.choice([Lane.CALL, Lane.CONTROL])
        await permits.acquire(lane)
        return lane

    def release(lane: object) -> None:
        assert isinstance(lane, Lane)
        permits.release(lane)

    return Gate(acquire, release, PERMITS)


async def churn(
    use: Callable[[], Coroutine[None, None, None]], gate: Gate, seeded: random.Random, fired: Fired
) -> None:
    """Begin 10,000 uses, cancel about half of them, and wait for the others."""
    running: list[asyncio.Task[None]] = []
    for _ in range(ACQUISITIONS):
        running.append(asyncio.create_task(use()))
        if seeded.random() < 0.5:
            await asyncio.sleep(seeded.choice([0, 0, 0.0005]))
        if seeded.random() < 0.5 and not (task := seeded.choice(running)).done():
            fired()
            task.cancel()
        if seeded.random() < 0.05:
            gate.disturb()
        if len(running) > 100:
            running = [task for task in running if not task.done()]
    while running:
        await asyncio.wait(running)
        running = [task for task in running if not task.done()]


@pytest.mark.unmeasured
@pytest.mark.row(80)
@pytest.mark.parametrize("make", [fixed, adaptive, strict, retries, connections])
async def test_no_interleaving_of_cancellations_loses_a_permit(fired: Fired, make: Make) -> None:
    """10,000 seeded acquisitions, cancelled at any moment: all are back, and nobody waits."""
    seeded = random.Random(11)
    gate = make(seeded)
    held = peak = finished = 0

    async def use() -> None:
        nonlocal held, peak, finished
        permit = await gate.acquire()
        held += 1
        peak = max(peak, held)
        try:
            for _ in range(seeded.randrange(3)):
                await asyncio.sleep(seeded.choice([0, 0.001]))
        finally:
            held -= 1
            gate.release(permit)
        finished += 1

    with anyio.fail_after(3600):
        await churn(use, gate, seeded, fired)

    assert held == 0
    assert finished > 1000
    if gate.most is not None:
        assert peak <= gate.most
    with anyio.fail_after(60):
        permits = [await gate.acquire() for _ in range(gate.lowest)]
    for permit in permits:
        gate.release(permit)


@pytest.mark.row(80)
async def test_a_gate_that_was_cut_gives_all_its_permits_again(fired: Fired) -> None:
    """Waiters cancelled while the limit falls and rises: at its height it is whole."""
    gate = AdaptiveGate(PERMITS)
    share = gate.share()
    for _ in range(4):
        gate.refused()
        await asyncio.sleep(1.1)
    assert gate.limit == 1
    await share.acquire()
    waiting = [asyncio.create_task(share.acquire()) for _ in range(50)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        fired()
        task.cancel()
    await asyncio.sleep(0)
    share.release()
    for _ in range(200):
        await asyncio.sleep(0)
        gate.accepted()
        if gate.free < PERMITS:
            share.release()
    await asyncio.gather(*waiting[1::2])

    assert gate.free == PERMITS
    with anyio.fail_after(1):
        for _ in range(gate.limit):
            await share.acquire()
