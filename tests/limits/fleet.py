"""Clients that share a limit and use it up, and what arrived of each."""

from __future__ import annotations

import random
import time
from bisect import bisect_left

import anyio

from elluminate_async.batch import RateLimit
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.shared_window import heaviest
from tests.limits.shares import MemoryShare

EPSILON = 1e-6

Sent = list[tuple[float, int]]
"""Moments and weights."""


def most_in_a_window(sent: Sent, period: float) -> int:
    """The largest sum of weights in any half-open window."""
    sent = sorted(sent)
    times = [at for at, _ in sent]
    before = [0]
    for _, weight in sent:
        before.append(before[-1] + weight)
    width = period * (1 - EPSILON)
    return max(before[bisect_left(times, at + width)] - before[i] for i, at in enumerate(times))


async def send(limits: Limits, sent: Sent, *, until: float, at_once: int, items: int = 0) -> None:
    """Requests one after another, so many at once, each of up to ``items`` items."""

    async def one() -> None:
        while time.monotonic() < until:
            weight = random.randint(1, items) if items else 0
            limits.ended(await limits.admit(items=weight))
            sent.append((time.monotonic(), weight or 1))
            await anyio.sleep(random.uniform(0, 0.01))

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(one)


async def sent_by(
    share: MemoryShare,
    seconds: float,
    rate: RateLimit | None,
    item_limit: RateLimit | None = None,
    *,
    clients: int = 4,
) -> list[Sent]:
    """By each of several clients of a share."""
    until = time.monotonic() + seconds
    found: list[Sent] = [[] for _ in range(clients)]
    items = 0 if item_limit is None else heaviest(item_limit)
    async with anyio.create_task_group() as tasks:
        for sent in found:
            limits = Limits(10, rate, item_limit, share=share, chunk=max(1, items))
            tasks.start_soon(
                lambda a=limits, b=sent: send(a, b, until=until, at_once=20, items=items)
            )
    return found


def joined(found: list[Sent]) -> Sent:
    return [one for sent in found for one in sent]


def used(sent: Sent, limit: RateLimit) -> float:
    sent = sorted(sent)
    weight = sum(weight for _, weight in sent[:-1])
    return weight / (sent[-1][0] - sent[0][0]) / (limit.requests / limit.period)
