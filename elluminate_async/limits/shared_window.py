"""Strict limits that several processes keep together, by slots that each takes from their share.

Slots of a limit of n in P seconds are (P+τ)/n apart, and each is used within τ of its beginning,
the way to the service included. So n+1 of them take P at least, whoever has them, and nothing need
be known of what was sent before: a share that forgets all gives away a few slots twice at most.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from elluminate_async.batch.share import LONGEST_GUARD, Slots
from elluminate_async.limits.share_link import ASK_AHEAD, NEWS_AGE
from elluminate_async.limits.turnstile import Turnstile

if TYPE_CHECKING:
    from elluminate_async.batch import RateLimit
    from elluminate_async.limits.fairness import Share
    from elluminate_async.limits.share_link import ShareLink

_REQUESTS: Final = "requests"
_LATE_SHARE: Final = 0.02  # τ, of the period
_LEAST_LATE: Final = 0.01  # seconds, as no timer keeps much less
_MOST_LATE: Final = 0.25  # seconds
_OWN_PART: Final = 0.7  # of τ; the rest is the way to the service
_REACH: Final = 0.5  # of τ, that a slot may have begun before it was asked for
_LEASE: Final = 0.05  # seconds
_HEAVIEST: Final = 20  # a chunk has at most one part in so many of a limit on items
_ALIKE: Final = 16  # requests of late: where these used as many slots each, leases are of several
_COARSE: Final = 0.001  # seconds that a timer is late at most, so that one serves several slots
_LOOKS: Final = 8  # round trips of which the shortest tells how far the share is

_LOG: Final = logging.getLogger(__name__)


def heaviest(limit: RateLimit) -> int:
    """Items that a chunk may have at most under a limit on items that is shared."""
    return max(1, limit.requests // _HEAVIEST)


@dataclass(frozen=True, slots=True)
class _Spacing:
    """The slots of one limit.

    Attributes:
        name: Of the limit, in the share.
        period: Seconds of its window.
        fit: Slots that go into a window.
    """

    name: str
    period: float
    fit: int

    @property
    def guard(self) -> float:
        """Seconds without a slot where the share has lost its state."""
        return min(self.period, LONGEST_GUARD)

    def late(self, error: float) -> float:
        """τ, to a share so many seconds away."""
        return max(min(_LATE_SHARE * self.period, _MOST_LATE), _LEAST_LATE, 3 * error)

    def interval(self, error: float) -> float:
        """Seconds from one slot to the next."""
        return (self.period + self.late(error)) / self.fit

    def slots(self, number: int, error: float) -> Slots:
        """So many consecutive ones."""
        # Requests do without little for what carries items.
        idle = ASK_AHEAD if self.name == _REQUESTS else math.inf
        return Slots(self.name, self.interval(error), number, self.guard, idle)


@dataclass(slots=True)
class _Lease:
    """Consecutive slots that are this client's.

    Attributes:
        at: When the first of them may be used.
        left: How many there are.
        interval: Seconds from one to the next.
        usable: Seconds for which each may be used.
    """

    at: float = 0.0
    left: int = 0
    interval: float = 1.0
    usable: float = 0.0

    def has(self, number: int, now: float) -> bool:
        """Whether there are so many that are not void."""
        if self.left > 0 and (late := now - self.at - self.usable) > 0:
            self.use(math.ceil(late / self.interval))
        return self.left >= number

    def use(self, number: int) -> None:
        """Use the first ones."""
        self.at += number * self.interval
        self.left -= number


class SharedWindow:
    """One process's part of the strict limits on requests and items that a share keeps.

    Who waits does so one after another. Where all need as many slots they take a lease of 50 ms
    or of what one of them needs, never for more than there are who wait. Where both limits are
    kept, a request that carries items takes its own slots of both, which begin at the same moment.
    A slot that was not used in time is void.

    Args:
        link: To the share.
        rate_limit: Of requests; None for none.
        item_limit: Of items; None for none.
        chunk: Items in one request, as a rule at most.
        waiting: Tells how many wait besides for the slots that are leased, up to the number that it
            is given: for those of requests, or of items where only these are limited.
    """

    def __init__(
        self,
        link: ShareLink,
        rate_limit: RateLimit | None,
        item_limit: RateLimit | None,
        chunk: int,
        waiting: Callable[[int], int],
    ) -> None:
        self._link = link
        self._requests = self._items = None
        if rate_limit is not None:
            self._requests = _Spacing(_REQUESTS, rate_limit.period, rate_limit.requests)
        if item_limit is not None:
            self._most = item_limit.requests
            self._chunk = min(chunk, heaviest(item_limit))
            # Heavier ones come at once: of those before it so many fewer fit into the window.
            fit = item_limit.requests - self._chunk + 1
            self._items = _Spacing("items", item_limit.period, fit)
        periods = [limit.period for limit in (rate_limit, item_limit) if limit is not None]
        self._coarse = min(_COARSE, *(_LATE_SHARE / 10 * period for period in periods))
        self._waiting = waiting
        self._lease = _Lease()
        self._lately: deque[int] = deque(maxlen=_ALIKE)
        self._round_trips: deque[float] = deque(maxlen=_LOOKS)
        self._is_far = False
        self._has_warned = False

    def takes_own(self, items: int) -> bool:
        """Whether a request with so many items has slots that no other can use."""
        return items > 0 and self._items is not None

    async def acquire(self, items: int = 0) -> None:
        """Return when one request more may be sent, or when a hold is in force."""
        if items and self._items is not None:
            items = min(items, self._most)
            if self._requests is None and items <= self._chunk:
                await self._acquire(self._items, items)
            else:
                await self._acquire_with(items)
        elif self._requests is not None:
            await self._acquire(self._requests, 1)

    async def _acquire(self, spacing: _Spacing, number: int) -> None:
        """Use so many slots of the lease: there is only one that leases."""
        while not self._link.hold.left():
            now = time.monotonic()
            if not self._lease.has(number, now):
                taken = await self._take([(spacing, number * self._at_once(spacing, number))])
                # Of slots that may have ended when they begin for certain others are asked for.
                if taken is not None and taken.usable > 0:
                    self._lease = taken
            elif now >= self._lease.at:
                self._lease.use(number)
                self._lately.append(number)
                return
            else:
                await self._sleep(self._lease.at)

    def _at_once(self, spacing: _Spacing, number: int) -> int:
        """How many requests with ``number`` slots each to take them for."""
        most = int(_LEASE / spacing.interval(self._error)) // number
        # Where they differ, what is left of a lease may be too little for the next one.
        if most < 2 or any(one != number for one in self._lately):
            return 1
        return 1 + self._waiting(most - 1)

    async def _acquire_with(self, items: int) -> None:
        assert self._items is not None
        wanted = [(self._items, items)]
        if self._requests is not None:
            wanted.append((self._requests, 1))
        gap = max(0, items - self._chunk)
        hold = self._link.hold
        while not hold.left():
            # A heavier one than the slots were made for has a gap before it.
            if gap and await self._take([(self._items, gap)]) is None:
                continue
            while (own := await self._take(wanted)) is None and not hold.left():
                pass
            while own is not None and not hold.left():
                now = time.monotonic()
                if now > own.at + own.usable:
                    break
                if now >= own.at:
                    return
                await self._sleep(own.at)

    async def _take(self, wanted: list[tuple[_Spacing, int]]) -> _Lease | None:
        """Take slots; where there are none to be had so soon, wait until they can be.

        Those of the first limit that is wanted are told; those of another one begin with them.
        """
        # A share may answer without a wait, and slots may be void as soon as they are there.
        await anyio.lowlevel.checkpoint()
        error, nearest = self._error, min(self._round_trips, default=0.0)
        late = min(spacing.late(error) for spacing, _ in wanted)
        first, number = wanted[0]
        # What is given away ends before what a share that lost it all would give away.
        latest = max(_LEASE, first.guard - number * first.interval(error))
        own = await self._link.reserve(
            [spacing.slots(number, error) for spacing, number in wanted],
            # One that began while it was asked for can be used.
            earliest=-max(0.0, _REACH * late - 2 * nearest),
            latest=latest,
        )
        if not own.is_taken:
            pause = max(0.0, own.at - time.monotonic())
            # Those that wait for the same moment do not all ask at it, and leave none unused.
            await anyio.sleep(pause + random.uniform(0, latest / 2))
            return None
        # A share that is sure of the moment is near, however long it took.
        self._learn(
            own.round_trip if own.error else 0.0, min(spacing.late(0.0) for spacing, _ in wanted)
        )
        return _Lease(own.at, number, first.interval(error), _OWN_PART * late - own.error)

    async def _sleep(self, at: float) -> None:
        """Sleep until then, or for a while and look whether there is news."""
        wait = at - time.monotonic()
        if wait < NEWS_AGE:
            await anyio.sleep(max(0.0, wait) + self._coarse)
        else:
            await anyio.sleep(NEWS_AGE)
            await self._link.look()

    @property
    def _error(self) -> float:
        """Seconds that the way to the share may leave uncertain, where that is much."""
        return min(self._round_trips) if self._is_far else 0.0

    def _learn(self, round_trip: float, late: float) -> None:
        self._round_trips.append(round_trip)
        nearest = min(self._round_trips)
        self._is_far = nearest > late * _OWN_PART / 2
        if self._is_far and not self._has_warned and len(self._round_trips) == _LOOKS:
            self._has_warned = True
            _LOG.warning(
                "the share %r of limits is %.0f ms away, which is far for slots that are to be "
                "used within %.0f ms: they are put further apart, and less of the limit is used",
                self._link.name,
                1_000 * nearest,
                1_000 * late,
            )


class ItemTurns:
    """The turns of requests that carry items, where the share keeps the limit on these."""

    def __init__(self) -> None:
        self._turnstile = Turnstile()

    def waiting(self, most: int) -> int:
        """How many wait for their turn, up to ``most``."""
        return self._turnstile.waiting(most)

    @asynccontextmanager
    async def turn(
        self, weight: int, share: Share | None = None
    ) -> AsyncGenerator[Callable[[], object]]:
        """Hold the turn; nothing need be counted, as the slots are."""
        async with self._turnstile.turn(share, weight):
            yield lambda: None
