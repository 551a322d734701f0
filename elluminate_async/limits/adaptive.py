"""Finding a limit that nobody told: how many at once, and how fast.

Both do nothing until the service first says that it is too much, and forget slowly.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import anyio

from elluminate_async.limits.fairness import FairGate

CUT: Final = 0.7
"""Share of the limit or of the rate that is left after a refusal."""

CUT_INTERVAL: Final = 1.0
"""Seconds in which refusals count as one: those of requests sent before the first cut."""

RATE_FLOOR: Final = 0.5
_GROWTH: Final = 0.4
_MEASURE_SECONDS: Final = 2.0
_STEP: Final = 0.25


class AdaptiveGate(FairGate):
    """A fair gate whose limit follows the service's refusals.

    Additive increase, multiplicative decrease: a success while at least half of the limit
    is in use adds 1/limit, a refusal leaves 70 % and never less than one. Slowness alone
    changes nothing, as an answer takes as long as it has tokens.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._most = most
        self._limit = float(most)
        self._cut_at = -CUT_INTERVAL

    @property
    def free(self) -> int:
        """Permits of the highest limit that nobody holds."""
        return self._most - self.held

    def accepted(self) -> None:
        """The service took a request."""
        if self._limit < self._most and self.held * 2 >= self._limit:
            self._set(min(float(self._most), self._limit + 1 / self._limit))

    def refused(self) -> None:
        """The service said that it is too much."""
        now = time.monotonic()
        if now - self._cut_at >= CUT_INTERVAL:
            self._cut_at = now
            self._set(max(1.0, self._limit * CUT))

    def _set(self, limit: float) -> None:
        self._limit = limit
        self.change_limit(int(limit))  # never below 1


def rate_after(refused_rate: float, since: float, measured: float) -> float:
    """Requests a second that are allowed ``since`` seconds after that rate was refused.

    Args:
        refused_rate: Requests a second.
        since: Seconds.
        measured: Requests a second that the service takes.
    """
    flat_at = (refused_rate * (1 - CUT) / _GROWTH) ** (1 / 3)
    grown = _GROWTH * (since - flat_at) ** 3 + refused_rate
    return max(RATE_FLOOR, min(grown, 2 * max(measured, RATE_FLOOR)))


class AdaptivePace:
    """Spaces requests by a rate that follows the service's refusals; off until the first.

    A refusal sets the rate to 70 % of what was measured; then it grows along a cubic that
    is flat near the rate that was refused, and is capped at twice what is measured.
    Source: RFC 9438 for the curve, with the constants of the AWS SDKs' adaptive mode.
    """

    def __init__(self) -> None:
        self._rate: float | None = None
        self._refused_rate = 0.0
        self._refused_at = 0.0
        self._admitted_at = 0.0
        self._turn = anyio.Lock()
        self._accepted: deque[float] = deque()

    @property
    def is_off(self) -> bool:
        """Whether there was no refusal yet."""
        return self._rate is None

    @property
    def rate(self) -> float | None:
        """Requests per second allowed now; None while there is no bound."""
        if self._rate is None:
            return None
        since = time.monotonic() - self._refused_at
        return rate_after(self._refused_rate, since, self._measured())

    async def admit(self) -> None:
        """Return when the next request may start."""
        if self._rate is None:
            return
        async with self._turn:
            # A burst of one: what was not used is not saved up. In steps, as the rate grows
            # while this waits.
            while (wait := self.left()) > 0:  # noqa: ASYNC110
                await anyio.sleep(min(wait, _STEP))
            self._admitted_at = time.monotonic()

    def left(self) -> float:
        """Seconds until the next request may start, where nobody else waits; 0 for none."""
        rate = self.rate
        return 0.0 if rate is None else max(0.0, self._admitted_at + 1 / rate - time.monotonic())

    @property
    def interval(self) -> float:
        """Seconds between two requests; 0 while it is off."""
        return 0.0 if self.rate is None else 1 / self.rate

    def accepted(self) -> None:
        """The service took a request."""
        now = time.monotonic()
        self._accepted.append(now)
        self._forget(now)

    def refused(self) -> None:
        """The service said that it is too much."""
        now = time.monotonic()
        if self._rate is not None and now - self._refused_at < CUT_INTERVAL:
            return
        measured = max(self._measured(), RATE_FLOOR)
        self._refused_rate = (
            measured if self._rate is None else min(measured, self.rate or measured)
        )
        self._rate = self._refused_rate * CUT
        self._refused_at = now

    def _measured(self) -> float:
        now = time.monotonic()
        self._forget(now)
        if not self._accepted:
            return 0.0
        return len(self._accepted) / max(now - self._accepted[0], 1.0)

    def _forget(self, now: float) -> None:
        while self._accepted and self._accepted[0] < now - _MEASURE_SECONDS:
            self._accepted.popleft()
