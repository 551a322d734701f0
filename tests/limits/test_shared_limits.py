"""Limits that several clients keep together, in virtual time: strict, used, and even."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time

import anyio
import pytest

from elluminate_async import AsyncClient, BatchOptions, DeadlineError
from elluminate_async.batch import RateLimit
from elluminate_async.batch.share import Slots
from elluminate_async.batch.share_table import ShareTable
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from tests.limits.fleet import Sent, joined, most_in_a_window, send, sent_by, used
from tests.limits.shares import MemoryShare


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize(
    ("requests", "period", "seconds"), [(1, 0.5, 20), (20, 2.0, 60), (100, 1.0, 20), (1000, 1.0, 5)]
)
async def test_a_limit_is_kept_together_and_used(
    requests: int, period: float, seconds: float
) -> None:
    """Four clients: never over n in any window, 97 % of it used, none has much more than others."""
    random.seed(1)
    limit = RateLimit(requests, period)

    found = await sent_by(MemoryShare(), seconds, limit)

    sent = joined(found)
    assert most_in_a_window(sent, period) <= requests
    assert used(sent, limit) >= 0.97
    each = [len(one) for one in found]
    assert requests == 1 or max(each) - min(each) <= max(2, 0.05 * max(each))


async def test_a_client_alone_uses_the_limit_too() -> None:
    """What the way to the share takes is made up for."""
    limit = RateLimit(100, 1.0)

    [sent] = await sent_by(MemoryShare(round_trip=0.004), 20, limit, clients=1)

    assert most_in_a_window(sent, 1.0) <= 100
    assert used(sent, limit) >= 0.97


@pytest.mark.parametrize("of", ["requests", "items"])
async def test_an_answer_of_the_share_that_is_late_leaves_no_slots_unused(of: str) -> None:
    """Such as of an actor that had no turn: others have slots meanwhile, and its own are placed."""
    share, limit = MemoryShare(late_once_in=10, late=0.03), RateLimit(1000, 1.0)
    until, sent = time.monotonic() + 10, Sent()
    limits_of = (limit, None) if of == "requests" else (None, limit)

    async def one(limits: Limits) -> None:
        weight = 4 if of == "items" else 1
        while time.monotonic() < until:
            limits.ended(await limits.admit(items=weight if of == "items" else 0))
            sent.append((time.monotonic(), weight))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            limits = Limits(20, *limits_of, share=share, chunk=4)
            for _ in range(20):
                tasks.start_soon(one, limits)

    assert most_in_a_window(sent, 1.0) <= 1000
    assert used(sent, limit) >= 0.97


async def test_a_share_that_forgets_all_gives_no_slot_twice() -> None:
    """Its limits begin again after a second: by then what was given away has been sent."""
    share, limit = MemoryShare(), RateLimit(20, 2.0)
    found: list[Sent] = []

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            found.extend(await sent_by(share, 20, limit, clients=16))

        tasks.start_soon(run)
        for seconds in (3, 4.05, 2.33):
            await anyio.sleep(seconds)
            share.table = ShareTable()

    assert most_in_a_window(joined(found), 2.0) <= 20


async def test_a_share_that_is_far_is_kept_too(caplog: pytest.LogCaptureFixture) -> None:
    """Where its round trip alone would make each slot late: fewer, never over n, one warning."""
    limit = RateLimit(100, 1.0)

    found = await sent_by(MemoryShare(round_trip=0.08), 20, limit, clients=2)

    assert most_in_a_window(joined(found), 1.0) <= 100
    assert all(used(sent, limit) >= 0.2 for sent in found)
    assert len([one for one in caplog.records if "is 80 ms away" in one.getMessage()]) == 2


async def test_a_slot_that_nobody_used_in_time_is_void() -> None:
    """A process that was stopped does not send what it had slots for when it goes on."""
    share, limit, times = MemoryShare(), RateLimit(10, 1.0), Sent()
    limits = Limits(10, limit, share=share)
    other = Limits(10, limit, share=share)
    await limits.admit()
    waiting = [asyncio.create_task(limits.admit()) for _ in range(3)]
    await anyio.sleep(0.05)
    loop = asyncio.get_running_loop()
    loop.now += 3.0  # type: ignore[attr-defined]  # as if it was stopped
    at = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: send(other, times, until=at + 2, at_once=5))
        for task in waiting:
            task.add_done_callback(lambda _: times.append((time.monotonic(), 1)))
    await asyncio.wait(waiting)

    assert most_in_a_window(times, 1.0) <= 10


async def test_a_share_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is sent meanwhile; the log has one warning, and says when it is back."""
    caplog.set_level(logging.INFO)
    share = MemoryShare()
    limits = Limits(10, RateLimit(20, 2.0), share=share)
    await limits.admit()
    began = time.monotonic()
    share.away_until = began + 30

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(limits.admit)

    assert 30 <= time.monotonic() - began <= 33
    told = [one.getMessage() for one in caplog.records]
    assert [("does not answer (nobody is there)" in one, "is back" in one) for one in told] == [
        (True, False), (False, True),
    ]  # fmt: skip


