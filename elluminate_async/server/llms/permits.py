"""Who may call a model now: a cap over all, of which no endpoint takes everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elluminate_async.server.llms.callers import Caller


@dataclass(slots=True, eq=False)
class _Waiter:
    caller: Caller
    turn: asyncio.Future[None]

    def order(self) -> tuple[int, int]:
        return self.caller.order


class Permits:
    """At most ``cap`` calls at once, of which some are left for other endpoints.

    The first permit of an endpoint leaves one for each of the operator's own that holds none; a
    further one leaves one for every other endpoint as well, for as many as a quarter of all. So
    endpoints that hang, and keep what they hold until their calls time out, leave the rest a
    turn: the operator's own always, others while no more than a quarter hang. Endpoints take
    turns. Of those who wait for one, the next is who has the fewest calls in flight: first its
    project, then itself, over all endpoints; and of these who came first.

    Args:
        cap: Calls in flight over all endpoints.

    Attributes:
        in_flight: Permits that are held.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.in_flight = 0
        self._known: set[str] = set()
        self._operators: set[str] = set()
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._is_draining = False
        self._drained = asyncio.Event()

    def expect(self, endpoint: str, *, is_operators: bool = False) -> None:
        """Learn of an endpoint, for which the others are to leave one permit."""
        self._known.add(endpoint)
        if is_operators:
            self._operators.add(endpoint)

    async def drain(self) -> None:
        """Give none any more, and return when none is held."""
        self._is_draining = True
        if self.in_flight:
            await self._drained.wait()

    def try_acquire(self, endpoint: str, caller: Caller) -> bool:
        """Take a permit, if there is one that nobody of this endpoint waits for."""
        if endpoint not in self._known:
            self.expect(endpoint)
        if endpoint in self._waiting or not self._fits(endpoint):
            return False
        self._count(endpoint, caller, 1)
        return True

    async def acquire(self, endpoint: str, caller: Caller) -> None:
        """Wait for a permit."""
        if self.try_acquire(endpoint, caller):
            return
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(caller, turn)
        self._waiting.setdefault(endpoint, []).append(waiter)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(endpoint, caller)
            else:
                self._forget(endpoint, waiter)
            raise

    def release(self, endpoint: str, caller: Caller) -> None:
        """Give a permit back."""
        self._count(endpoint, caller, -1)
        if not self.in_flight and self._is_draining:
            self._drained.set()
        if self._waiting:
            self._wake()

    def _count(self, endpoint: str, caller: Caller, change: int) -> None:
        self._held[endpoint] += change
        self.in_flight += change
        caller.count(change)

    def _fits(self, endpoint: str) -> bool:
        if self._is_draining:
            return False
        if self.in_flight + len(self._known) <= self.cap:
            return True  # there is one for each, as most of the time
        return self.in_flight + self._left_for_others(endpoint) < self.cap

    def _left_for_others(self, endpoint: str) -> int:
        """Permits that this endpoint is to leave where they are."""
        if self.cap == 1:
            return 0
        own = sum(self._is_idle(one, endpoint) for one in self._operators)
        if not self._held[endpoint]:
            return min(own, self.cap - 1)
        # Many that are named and hardly called are not to take the permits of those in use.
        most, others = max(1, self.cap // 4), 0
        for one in self._known - self._operators:
            if others == most:
                break
            others += self._is_idle(one, endpoint)
        return min(own + others, self.cap - 1)

    def _is_idle(self, one: str, asking: str) -> bool:
        return one != asking and not self._held[one]

    def _forget(self, endpoint: str, waiter: _Waiter) -> None:
        waiting = self._waiting.get(endpoint)
        if waiting is not None and waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiting[endpoint]

    def _wake(self) -> None:
        for endpoint in list(self._waiting):
            if self.in_flight >= self.cap:
                return
            if not self._fits(endpoint):
                continue
            # Taken out and put in last: the next permit is another endpoint's.
            waiting = [one for one in self._waiting.pop(endpoint) if not one.turn.done()]
            if not waiting:  # cancelled, and not yet gone
                continue
            # No more than have a place in a line, and the first of several that are even.
            waiter = min(waiting, key=_Waiter.order)
            waiting.remove(waiter)
            if waiting:
                self._waiting[endpoint] = waiting
            self._count(endpoint, waiter.caller, 1)
            waiter.turn.set_result(None)
