"""The limit on items in virtual time: strict in any window, used, and fair to heavy requests."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import RateLimit
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.strict import StrictLimits
from elluminate_async.limits.weights import WeightedGate
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually

EPSILON = 1e-6  # of a period: what floating point adds and takes away

Sent = list[tuple[float, int]]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def most_in_a_window(sent: Sent, period: float) -> int:
    """The largest sum of weights in any half-open window."""
    width = period * (1 - EPSILON)
    most = first = total = 0
    for at, weight in sent:
        total += weight
        while sent[first][0] <= at - width:
            total -= sent[first][1]
            first += 1
        most = max(most, total)
    return most


async def pass_(gate: WeightedGate, weight: int, sent: Sent) -> None:
    async with gate.turn(weight) as count:
        count()
        sent.append((time.monotonic(), weight))


async def all_sent(gate: WeightedGate, weights: list[int]) -> Sent:
    sent: Sent = []
    async with anyio.create_task_group() as tasks:
        for weight in weights:
            tasks.start_soon(pass_, gate, weight, sent)
    return sent


@pytest.mark.parametrize(
    ("most", "period", "weights"),
    [
        (3000, 60.0, [50]),
        (100, 1.0, [1]),
        (100, 60.0, [50]),
        (1000, 1.0, [7, 1, 50]),
        (5000, 0.5, [50, 3]),
        (90_000, 60.0, [1500]),
    ],
)
async def test_a_limit_is_strict_and_used(most: int, period: float, weights: list[int]) -> None:
    """At most n units in any window, and 95 % of n over the whole."""
    count = 8 * most * len(weights) // sum(weights)
    sent = await all_sent(WeightedGate(RateLimit(most, period)), (weights * count)[:count])

    assert most_in_a_window(sent, period) <= most
    total = sum(weight for _, weight in sent[:-1])
    assert total / (sent[-1][0] - sent[0][0]) >= 0.95 * most / period


async def test_a_share_is_not_sent_at_once() -> None:
    """60 chunks of 50 at 3,000 a minute are one a second, not all of them in the first."""
    sent = await all_sent(WeightedGate(RateLimit(3000, 60.0)), [50] * 180)

    gaps = [b[0] - a[0] for a, b in pairwise(sent)]
    assert min(gaps) >= 1 - 0.021
    assert max(gaps) <= 1.1


async def test_what_does_not_divide_is_used_as_far_as_it_fits() -> None:
    """Of 40 at a time two fit into 100 and three do not."""
    sent = await all_sent(WeightedGate(RateLimit(100, 60.0)), [40] * 21)

    assert most_in_a_window(sent, 60.0) == 80
    assert sent[-1][0] - sent[0][0] == pytest.approx(600, rel=0.01)


async def test_light_ones_do_not_pass_a_heavy_one() -> None:
    """Who asked first goes first, whatever it weighs: the heavy one is not starved."""
    gate = WeightedGate(RateLimit(100, 10.0))
    order: list[int] = []

    async def use(number: int, weight: int) -> None:
        async with gate.turn(weight) as count:
            count()
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(use, number, 80 if number == 20 else 1)

    assert order == list(range(300))


async def test_more_than_the_limit_waits_for_a_window_of_its_own() -> None:
    """It does not hang, and nothing else is sent in that window."""
    sent = await all_sent(WeightedGate(RateLimit(10, 5.0)), [1, 500, 1])

    assert [at - sent[0][0] for at, _ in sent] == pytest.approx([0, 5, 10], abs=0.05)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 200),
    st.sampled_from([0.1, 1.0, 60.0]),
)
def test_no_interleaving_oversteps_or_strands(seed: int, most: int, period: float) -> None:
    """Bursts, pauses, and waiters cancelled before or in their turn: strict, and all get through.

    Who leaves without sending gives its place back.
    """
    seeded = random.Random(seed)
    gate = WeightedGate(RateLimit(most, period))
    sent: Sent = []

    async def use() -> None:
        weight = seeded.randint(1, most)
        async with gate.turn(weight) as count:
            await asyncio.sleep(seeded.choice([0, 0, 0.1 * period]))
            count()
            sent.append((time.monotonic(), weight))

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(60):
            tasks.append(asyncio.create_task(use()))
            await asyncio.sleep(seeded.choice([0, 0, 0.3, 2]) * period)
            if seeded.random() < 0.4:
                seeded.choice(tasks).cancel()
        with anyio.fail_after(200 * period):
            await asyncio.wait(tasks)
        assert len(sent) == sum(not task.cancelled() for task in tasks)

    run_virtually(main)

    assert not sent or most_in_a_window(sent, period) <= most


async def test_items_wait_for_the_rate_of_requests_and_for_holds_too() -> None:
    """Counted when they are sent: a hold does not end in a burst of items."""
    item_limit = RateLimit(100, 10.0)
    limits = Limits(10, RateLimit(5, 1.0), item_limit)
    sent: Sent = []

    async def send(weight: int) -> None:
        limits.ended(await limits.admit(items=weight))
        sent.append((time.monotonic(), weight))

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(send, 20)
            tasks.start_soon(send, 0)
        await anyio.sleep(25)
        limits.hold(60)

    assert most_in_a_window(sent, item_limit.period) <= 100
    assert most_in_a_window([(at, 1) for at, _ in sent], 1.0) <= 5


async def test_a_call_narrows_what_the_client_has_left() -> None:
    """Its own limit and the client's both hold, for items and requests, after a hold too."""
    limits = Limits(10, RateLimit(10, 1.0), RateLimit(1000, 10.0))
    narrow = limits.narrowed(StrictLimits(RateLimit(3, 1.0), RateLimit(100, 10.0)))
    own: Sent = []
    all_: Sent = []

    async def send(through: Limits, weight: int) -> None:
        limits.ended(await through.admit(items=weight))
        all_.append((time.monotonic(), weight))
        if through is narrow:
            own.append(all_[-1])

    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(send, narrow, 10)
            tasks.start_soon(send, limits, 10)
        await anyio.sleep(5)
        narrow.hold(30)

    assert most_in_a_window(own, 10.0) <= 100
    assert most_in_a_window([(at, 1) for at, _ in own], 1.0) <= 3
    assert most_in_a_window([(at, 1) for at, _ in all_], 1.0) <= 10