async def test_a_deadline_that_passes_meanwhile_names_the_share() -> None:
    """Who reads the error knows that it is the share that is away, and not the service."""
    share = MemoryShare()
    share.away_until = time.monotonic() + 10
    options = BatchOptions(rate_limit=RateLimit(20, 2.0), share=share)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="key", options=options)
    told = f"waited for the share {share.name!r} of limits, which does not answer (nobody is there)"

    with pytest.raises(DeadlineError, match=re.escape(told)) as raised:
        async with client.deadline(3):
            await client.projects.list()

    assert raised.value.attempts == 0
    await client.close()


async def test_a_wait_that_is_cancelled_while_the_share_is_away() -> None:
    """It ends at once, and the next one goes on as soon as the share is back."""
    share = MemoryShare()
    limits = Limits(10, RateLimit(20, 2.0), share=share)
    share.away_until = time.monotonic() + 10
    with anyio.move_on_after(3) as scope:
        await limits.admit()
    assert scope.cancelled_caught
    await limits.admit()

    assert time.monotonic() - share.away_until <= 2.5


async def test_what_one_is_told_to_wait_all_wait() -> None:
    """A ``Retry-After`` holds the others within their next request, by slots or without any."""
    share = MemoryShare()
    told, *others = [Limits(10, rate, share=share) for rate in (None, None, RateLimit(20, 2.0))]
    for one in (told, *others):
        await one.admit()
    began = time.monotonic()
    told.hold(10)
    await anyio.sleep(0.3)
    for one in (told, *others):
        await one.admit()

    assert 10 <= time.monotonic() - began <= 11.5
    told.hold(1)
    await anyio.sleep(0.3)
    told.hold(20)
    began = time.monotonic()
    await anyio.sleep(0.3)
    await others[1].admit()
    assert time.monotonic() - began >= 20


async def test_closing_ends_what_is_told_to_a_share_that_is_away() -> None:
    """And closes it, once."""
    share = MemoryShare(away_until=float("inf"))
    limits = Limits(10, None, share=share)
    limits.hold(3600)
    limits.refused()
    await anyio.sleep(1)
    before = asyncio.all_tasks()
    await limits.aclose()

    assert share.closed == 1
    assert {task.get_name() for task in before - asyncio.all_tasks()} == {"share memory"}


async def test_no_more_slots_are_taken_than_there_are_who_wait() -> None:
    """A lease of 50 ms for many, one slot for one: the others' are not kept back."""
    share = MemoryShare()
    limits = Limits(10, RateLimit(1000, 1.0), share=share)
    await limits.admit()
    end = share.table.ends["requests"]
    await limits.admit()
    assert share.table.ends["requests"] - end < 0.0022 + 0.02
    calls = share.calls
    async with anyio.create_task_group() as tasks:
        for _ in range(96):
            tasks.start_soon(limits.admit)

    assert share.calls - calls == 2


def test_slots_of_several_limits_are_taken_all_or_none() -> None:
    """They begin together, where the last of them may; too late or in a hold none is taken."""
    table = ShareTable()
    both = [Slots("a", 1.0, 2, 0.5), Slots("b", 10.0, 1, 1.0)]

    assert table.reserve(100.0, both, earliest=0.0, latest=1.0) == (True, 1.0, 0.0)
    assert table.ends == {"a": 103.0, "b": 111.0}
    assert table.reserve(101.0, both, earliest=0.0, latest=5.0) == (False, 10.0, 0.0)
    assert table.ends == {"a": 103.0, "b": 111.0}
    assert table.reserve(
        102.0, [Slots("a", 1.0, 1, 1.0, 7.9), both[1]], earliest=0.0, latest=99.0
    ) == (False, 9.0, 0.0)
    assert table.reserve(104.0, both[:1], earliest=-0.5, latest=1.0) == (True, -0.5, 0.0)
    table.hold(104.0, 3.0)
    table.hold(104.0, 1.0)
    assert table.reserve(105.0, both, earliest=0.0, latest=99.0) == (False, 0.0, 2.0)


def test_what_the_service_takes_is_measured_over_two_seconds() -> None:
    """Of all who tell; and of refusals within a second the first one counts."""
    table = ShareTable()
    for tenth in range(40):
        table.pace(100 + tenth / 10, accepted=2)
    assert table.pace(103.9).measured == pytest.approx(20, rel=0.06)
    assert table.pace(104.0, refused=20.0)[1:3] == (20.0, 0.0)
    assert table.pace(104.5, refused=14.0)[1:3] == (20.0, 0.5)
    assert table.pace(105.5, refused=14.0)[1:3] == (14.0, 0.0)
    assert table.pace(110.0).measured == 0
