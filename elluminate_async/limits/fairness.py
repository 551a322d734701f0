"""Permits that are shared between calls, and not first come first served between requests."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from elluminate_async.batch import Priority

RANKS: Final[dict[Priority, int]] = {"interactive": 0, "normal": 1, "bulk": 2}
"""The classes of calls, by who goes first."""

TURN: Final = 10
"""Of so many permits that pass over a class which holds none, the last one is that class's."""

_BULK: Final = RANKS["bulk"]
_SLACK: Final = 64  # entries of a queue that may be out of date

M = TypeVar("M", "Share", "Group", "Share | Group")


@dataclass(slots=True, eq=False)
class _Waiter:
    arrival: int
    turn: anyio.Event = field(default_factory=anyio.Event)


class _Queue(Generic[M]):
    """Members that wait: first the one that holds the fewest, of these the one that came first."""

    __slots__ = ("_heap", "_members", "_numbers")

    def __init__(self) -> None:
        # What has changed since stays in until it comes up.
        self._heap: list[tuple[int, int, int, M]] = []
        self._members: dict[M, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._members)

    def put(self, member: M) -> None:
        """Put ``member`` where it belongs now; nowhere, when it waits no more."""
        arrival = member.arrival
        if arrival is None:
            self._members.pop(member, None)
        else:
            number = self._members[member] = next(self._numbers)
            heapq.heappush(self._heap, (member.held, arrival, number, member))
        if len(self._heap) > 2 * len(self._members) + _SLACK:
            self._heap = [entry for entry in self._heap if self._members.get(entry[3]) == entry[2]]
            heapq.heapify(self._heap)

    def first(self) -> M:
        """The member whose turn it is."""
        while True:
            _, _, number, member = self._heap[0]
            if self._members.get(member) == number:
                return member
            heapq.heappop(self._heap)

    @property
    def arrival(self) -> int | None:
        """When the first one came; None where nobody waits."""
        return self.first().arrival if self._members else None


class Group:
    """Calls that count as one beside others, and are even among themselves.

    Attributes:
        held: Permits that they hold.
    """

    __slots__ = ("held", "queue")

    def __init__(self) -> None:
        self.held = 0
        self.queue = _Queue[Share]()

    @property
    def arrival(self) -> int | None:
        """When the one that is next came; None where nobody waits."""
        return self.queue.arrival


class Share:
    """The part of a gate that one call has: permits that it holds, and that it waits for.

    Attributes:
        rank: Its class, 0 for the one that goes first.
        group: The calls that it counts with; None for itself alone.
        held: Permits that it holds.
        waiting: Its requests that wait for one.
    """

    __slots__ = ("_gate", "group", "held", "rank", "waiting")

    def __init__(self, gate: FairGate, rank: int, group: Group | None) -> None:
        self._gate = gate
        self.rank = rank
        self.group = group
        self.held = 0
        self.waiting: deque[_Waiter] = deque()

    @property
    def arrival(self) -> int | None:
        """When the first of those that wait came; None for none."""
        return self.waiting[0].arrival if self.waiting else None

    def try_acquire(self) -> bool:
        """Take a permit, if one can be had at once and nobody is to have it first."""
        return self._gate.try_acquire(self)

    async def acquire(self) -> None:
        """Wait for a permit."""
        await self._gate.acquire(self)

    def release(self) -> None:
        """Give a permit back."""
        self._gate.release(self)


