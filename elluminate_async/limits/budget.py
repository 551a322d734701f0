"""A budget for retries, over all calls of a client."""

from __future__ import annotations

import time
from typing import Final

import anyio

CAPACITY: Final = 500
FLOOR_SECONDS: Final = 1.0
"""One retry passes in so many seconds, whatever the bucket holds: else a bucket that was
emptied while every call waited for it would stay empty."""


class RetryBudget:
    """A bucket that retries draw on and successes fill: botocore's, and its figures.

    While it is empty a retry waits, as a batch has time; it does not fail.
    """

    def __init__(self) -> None:
        self._left = CAPACITY
        self._turn = anyio.Lock()
        self._refilled = anyio.Event()
        self._floor_at = 0.0

    @property
    def left(self) -> int:
        """The tokens that can be spent now."""
        return self._left

    def try_spend(self, cost: int) -> bool:
        """Pay ``cost`` if that can be done at once, and nobody waits for it."""
        if self._left < cost or self._turn.statistics().locked:
            return False
        self._left -= cost
        return True

    async def spend(self, cost: int) -> None:
        """Return when ``cost`` is paid; first come, first served."""
        async with self._turn:
            while self._left < cost:
                wait = self._floor_at - time.monotonic()
                if wait <= 0:
                    self._floor_at = time.monotonic() + FLOOR_SECONDS
                    break
                self._refilled = anyio.Event()
                with anyio.move_on_after(wait):
                    await self._refilled.wait()
            self._left = max(0, self._left - cost)

    def refund(self, amount: int) -> None:
        """Learn of a success: what its retries had cost comes back, or one for a plain one."""
        self._left = min(CAPACITY, self._left + amount)
        self._refilled.set()
