"""A strict limit on units of which one request carries many, such as items."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from elluminate_async.batch import RateLimit
from elluminate_async.limits.turnstile import Turnstile

if TYPE_CHECKING:
    from elluminate_async.limits.fairness import Share

_SLACK: Final = 0.02  # seconds that a late timer may be made up for


def per_minute(most: int) -> WeightedGate:
    """At most so many units in any minute."""
    return WeightedGate(RateLimit(most, 60.0))


@dataclass(slots=True)
class Sent:
    """The weight of a request.

    Attributes:
        at: When it was sent, on `time.monotonic`.
        weight: Its units.
        is_past: Whether that is longer ago than the window.
    """

    at: float
    weight: int
    is_past: bool = False


class WeightedGate:
    """At most ``limit.requests`` units in *any* window of ``limit.period``.

    What a request carries counts as a whole at the moment it is sent, so the gate keeps what
    was sent in the last window and lets a request in when it fits; a leaky bucket would let
    nearly twice the heaviest through. Requests are also spaced by their weights, so that a
    window's share is not sent at its beginning.

    Calls take turns (`Turnstile`). Within a call it is first come, first served, whatever the
    weights: a light one does not pass a heavy one. One heavier than the limit waits for a whole
    window of its own.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._most = limit.requests
        self._period = limit.period
        self._turnstile = Turnstile()
        self._sent: deque[Sent] = deque()
        self._in_window = 0
        self._next_at = 0.0

    @asynccontextmanager
    async def turn(
        self, weight: int, share: Share | None = None
    ) -> AsyncGenerator[Callable[[], Sent]]:
        """Hold the turn once ``weight`` fits; call what it yields when that is sent.

        It is the turn of the call that has ``share``, of one of its own where that is None.
        Until then nothing is counted, and nobody else gets in: one that leaves without
        sending gives its place back.
        """
        weight = min(weight, self._most)

        def count() -> Sent:
            now = time.monotonic()
            sent = Sent(now, weight)
            self._sent.append(sent)
            self._in_window += weight
            spacing = weight * self._period / self._most
            self._next_at = max(self._next_at, now - _SLACK) + spacing
            return sent

        async with self._turnstile.turn(share, weight):
            while (wait := self._wait_for(weight)) > 0:  # noqa: ASYNC110
                await anyio.sleep(wait)
            yield count

    def amend(self, sent: Sent, weight: int) -> None:
        """Count what was sent with the weight that it turned out to have."""
        more = min(weight, self._most) - sent.weight
        if not sent.is_past:
            sent.weight += more
            self._in_window += more
        self._next_at += more * self._period / self._most

    def _wait_for(self, weight: int) -> float:
        """Seconds until ``weight`` fits."""
        now = time.monotonic()
        while self._sent and self._sent[0].at + self._period <= now:
            past = self._sent.popleft()
            past.is_past = True
            self._in_window -= past.weight
        over = self._in_window + weight - self._most
        fits_at = self._next_at
        for sent in self._sent:
            if over <= 0:
                break
            over -= sent.weight
            fits_at = max(fits_at, sent.at + self._period)
        return fits_at - now
