"""A limit on items that several clients keep together, in virtual time: strict and used."""

from __future__ import annotations

import random
import time

import anyio
import pytest

from elluminate_async.batch import RateLimit
from elluminate_async.limits.fairness import Share
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from tests.limits.fleet import Sent, joined, most_in_a_window, sent_by, used
from tests.limits.shares import MemoryShare


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize("rate", [None, RateLimit(20, 2.0)])
async def test_items_are_kept_together(rate: RateLimit | None) -> None:
    """Chunks of all sizes, also beside a limit on requests: both are strict."""
    random.seed(1)
    limit = RateLimit(500, 5.0)

    found = await sent_by(MemoryShare(), 60, rate, limit)

    sent = joined(found)
    assert most_in_a_window(sent, 5.0) <= 500
    if rate is None:
        assert used(sent, limit) >= 0.92
    else:
        assert most_in_a_window([(at, 1) for at, _ in sent], 2.0) <= 20


async def test_chunks_that_wait_take_their_slots_together() -> None:
    """Those of 50 ms at once, of so many as wait."""
    share = MemoryShare()
    limits = Limits(30, None, RateLimit(1000, 1.0), share=share, chunk=4)
    await limits.admit(items=4)
    calls, end = share.calls, share.table.ends["items"]
    async with anyio.create_task_group() as tasks:
        for _ in range(13):
            tasks.start_soon(lambda: limits.admit(items=4))

    assert share.calls - calls == 2
    # None is left over.
    assert share.table.ends["items"] - end == pytest.approx(52 * 1.02 / 997, abs=0.02)


@pytest.mark.parametrize("weights", [(1, 7), (2, 7), (1, 5), (1, 7, 20), (13, 20)])
@pytest.mark.parametrize("tasks_of_each", [1, 3, 10])
async def test_chunks_of_several_sizes_leave_no_slots_unused(
    weights: tuple[int, ...], tasks_of_each: int
) -> None:
    """Calls that take turns: what a chunk needs is taken for it, and no more."""
    share, limit, sent = MemoryShare(), RateLimit(400, 1.0), Sent()
    limits = Limits(100, None, limit, share=share, chunk=20)
    until = time.monotonic() + 10

    async def one(call: Share, weight: int) -> None:
        while time.monotonic() < until:
            limits.ended(await limits.admit(items=weight, share=call))
            sent.append((time.monotonic(), weight))
            await anyio.sleep(0.003)

    async with anyio.create_task_group() as tasks:
        for weight in weights:
            call = limits.share()
            for _ in range(tasks_of_each):
                tasks.start_soon(one, call, weight)

    assert most_in_a_window(sent, 1.0) <= 400
    # What the largest need beside others is a twentieth.
    assert used(sent, limit) >= 0.92


async def test_a_chunk_that_is_heavier_than_others_fits_too() -> None:
    """Such as one that a journal has of other options: it waits for a gap."""
    share, limit, sent = MemoryShare(), RateLimit(100, 5.0), Sent()
    for _ in range(6):
        limits = Limits(10, None, limit, share=share, chunk=5)
        for weight in (5, 5, 60):
            await limits.admit(items=weight)
            sent.append((time.monotonic(), weight))

    assert most_in_a_window(sent, 5.0) <= 100


async def test_streams_do_not_wait_behind_a_chunk() -> None:
    """A chunk has slots of its own: a request without items goes first where its turn is sooner."""
    limits = Limits(10, RateLimit(10, 1.0), RateLimit(20, 10.0), share=MemoryShare())
    order: list[str] = []

    async def chunk() -> None:
        await limits.admit(items=1)
        order.append("chunk")

    await limits.admit(items=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chunk)
        await anyio.sleep(0.01)
        await limits.admit()
        order.append("stream")

    assert order == ["stream", "chunk"]
