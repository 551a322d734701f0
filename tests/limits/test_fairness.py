"""Permits are shared between calls: whose turn it is, and that none is lost. No clock, no HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import Priority
from elluminate_async.limits.adaptive import AdaptiveGate
from elluminate_async.limits.fairness import RANKS, TURN, FairGate, Group, Share
from tests.engine.scripted import turns


class Served:
    """Requests of several calls that wait, and the order in which they get their permits.

    Attributes:
        order: The names of those that have got one.
    """

    def __init__(self) -> None:
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def wait(self, share: Share, name: str, count: int = 1) -> None:
        """Have so many requests of a call wait."""

        async def request() -> None:
            await share.acquire()
            self.order.append(name)

        self.tasks += [asyncio.create_task(request()) for _ in range(count)]
        await turns()

    async def after(self, releases: Iterable[Share]) -> str:
        """The order in which those got a permit that were given back one by one."""
        for share in releases:
            share.release()
            await turns()
        return "".join(self.order)

    def end(self) -> None:
        """Cancel who waits still."""
        for task in self.tasks:
            task.cancel()


@pytest.fixture
async def served() -> Served:
    return Served()


async def taken(gate: FairGate, share: Share) -> None:
    """Have ``share`` hold all permits."""
    for _ in range(gate.limit):
        await share.acquire()


async def test_a_call_with_nothing_in_flight_goes_before_one_with_much(served: Served) -> None:
    """The next permit is not for the run that waits for its eleventh chunk."""
    gate = FairGate(10)
    run, single = gate.share(), gate.share()
    await taken(gate, run)
    await served.wait(run, "r", 3)
    await served.wait(single, "s")

    assert await served.after([run] * 2) == "sr"
    served.end()


async def test_calls_that_are_even_are_served_as_they_came(served: Served) -> None:
    """Nothing in flight for any: first come, first served."""
    gate = FairGate(3)
    holder = gate.share()
    await taken(gate, holder)
    for name in "abc":
        await served.wait(gate.share(), name)

    assert await served.after([holder] * 3) == "abc"


async def test_two_runs_come_to_have_the_same(served: Served) -> None:
    """One held all permits when the other came: then each has half of them."""
    gate = FairGate(10)
    first, second = gate.share(), gate.share()
    await taken(gate, first)
    await served.wait(first, "1", 20)
    await served.wait(second, "2", 20)

    await served.after([first] * 8)

    assert (first.held, second.held) == (5, 5)
    served.end()


async def test_the_class_goes_before_what_is_held(served: Served) -> None:
    """An interactive call with much in flight goes before a bulk call with nothing."""
    gate = FairGate(8)
    shares = {priority: gate.share(priority) for priority in RANKS}
    await taken(gate, shares["interactive"])
    for priority in reversed(RANKS):
        await served.wait(shares[priority], priority[0], 2)

    # One more for bulk, which leaves the last.
    assert await served.after([shares["interactive"]] * 6) == "iinnb"
    served.end()


async def test_bulk_leaves_the_last_permit() -> None:
    """Whoever comes finds one, however many chunks the run has."""
    gate = FairGate(4)
    run, single = gate.share("bulk"), gate.share("interactive")

    assert [run.try_acquire() for _ in range(4)] == [True] * 3 + [False]
    assert single.try_acquire()


async def test_several_bulk_runs_together_leave_the_last_permit() -> None:
    """Nor does the second of them take it."""
    gate = FairGate(3)
    runs = [gate.share("bulk") for _ in range(3)]

    assert [run.try_acquire() for run in runs] == [True, True, False]


async def test_a_single_permit_is_bulks_when_nobody_else_waits(served: Served) -> None:
    """Else nothing would ever be sent; but whoever else waits is first."""
    gate = FairGate(1)
    run = gate.share("bulk")
    assert run.try_acquire()
    await served.wait(run, "b")
    await served.wait(gate.share(), "n")

    assert await served.after([run]) == "n"
    served.end()


async def test_a_limit_that_was_cut_to_one_is_a_single_permit() -> None:
    """The same after refusals: the run goes on with it, and leaves the last of several again."""
    gate = FairGate(4)
    run = gate.share("bulk")
    gate.change_limit(1)

    assert run.try_acquire()
    assert not run.try_acquire()
    gate.change_limit(3)
    assert [run.try_acquire() for _ in range(2)] == [True, False]


@pytest.mark.parametrize("limit", [1, 4])
async def test_bulk_has_every_tenth_permit_while_it_holds_none(limit: int) -> None:
    """Interactive calls without end keep it waiting for nine of them, and not for ever."""
    gate = FairGate(limit)
    served, bulk = Served(), gate.share("bulk")
    holders = [gate.share("interactive") for _ in range(limit)]
    for holder in holders:
        assert holder.try_acquire()
    await served.wait(bulk, "b", 2)
    for _ in range(3 * TURN):
        holders.append(gate.share("interactive"))
        await served.wait(holders[-1], "i")

    assert await served.after(holders[:TURN]) == "i" * (TURN - 1) + "b"
    if limit > 1:
        # With one in flight it has to wait for the others.
        assert "b" not in (await served.after(holders[TURN : 2 * TURN]))[TURN:]
    served.end()


async def test_a_request_does_not_slip_in_before_a_turn_that_is_due(served: Served) -> None:
    """Also where each interactive call finds the last permit free, bulk has it in its turn."""
    gate = FairGate(2)
    normal, bulk = gate.share(), gate.share("bulk")
    assert normal.try_acquire()
    await served.wait(bulk, "b")
    single = gate.share("interactive")
    taken_at_once = 0
    while single.try_acquire():
        taken_at_once += 1
        single.release()

    await served.wait(single, "i")

    assert taken_at_once == TURN - 1
    assert "".join(served.order) == "b"
    served.end()


async def test_a_group_counts_as_one(served: Served) -> None:
    """Ten calls of one project are even with one of another, and with each other."""
    gate = FairGate(4)
    mine, other = Group(), Group()
    calls = [gate.share(group=mine) for _ in range(10)]
    holder = gate.share()
    await taken(gate, holder)
    for number, share in enumerate(calls):
        await served.wait(share, str(number))
    single = gate.share(group=other)
    await served.wait(single, "s", 2)

    assert await served.after([holder] * 4) == "0s1s"
    assert (mine.held, other.held) == (2, 2)
    served.end()


async def test_one_that_leaves_costs_the_others_nothing(served: Served) -> None:
    """Cancelled while it waits, or with the permit given and not taken yet."""
    gate = FairGate(1)
    holder = gate.share()
    await taken(gate, holder)
    for name in "abc":
        await served.wait(gate.share(), name)
    served.tasks[0].cancel()
    await turns()
    holder.release()  # to b, which does not run before it is cancelled
    served.tasks[1].cancel()
    await turns()

    assert served.order == ["c"]


class Machine:
    """A gate in the hands of many calls, and what must hold of it at any time."""

    def __init__(self, gate: AdaptiveGate, choice: Callable[[int], int]) -> None:
        self.gate = gate
        self._choice = choice
        group = Group()
        self.shares = [gate.share(priority) for priority in RANKS for _ in range(2)]
        self.shares += [gate.share(group=group) for _ in range(3)]
        self.waiting: dict[asyncio.Task[None], Share] = {}

    async def step(self) -> None:
        """One thing that happens."""
        match self._choice(6):
            case 0 | 1:
                share = self.shares[self._choice(len(self.shares))]
                self.waiting[asyncio.create_task(share.acquire())] = share
            case 2 | 3:
                if held := [share for share in self.shares if share.held]:
                    held[self._choice(len(held))].release()
            case 4:
                if self.waiting:
                    [*self.waiting][self._choice(len(self.waiting))].cancel()
            case _:
                self.gate.change_limit(1 + self._choice(5))
        if self._choice(2):
            await turns(3)
        self.check()

    def check(self) -> None:
        """The gate knows who holds what."""
        self.waiting = {task: share for task, share in self.waiting.items() if not task.done()}
        assert self.gate.held == sum(share.held for share in self.shares)

    async def settle(self) -> None:
        """Nobody waits who could be served, and all permits come back."""
        while self.waiting:
            await turns(3)
            self.check()
            held = [share for share in self.shares if share.held]
            waiting = [share for share in self.shares if share.waiting]
            if not waiting:
                break
            assert held, "all permits are free, and somebody waits"
            held[0].release()
        await turns(3)
        for share in self.shares:
            while share.held:
                share.release()
        assert self.gate.held == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 59), max_size=200), st.integers(1, 5))
def test_no_order_of_events_breaks_the_gate(choices: list[int], limit: int) -> None:
    """Taken, given back, cancelled, cut and grown in any order: none is lost, nobody starves."""

    async def main() -> None:
        given = iter(choices)
        machine = Machine(AdaptiveGate(limit), lambda most: next(given, 0) % most)
        for _ in range(len(choices) // 3):
            before = machine.gate.held
            await machine.step()
            assert machine.gate.held <= max(before, machine.gate.limit)
        await machine.settle()

    asyncio.run(main())


async def test_nobody_starves_whatever_the_others_do() -> None:
    """Each of many calls is served within a bounded number of permits, by seeded chance."""
    seeded = random.Random(5)
    gate = FairGate(3)
    waits: list[int] = []
    given = 0

    async def call(priority: Priority) -> None:
        nonlocal given
        share = gate.share(priority)
        came = given
        await share.acquire()
        given += 1
        waits.append(given - came)
        await turns(seeded.randrange(4))
        share.release()

    async def callers(priority: Priority, count: int) -> None:
        for _ in range(count):
            await call(priority)

    interactive = [asyncio.create_task(callers("interactive", 400)) for _ in range(6)]
    others = [asyncio.create_task(callers(p, 5)) for p in ("normal", "bulk") for _ in range(3)]
    await asyncio.gather(*others)

    assert not all(task.done() for task in interactive)
    assert max(waits) <= 3 * 3 * TURN
    await asyncio.gather(*interactive)
