"""The adaptive pace of all who share one: what refuses one slows all down."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from elluminate_async.batch.share import Slots
from elluminate_async.batch.share_table import CUT_INTERVAL, MEASURE_SECONDS
from elluminate_async.limits.adaptive import CUT, RATE_FLOOR
from elluminate_async.limits.share_link import NEWS_AGE

if TYPE_CHECKING:
    from elluminate_async.batch.share import SharedPace
    from elluminate_async.limits.share_link import ShareLink

_AHEAD: Final = 0.1  # seconds that a slot may be taken before it begins: the rate may change
_FLAT_AT: Final = 4.0
_DOUBLES_FROM: Final = 12.0  # seconds
_MOST_DOUBLED: Final = 60.0


class Pace(Protocol):
    """Spaces requests by a rate that follows the service's refusals; off until the first."""

    @property
    def is_off(self) -> bool:
        """Whether no request need wait for it, nor for news of it."""
        ...

    @property
    def rate(self) -> float | None:
        """Requests per second allowed now; None while there is no bound."""
        ...

    @property
    def interval(self) -> float:
        """Seconds between two requests; 0 while it is off."""
        ...

    async def admit(self) -> None:
        """Return when the next request may start."""
        ...

    def left(self) -> float:
        """Seconds until the next request may start, where nobody else waits; 0 for none."""
        ...

    def accepted(self) -> None:
        """The service took a request."""
        ...

    def refused(self) -> None:
        """The service said that it is too much."""
        ...


class PaceOfAll(Pace):
    """A rate as that of `AdaptivePace`, for all processes of a share together.

    The share counts what the service took from all, and keeps the rate at which it last refused
    one. Each looks for news four times a second, also before the first refusal.

    Differently from one process alone, the curve takes as long at any rate, as each probe of the
    limit costs a refusal of several; after 12 s without one the rate doubles each second, as after
    an outage it is far too low. A refusal sets it to 70 % of what was taken in the last seconds, as
    a bucket that has filled makes more be taken than the service goes on taking. What was measured
    at the first refusal of all is measured again: few had told by then.
    """

    def __init__(self, link: ShareLink) -> None:
        self._link = link
        self._turn = anyio.Lock()
        self._slot: float | None = None
        self._cutting: anyio.Event | None = None

    @property
    def is_off(self) -> bool:
        """Whether no request need wait for it, nor for news of it."""
        return self._link.is_fresh and self.rate is None and self._cutting is None

    @property
    def rate(self) -> float | None:
        """Requests per second allowed now, of all together; None while there is no bound."""
        return _rate_by(self._link.pace)

    @property
    def interval(self) -> float:
        """Seconds between two requests, whoever sends them; 0 while it is off."""
        rate = self.rate
        return 0.0 if rate is None else 1 / rate

    def left(self) -> float:
        """Seconds until the slot that this client has taken; 0 for none."""
        return 0.0 if self._slot is None else max(0.0, self._slot - time.monotonic())

    async def admit(self) -> None:
        """Return when the next request may start, or when a hold is in force."""
        async with self._turn:
            if self._cutting is not None:
                await self._cutting.wait()
            await self._link.look()
            while (rate := self.rate) is not None and not self._link.hold.left():
                if self._slot is None:
                    await self._take(1 / rate)
                elif (wait := self.left()) > 0:
                    await anyio.sleep(min(wait, NEWS_AGE))
                    await self._link.look()
                else:
                    self._slot = None
                    return

    async def _take(self, interval: float) -> None:
        wanted = [Slots("pace", interval, 1, 0.0)]
        own = await self._link.reserve(wanted, earliest=0.0, latest=_AHEAD)
        if own.is_taken:
            self._slot = own.at
        elif (wait := own.at - time.monotonic()) > 0:
            # In steps, as the rate grows while this waits.
            await anyio.sleep(min(wait + random.uniform(0, interval), NEWS_AGE))
            await self._link.look()

    def accepted(self) -> None:
        """The service took a request."""
        self._link.accepted()

    def refused(self) -> None:
        """The service said that it is too much: all are told."""
        if self._cutting is None:
            self._cutting = anyio.Event()
            self._link.soon(self._cut)

    async def _cut(self) -> None:
        try:
            news = await self._link.report()
            if not news.refused_rate:
                await anyio.sleep(NEWS_AGE)  # until all have told what they were taken
                news = await self._link.report()
            if news.refused_rate and news.since < CUT_INTERVAL:
                return  # by another, or by one that was sent before
            rate = _rate_by(news)
            taken = min(news.measured, max(self._link.mean, news.measured / 2))
            await self._link.report(max(RATE_FLOOR, taken if rate is None else min(taken, rate)))
            if rate is None:
                self._link.soon(self._measure_again)
        finally:
            if self._cutting is not None:
                self._cutting.set()
            self._cutting = None

    async def _measure_again(self) -> None:
        await anyio.sleep(MEASURE_SECONDS)
        news = await self._link.report()
        if news.since > CUT_INTERVAL and news.measured > news.refused_rate:
            await self._link.report(news.measured)


def _rate_by(news: SharedPace | None) -> float | None:
    if news is None or not news.refused_rate:
        return None
    doubled = min(max(0.0, news.since - _DOUBLES_FROM), _MOST_DOUBLED)
    flat = max(0.0, min(news.since, _DOUBLES_FROM)) / _FLAT_AT
    grown = news.refused_rate * (1 + (1 - CUT) * (flat - 1) ** 3) * 2**doubled
    return max(RATE_FLOOR, min(grown, 2 * max(news.measured, RATE_FLOOR)))
