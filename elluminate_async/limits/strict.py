"""The limits that the user set: never over n in any window, wherever it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

from elluminate_async.limits.shared_window import ItemTurns, SharedWindow
from elluminate_async.limits.turnstile import Turnstile
from elluminate_async.limits.weights import WeightedGate

if TYPE_CHECKING:
    from elluminate_async.batch import RateLimit
    from elluminate_async.limits.share_link import ShareLink

_BURST_SHARE = 0.02
_JITTER_SHARE = 0.005


def strict_limiter(limit: RateLimit) -> AsyncLimiter:
    """A limiter that lets at most ``limit.requests`` through in *any* window of its period.

    `AsyncLimiter(n, P)` itself lets almost 2n through in the first window: a full bucket at
    once and n more while it drains. A bucket of capacity k that drains at (n−k)/P admits at
    most k + (n−k) = n in any window. Where 2 % of n are at least two, they are the bucket,
    so that coarse timers cost no throughput; below, requests are spaced by P/n. There it
    also drains slower by half a percent of n, as the way to the service brings some requests
    closer together.
    """
    n, period = limit.requests, limit.period
    burst = int(n * _BURST_SHARE)
    if burst < 2:
        return AsyncLimiter(1, period / n)
    return AsyncLimiter(burst, burst * period / (n - burst - n * _JITTER_SHARE))


class StrictLimits:
    """The limits that the user set, for a client or for one of its calls.

    Args:
        rate_limit: Requests of any kind per window; None for no limit.
        item_limit: Items sent per window; None for no limit.
        link: To the share that keeps them, of a client that has one.
        chunk: Items in one request of that client at most.
    """

    def __init__(
        self,
        rate_limit: RateLimit | None,
        item_limit: RateLimit | None = None,
        link: ShareLink | None = None,
        chunk: int = 1,
    ) -> None:
        self.turnstile = Turnstile()
        self.requests: AsyncLimiter | SharedWindow | None = None
        self.items: WeightedGate | ItemTurns | None = None
        self._shared: SharedWindow | None = None
        if link is not None and (rate_limit or item_limit):
            turns = ItemTurns()
            waiting = turns.waiting if rate_limit is None else self.turnstile.waiting
            self._shared = SharedWindow(link, rate_limit, item_limit, chunk, waiting)
            self.requests = self._shared
            self.items = None if item_limit is None else turns
        else:
            self.requests = None if rate_limit is None else strict_limiter(rate_limit)
            self.items = None if item_limit is None else WeightedGate(item_limit)

    def takes_own(self, items: int) -> bool:
        """Whether a request with so many items waits for what no other can use."""
        return self._shared is not None and self._shared.takes_own(items)

    async def wait(self, items: int = 0) -> None:
        """Return when one request more is inside the window."""
        if self._shared is not None:
            await self._shared.acquire(items)
        elif isinstance(self.requests, AsyncLimiter):
            await self.requests.acquire()
