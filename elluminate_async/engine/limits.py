"""The limits of one client: chunks in flight, requests per window, holds.

One `Limits` serves all calls of a client, so that they share its bounds. Those that the user
set are strict; below them the client finds out by itself what the service takes.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import anyio
from aiolimiter import AsyncLimiter

from elluminate_async.engine.adaptive import AdaptiveGate, AdaptivePace

if TYPE_CHECKING:
    from elluminate_async.batch import RateLimit

_BURST_SHARE = 0.02
_HOLD_JITTER = 0.1


def strict_limiter(limit: RateLimit) -> AsyncLimiter:
    """A limiter that lets at most ``limit.requests`` through in *any* window of its period.

    `AsyncLimiter(n, P)` itself lets almost 2n through in the first window: a full bucket at
    once and n more while it drains. A bucket of capacity k that drains at (n−k)/P admits at
    most k + (n−k) = n in any window. Where 2 % of n are at least two, they are the bucket,
    so that coarse timers cost no throughput; below, requests are spaced by P/n.
    """
    n, period = limit.requests, limit.period
    burst = int(n * _BURST_SHARE)
    if burst < 2:
        return AsyncLimiter(1, period / n)
    return AsyncLimiter(burst, burst * period / (n - burst))


class Limits:
    """What requests and chunks wait for.

    Args:
        max_concurrency: Chunks in flight over all calls.
        rate_limit: Requests of any kind per window; None for no limit.
    """

    def __init__(self, max_concurrency: int, rate_limit: RateLimit | None) -> None:
        self._gate = AdaptiveGate(max_concurrency)
        self._pace = AdaptivePace()
        self._limiter = None if rate_limit is None else strict_limiter(rate_limit)
        self._held_until = 0.0

    @property
    def free_chunks(self) -> int:
        """Permits for chunks that nobody holds."""
        return self._gate.free

    async def acquire_chunk(self) -> None:
        """Wait for the permit to have one more chunk in flight."""
        await self._gate.acquire()

    def release_chunk(self) -> None:
        """Give the permit back; the chunk's job has ended."""
        self._gate.release()

    async def admit(self) -> None:
        """Return when one more request may start: after every hold, inside every window."""
        await self._wait_out_hold()
        await self._pace.admit()
        if self._limiter is None:
            return await self._wait_out_hold()
        await self._limiter.acquire()
        while self._held_until > time.monotonic():
            # A hold began while this request waited for its window. It needs a new one: those
            # that came into their windows during the hold would all start at its end.
            await self._wait_out_hold()
            await self._limiter.acquire()

    def hold(self, seconds: float) -> None:
        """Admit nothing for so long; a longer hold in force stays."""
        # Late by up to a tenth, never early, so that clients do not return in step.
        until = time.monotonic() + seconds * (1 + random.uniform(0, _HOLD_JITTER))
        self._held_until = max(self._held_until, until)

    def held_for(self) -> float:
        """Seconds until the hold in force ends; 0 when there is none."""
        return max(0.0, self._held_until - time.monotonic())

    def accepted(self) -> None:
        """Learn that the service took a request."""
        self._gate.accepted()
        self._pace.accepted()

    def refused(self) -> None:
        """Learn that the service said it is too much: fewer at once, and slower."""
        self._gate.refused()
        self._pace.refused()

    async def _wait_out_hold(self) -> None:
        while (wait := self._held_until - time.monotonic()) > 0:  # noqa: ASYNC110
            await anyio.sleep(wait)
