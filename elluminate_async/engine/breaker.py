"""Waiting out an outage, and coming back from it without a rush."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio

Probe: TypeAlias = Callable[[], Awaitable[bool]]
"""Asks the service for the least that it can be asked for; whether it answered."""

DOUBT: Final = 5
"""Failures in a row from which on nothing is sent again."""

OPEN: Final = 20
"""Failures in a row from which on nothing is sent at all."""

OPEN_SECONDS: Final = 3.0
"""Seconds that those must have taken."""

PROBE_INTERVAL: Final = 1.0

_GROWTH: Final = 0.02
_MEMORY: Final = 10.0


@dataclass(slots=True, eq=False)
class _Waiter:
    retry: bool
    turn: anyio.Event = field(default_factory=anyio.Event)
    ticket: int = 0
    probing: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Breaker:
    """Stops what would only fail, finds out when the service is back, and lets all in again.

    After `DOUBT` failures in a row with no success, no request is sent again; after `OPEN` in
    `OPEN_SECONDS`, none is sent. What is held back waits, and loses no attempt; once a second
    one of those who wait sends the probe, and an answer to that ends the outage.

    Then those who waited are let in, first come first served, beginning with one and one more
    for each answer, up to as many at once as before the outage and 2 % more each second.

    Args:
        ready: Waited for before each probe.

    Attributes:
        probe: None for none; then only an answer to what was sent before ends an outage.
    """

    def __init__(self, ready: Callable[[], Awaitable[None]]) -> None:
        self.probe: Probe | None = None
        self._ready = ready
        self._failures = 0
        self._failing_since = 0.0
        self._open = False
        self._waiting: deque[_Waiter] = deque()
        self._probe_at = 0.0
        self._let_in: float | None = None  # while those who waited are let in, how many at once
        self._returned_at = 0.0
        self._ticket = 0
        self._in_flight = 0  # those of the present ticket; what an outage left hanging is not
        self._peak = self._peak_before = 0
        self._peak_since = 0.0

    def blocks(self, *, retry: bool) -> bool:
        """Whether such a request must wait for an answer to somebody."""
        return self._open or (retry and self._failures >= DOUBT)

    def try_enter(self, *, retry: bool) -> int | None:
        """The ticket to `leave` by of a request that may be sent now; None for one that waits."""
        if self._let_in is None and not self.blocks(retry=retry):
            return self._take()
        return None

    async def enter(self, *, retry: bool) -> int:
        """Return when the request may be sent, with the ticket to `leave` by."""
        if (ticket := self.try_enter(retry=retry)) is not None:
            return ticket
        waiter = _Waiter(retry)
        self._waiting.append(waiter)
        self._wake()
        try:
            while not waiter.turn.is_set():
                await self._wait(waiter)
        except BaseException:
            if waiter.turn.is_set():
                self.leave(waiter.ticket)
            else:
                self._waiting.remove(waiter)
                self._wake()
            raise
        return waiter.ticket

    async def _wait(self, waiter: _Waiter) -> None:
        """Wait for the turn until the next probe is due, or send that."""
        pause = PROBE_INTERVAL
        if self.probe is not None and self.blocks(retry=waiter.retry):
            pause = min(pause, self._probe_at - time.monotonic())
        if self.probe is None or pause > 0:
            with anyio.move_on_after(pause):
                await waiter.turn.wait()
            self._wake()
            return
        there: bool | None = None
        # Left once its turn has come by another's probe: one that hangs keeps nobody back.
        with anyio.CancelScope() as waiter.probing:
            self._probe_at = math.inf
            try:
                await self._ready()
            finally:
                # From its sending on: one that hangs does not keep the next from being sent.
                self._probe_at = time.monotonic() + PROBE_INTERVAL
            there = await self.probe()
        if there is True:
            self.answered()
        elif there is False:
            self.failed()

    def leave(self, ticket: int) -> None:
        """The exchange is over, or was never begun."""
        if ticket == self._ticket:
            self._in_flight -= 1
            self._wake()

    def answered(self) -> None:
        """The service answered something: it is there."""
        self._failures = 0
        if self._open:
            self._open = False
            self._let_in, self._returned_at = 1.0, time.monotonic()
            self._ticket += 1
            self._in_flight = 0
        elif self._let_in is not None:
            self._let_in += 1
        self._wake()

    def failed(self) -> None:
        """There was no answer, or one that the service failed."""
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if self._failures >= OPEN and now - self._failing_since >= OPEN_SECONDS:
            self._open, self._let_in = True, None

    def _wake(self) -> None:
        while self._waiting and not self.blocks(retry=self._waiting[0].retry):
            if self._in_flight >= self._most():
                return
            waiter = self._waiting.popleft()
            waiter.ticket = self._take()
            waiter.turn.set()
            waiter.probing.cancel()
        if not self._waiting:
            self._let_in = None

    def _most(self) -> float:
        if self._let_in is None:
            return math.inf
        usual = max(self._peak, self._peak_before)
        grown = usual * (1 + _GROWTH * (time.monotonic() - self._returned_at))
        return min(self._let_in, max(1.0, math.floor(grown))) if usual else self._let_in

    def _take(self) -> int:
        self._in_flight += 1
        if not self._failures and self._let_in is None:
            now = time.monotonic()
            if now - self._peak_since >= _MEMORY:
                recent = now - self._peak_since < 2 * _MEMORY
                self._peak_before = self._peak if recent else 0
                self._peak, self._peak_since = 0, now
            self._peak = max(self._peak, self._in_flight)
        return self._ticket
