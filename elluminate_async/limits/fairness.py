"""Permits that are shared between calls, and not first come first served between requests."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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


@dataclass(slots=True, eq=False)
class _Waiter:
    arrival: int
    turn: anyio.Event = field(default_factory=anyio.Event)


class Share:
    """The part of a gate that one call has: permits that it holds, and that it waits for.

    Attributes:
        rank: Its class, 0 for the one that goes first.
        held: Permits that it holds.
    """

    __slots__ = ("_gate", "entry", "held", "rank", "waiting")

    def __init__(self, gate: FairGate, rank: int) -> None:
        self._gate = gate
        self.rank = rank
        self.held = 0
        self.waiting: deque[_Waiter] = deque()
        self.entry: tuple[int, int, int, Share] | None = None  # in the gate's queue

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
    call, first come, first served. So a call that has nothing in flight does not wait behind all
    the chunks of one that has much.

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
        # By class: (permits held, arrival, number, share) of those who wait, the next one first.
        # What changed since stays in until it comes up.
        self._queues: list[list[tuple[int, int, int, Share]]] = [[] for _ in RANKS]
        self._waiting = [0] * len(RANKS)  # shares in each queue
        self._passed_over = [0] * len(RANKS)
        self._arrivals = itertools.count()

    def share(self, priority: Priority = "normal") -> Share:
        """The share of a call that begins now."""
        return Share(self, RANKS[priority])

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
        if not self._may_take(share.rank) or self._waiting[share.rank] or self._overdue():
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
            self._waiting[share.rank] += 1
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
        share.held -= 1
        self._held_by[share.rank] -= 1
        self._held -= 1
        if share.waiting:
            self._put(share)
        self._wake()

    def _leave(self, share: Share, waiter: _Waiter) -> None:
        was_first = share.waiting[0] is waiter
        share.waiting.remove(waiter)
        if was_first:
            self._put(share)
        self._wake()

    def _put(self, share: Share) -> None:
        """Put ``share`` where it belongs in its queue; nowhere, when it waits no more."""
        queue = self._queues[share.rank]
        if not share.waiting:
            share.entry = None
            self._waiting[share.rank] -= 1
            if not self._waiting[share.rank]:
                queue.clear()
                self._passed_over[share.rank] = 0
            return
        first = share.waiting[0].arrival
        share.entry = (share.held, first, next(self._arrivals), share)
        heapq.heappush(queue, share.entry)
        if len(queue) > 2 * self._waiting[share.rank] + _SLACK:
            queue[:] = [entry for entry in queue if entry[3].entry is entry]
            heapq.heapify(queue)

    def _wake(self) -> None:
        while self._held < self.limit:
            rank = self._overdue() or self._first()
            if rank is None or not self._may_take(rank):
                return
            queue = self._queues[rank]
            while queue[0][3].entry is not queue[0]:
                heapq.heappop(queue)
            share = heapq.heappop(queue)[3]
            waiter = share.waiting.popleft()
            self._give(share)
            self._put(share)
            waiter.turn.set()

    def _first(self) -> int | None:
        """The class whose turn it is; None where nobody waits."""
        return next((rank for rank, waiting in enumerate(self._waiting) if waiting), None)

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
        share.held += 1
        self._held += 1
        self._held_by[share.rank] += 1
        self._passed_over[share.rank] = 0
        for rank in range(share.rank + 1, len(RANKS)):
            if self._waiting[rank] and not self._held_by[rank]:
                self._passed_over[rank] += 1
