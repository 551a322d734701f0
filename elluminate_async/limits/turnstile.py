"""Requests that wait for a window go in one at a time, and calls take turns."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from elluminate_async.limits.fairness import RANKS, TURN

if TYPE_CHECKING:
    from elluminate_async.limits.fairness import Share

_FIRST: Final = 0
_QUEUES: Final = 2 * len(RANKS)  # of each class of calls those that are new, and those that were in


@dataclass(slots=True, eq=False)
class _Waiter:
    weight: int
    turn: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True, eq=False)
class _Line:
    """The requests of one call that wait, and the class of the call."""

    call: object
    rank: int
    waiting: deque[_Waiter] = field(default_factory=deque[_Waiter])


class Turnstile:
    """One request at a time, fairly between calls.

    Of those who wait the next is of the class of calls that goes first; in a class, calls that
    were not let in since they wait go before those that were, and these in turn; within a call,
    first come, first served. So one request does not wait behind all those of another call.

    Nobody is kept out: when what passed somebody over weighs nine times as much as what they
    want, it is their turn.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._lines: dict[object, _Line] = {}
        self._queues = [deque[_Line]() for _ in range(_QUEUES)]
        self._passed_over = [0] * _QUEUES  # the weight that has passed over those in each queue
        self._strangers = itertools.count()

    def waiting(self, most: int) -> int:
        """How many wait for their turn, up to ``most``."""
        found = 0
        for line in self._lines.values():
            found += len(line.waiting)
            if found >= most:
                return most
        return found

    @asynccontextmanager
    async def turn(
        self, share: Share | None, weight: int = 1, *, first: bool = False
    ) -> AsyncGenerator[None]:
        """The turn of a request of the call that has ``share``; of one of its own, where None.

        With ``first`` it goes before all that are not.
        """
        if self._is_taken or self._lines:
            await self._wait(share, weight, first=first)
        else:
            self._is_taken = True
        try:
            yield
        finally:
            self._is_taken = False
            self._wake()

    async def _wait(self, share: Share | None, weight: int, *, first: bool) -> None:
        call = share if share is not None and not first else next(self._strangers)
        line = self._lines.get(call)
        if line is None:
            rank = _FIRST if first else RANKS["normal"] if share is None else share.rank
            line = self._lines[call] = _Line(call, rank)
            self._queues[2 * rank].append(line)
        waiter = _Waiter(weight)
        line.waiting.append(waiter)
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter.turn.is_set():
                self._is_taken = False
                self._wake()
            else:
                line.waiting.remove(waiter)
                if not line.waiting:
                    self._forget(line)
            raise

    def _forget(self, line: _Line) -> None:
        del self._lines[line.call]
        for queue in (self._queues[2 * line.rank], self._queues[2 * line.rank + 1]):
            if line in queue:
                queue.remove(line)

    def _wake(self) -> None:
        if self._is_taken or (chosen := self._next()) is None:
            return
        self._is_taken = True
        line = self._queues[chosen].popleft()
        waiter = line.waiting.popleft()
        self._passed_over[chosen] = 0
        for lower in range(chosen + 1, _QUEUES):
            passed = self._passed_over[lower] + waiter.weight
            self._passed_over[lower] = passed if self._queues[lower] else 0
        if line.waiting:
            self._queues[2 * line.rank + 1].append(line)
        else:
            del self._lines[line.call]
        waiter.turn.set()

    def _next(self) -> int | None:
        """The queue whose turn it is; None where nobody waits."""
        found = None
        for number in reversed(range(_QUEUES)):
            queue = self._queues[number]
            if queue:
                found = number
                if self._passed_over[number] >= (TURN - 1) * queue[0].waiting[0].weight:
                    return number
        return found
