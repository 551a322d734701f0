"""A strict limit on units of which one request carries many, such as items."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from elluminate_async.batch import RateLimit

_SLACK: Final = 0.02  # seconds that a late timer may be made up for


class WeightedGate:
    """At most ``limit.requests`` units in *any* window of ``limit.period``.

    What a request carries counts as a whole at the moment it is sent, so the gate keeps what
    was sent in the last window and lets a request in when it fits; a leaky bucket would let
    nearly twice the heaviest through. Requests are also spaced by their weights, so that a
    window's share is not sent at its beginning.

    First come, first served, whatever the weights: a light one does not pass a heavy one. One
    heavier than the limit waits for a whole window of its own.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._most = limit.requests
        self._period = limit.period
        self._turn = anyio.Lock()
        self._sent: deque[tuple[float, int]] = deque()
        self._in_window = 0
        self._next_at = 0.0

    @asynccontextmanager
    async def turn(self, weight: int) -> AsyncGenerator[Callable[[], None]]:
        """Hold the turn once ``weight`` fits; call what it yields when that is sent.

        Until then nothing is counted, and nobody else gets in: one that leaves without
        sending gives its place back.
        """
        weight = min(weight, self._most)

        def count() -> None:
            now = time.monotonic()
            self._sent.append((now, weight))
            self._in_window += weight
            spacing = weight * self._period / self._most
            self._next_at = max(self._next_at, now - _SLACK) + spacing

        async with self._turn:
            while (wait := self._wait_for(weight)) > 0:  # noqa: ASYNC110
                await anyio.sleep(wait)
            yield count

    def _wait_for(self, weight: int) -> float:
        """Seconds until ``weight`` fits."""
        now = time.monotonic()
        while self._sent and self._sent[0][0] + self._period <= now:
            self._in_window -= self._sent.popleft()[1]
        over = self._in_window + weight - self._most
        fits_at = self._next_at
        for at, sent in self._sent:
            if over <= 0:
                break
            over -= sent
            fits_at = max(fits_at, at + self._period)
        return fits_at - now
