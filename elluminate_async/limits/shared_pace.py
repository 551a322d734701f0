"""The adaptive pace of all who share one: what refuses one slows all down."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from elluminate_async.batch.share import Slots
from elluminate_async.batch.share_table import CUT_INTERVAL
from elluminate_async.limits.adaptive import CUT, RATE_FLOOR
from elluminate_async.limits.share_link import NEWS_AGE

if TYPE_CHECKING:
    from elluminate_async.batch.share import SharedPace
    from elluminate_async.limits.share_link import ShareLink

_AHEAD: Final = 0.1  # seconds that a slot may be taken before it begins: the rate may change
_FIND_SECONDS: Final = 1.5  # more than those in which refusals count as one
_FLAT_AT: Final = 6.0
_SLOPE: Final = 0.05
_DOUBLES_FROM: Final = 20.0
_FORGOTTEN: Final = 60.0
_NOTHING: Final = RATE_FLOOR / 2  # of requests a second: less tells nothing of what is taken
_STEEPER: Final = 4.0
_RARE: Final = 0.05  # of a client's own requests
_RARE_SECONDS: Final = 5.0


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

    The curve is another one, as each probe of the limit costs a refusal of several. After a refusal
    the rate is 70 % of it; it is back in 6 s, at any rate; from then on it grows by 5 % of it a
    second, as a limit that has a bucket refuses nothing until that is empty; and after 20 s it
    doubles each second: the limit is another one, as after an outage. After a minute it is off.

    The first refusal of all comes before anybody knows what is taken: few have told, and for less
    than a second. From there on the rate is doubled until the next one.

    A refusal when nothing was taken before tells of an outage, or of a quota that is used up, and
    not of a rate: from `RATE_FLOOR` on the rate is up to four times as high each second. And what
    refuses fewer than one of twenty requests of a client has another reason than their rate, or
    so little of it that the client goes on.
    """

    def __init__(self, link: ShareLink) -> None:
        self._link = link
        self._turn = anyio.Lock()
        self._slot: float | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._lately = _Lately()
        self._was_off = False

    @property
    def is_off(self) -> bool:
        """Whether no request need wait for it, nor for news of it."""
        return self._link.is_fresh and self.rate is None and not self._is_cutting

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
        """Return when the next request may start: who waited in a hold has a slot after it."""
        async with self._turn:
            if (cutting := self._cutting) is not None and not cutting.done():
                await asyncio.wait([cutting])
            await self._link.look()
            self._heed()
            while (rate := self.rate) is not None:
                if self._link.hold.left():
                    # Else one request of each client would start at its end.
                    self._slot = None
                    await self._link.hold.wait()
                    await self._link.look()
                elif self._slot is None:
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
        self._lately.count(refused=False)
        self._link.accepted()

    def refused(self) -> None:
        """The service said that it is too much: all are told, unless that is rare."""
        self._lately.count(refused=True)
        if not self._is_cutting and not self._lately.is_rare:
            self._cutting = self._link.soon(self._cut)

    @property
    def _is_cutting(self) -> bool:
        return self._cutting is not None and not self._cutting.done()

    async def _cut(self) -> None:
        news = await self._link.report()
        self._heed()
        if _rate_by(news) is None:
            await anyio.sleep(NEWS_AGE)  # until all have told what they were taken
            news = await self._link.report()
        if not news.refused_rate or news.since >= CUT_INTERVAL:  # else another told it before
            await self._link.report(_refused_rate(news))
        self._heed()

    def _heed(self) -> None:
        """Look for the limit from the first refusal on, whoever was refused."""
        if (news := self._link.pace) is None:
            return
        is_first = self._was_off and news.since < _FIND_SECONDS
        if is_first and news.refused_rate > _NOTHING:
            self._link.soon(partial(self._find, news.refused_rate))
        self._was_off = _rate_by(news) is None

    async def _find(self, known: float) -> None:
        """Double the rate until one is refused; who is at it may end, so all are."""
        before = 0.0
        while True:
            await anyio.sleep(_FIND_SECONDS)
            news = await self._link.report()
            is_behind = 4 * news.measured < news.refused_rate
            if news.refused_rate < known or (is_behind and news.measured <= before):
                return  # the rate was cut, or less is sent than may be
            before, known = news.measured, news.refused_rate
            if news.since > CUT_INTERVAL and not is_behind:
                news = await self._link.report(max(before, 2 * known))
                if news.refused_rate < known:
                    return
                known = news.refused_rate


class _Lately:
    """Outcomes of a client's own requests, in the last 5 to 10 s."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._before = self._now = (0, 0)  # accepted, refused

    def count(self, *, refused: bool) -> None:
        """One request more."""
        now = time.monotonic()
        if now - self._since >= _RARE_SECONDS:
            is_next = now - self._since < 2 * _RARE_SECONDS
            self._since, self._before, self._now = now, self._now if is_next else (0, 0), (0, 0)
        taken, too_many = self._now
        self._now = (taken, too_many + 1) if refused else (taken + 1, too_many)

    @property
    def is_rare(self) -> bool:
        """Whether so few were refused that it tells nothing of the rate."""
        taken, refused = (a + b for a, b in zip(self._before, self._now, strict=True))
        return refused < _RARE * (taken + refused)


def _refused_rate(news: SharedPace) -> float:
    """The rate that the service refuses, by what it took; `_NOTHING` where that tells none."""
    rate = _rate_by(news)
    told = news.measured if rate is None else min(news.measured, rate)
    return max(_NOTHING, told)


def _rate_by(news: SharedPace | None) -> float | None:
    if news is None or not news.refused_rate or news.since >= _FORGOTTEN:
        return None
    since, measured = max(0.0, news.since), max(news.measured, RATE_FLOOR)
    if news.refused_rate <= _NOTHING:
        return min(RATE_FLOOR * _STEEPER**since, _STEEPER * measured)
    below = (1 - CUT) * (1 - min(since / _FLAT_AT, 1.0)) ** 3
    above = _SLOPE * max(0.0, min(since, _DOUBLES_FROM) - _FLAT_AT)
    doubled = 2 ** max(0.0, since - _DOUBLES_FROM)
    grown = news.refused_rate * (1 - below + above) * doubled
    return max(RATE_FLOOR, min(grown, 2 * measured))