class FairGate:
    """At most ``limit`` permits are held at once, fairly between calls.

    Of those who wait the next permit is for the one whose class goes first (`RANKS`), in a class
    for the call that holds the fewest, and where these are even for who came first; within a
    call, first come, first served. Calls of a group count as one beside others. So a call that
    has nothing in flight does not wait behind all the chunks of one that has much.

    Bulk calls leave the last permit where it is, for whoever comes; where there is only one,
    they take it when nobody else waits. No class is kept out: one that waits and holds none gets
    the permit after nine that passed it over, a last one too.

    Attributes:
        limit: Holders allowed now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._held_by = [0] * len(RANKS)
        self._queues = [_Queue[Share | Group]() for _ in RANKS]
        self._passed_over = [0] * len(RANKS)
        self._arrivals = itertools.count()

    def share(self, priority: Priority = "normal", group: Group | None = None) -> Share:
        """The share of a call that begins now; all of a ``group`` are of one priority."""
        return Share(self, RANKS[priority], group)

    def change_limit(self, limit: int) -> None:
        """Allow so many holders; who holds a permit keeps it."""
        grows = limit > self.limit
        self.limit = limit
        if grows:
            self._wake()

    @property
    def held(self) -> int:
        """Permits that somebody holds."""
        return self._held

    def try_acquire(self, share: Share) -> bool:
        """Take a permit for ``share``, if one can be had at once and nobody is to have it first."""
        # Whoever could have had a permit has it. So who waits is bulk, for the last one.
        if not self._may_take(share.rank) or self._queues[share.rank] or self._overdue():
            return False
        self._give(share)
        return True

    async def acquire(self, share: Share) -> None:
        """Wait for a permit for ``share``."""
        if self.try_acquire(share):
            try:
                await anyio.lowlevel.checkpoint()
            except BaseException:
                self.release(share)
                raise
            return
        waiter = _Waiter(next(self._arrivals))
        share.waiting.append(waiter)
        if len(share.waiting) == 1:
            self._put(share)
        self._wake()
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter.turn.is_set():
                self.release(share)
            else:
                self._leave(share, waiter)
            raise

    def release(self, share: Share) -> None:
        """Give a permit of ``share`` back."""
        if share.held <= 0:
            raise ValueError("a permit was released too many times")
        self._count(share, -1)
        if share.waiting or (share.group is not None and share.group.queue):
            self._put(share)
        self._wake()

    def occupy(self) -> None:
        """Take a permit that nobody can be kept waiting for, over the limit where it must be."""
        self._held += 1

    def vacate(self) -> None:
        """Give such a permit back."""
        self._held -= 1
        self._wake()

    def _leave(self, share: Share, waiter: _Waiter) -> None:
        share.waiting.remove(waiter)
        self._put(share)
        self._wake()

    def _put(self, share: Share) -> None:
        """Put ``share`` and its group where they belong now."""
        queue, group = self._queues[share.rank], share.group
        if group is None:
            queue.put(share)
        else:
            group.queue.put(share)
            queue.put(group)
        if not queue:
            self._passed_over[share.rank] = 0

    def _wake(self) -> None:
        while self._held < self.limit:
            rank = self._overdue() or self._first()
            if rank is None or not self._may_take(rank):
                return
            first = self._queues[rank].first()
            share = first.queue.first() if isinstance(first, Group) else first
            waiter = share.waiting.popleft()
            self._give(share)
            self._put(share)
            waiter.turn.set()

    def _first(self) -> int | None:
        """The class whose turn it is; None where nobody waits."""
        return next((rank for rank, queue in enumerate(self._queues) if queue), None)

    def _overdue(self) -> int | None:
        """A class that was passed over for long enough, the last one first; None for none."""
        for rank in range(_BULK, 0, -1):
            if self._passed_over[rank] >= TURN - 1:
                return rank
        return None

    def _may_take(self, rank: int) -> bool:
        """Whether there is a permit for somebody of that class."""
        free, overdue = self.limit - self._held, self._passed_over[rank] >= TURN - 1
        return free > 1 or (free == 1 and (rank != _BULK or overdue or self.limit == 1))

    def _give(self, share: Share) -> None:
        self._count(share, 1)
        self._passed_over[share.rank] = 0
        for rank in range(share.rank + 1, len(RANKS)):
            if self._queues[rank] and not self._held_by[rank]:
                self._passed_over[rank] += 1

    def _count(self, share: Share, change: int) -> None:
        share.held += change
        if share.group is not None:
            share.group.held += change
        self._held_by[share.rank] += change
        self._held += change
