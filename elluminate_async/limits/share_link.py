"""A client's side of a share of limits: it asks again where the share is away, and tells news."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import anyio

from elluminate_async.batch.share import SharedPace, Slots
from elluminate_async.errors import ElluminateError, one_line

if TYPE_CHECKING:
    from elluminate_async.batch.share import LimitShare
    from elluminate_async.limits.hold import Hold

T = TypeVar("T")

NEWS_AGE: Final = 0.25
"""Seconds after which what others told the share is asked for again."""

ASK_AHEAD: Final = 0.05
"""Seconds before slots of two limits begin together at which they can be had."""

_ANSWER_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_SAME_HOLD: Final = 0.05  # seconds

_LOG: Final = logging.getLogger(__name__)


class Own(NamedTuple):
    """Slots that are this client's, or when they could be.

    Attributes:
        is_taken: Whether they are.
        at: `time.monotonic` when the first of them has begun for certain; else when to ask again.
        error: Seconds by which that may be too late.
        round_trip: Seconds that the answer took.
    """

    is_taken: bool
    at: float
    error: float
    round_trip: float


class ShareLink:
    """A client's way to its share, and what it was told there.

    Where the share is away it is asked again, and who waits goes on waiting: the calls have
    deadlines. The log has one warning of it.

    Args:
        share: That of the options.
        hold: The client's: a hold that another process was told begins here too.
        began: Called with its seconds then.

    Attributes:
        hold: The client's.
        away: In words, the share and why it does not answer; None where it does.
    """

    def __init__(self, share: LimitShare, hold: Hold, began: Callable[[float], None]) -> None:
        self.hold = hold
        self._share = share
        self._began = began
        self.away: str | None = None
        self._accepted = 0
        self._news: SharedPace | None = None
        self._news_at = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Of the share."""
        return self._share.name

    @property
    def is_fresh(self) -> bool:
        """Whether the news are recent."""
        return self._news is not None and time.monotonic() - self._news_at < NEWS_AGE

    @property
    def pace(self) -> SharedPace | None:
        """The pace by the last news, its age included; None before the first."""
        if self._news is None:
            return None
        age = time.monotonic() - self._news_at
        return self._news._replace(since=self._news.since + age if self._news.refused_rate else 0.0)

    def accepted(self) -> None:
        """Count a request that the service took, for the next news."""
        self._accepted += 1

    async def reserve(self, wanted: Sequence[Slots], *, earliest: float, latest: float) -> Own:
        """Ask for slots, see `LimitShare.reserve`; in a hold for none."""
        answer, began = await self._asked(
            lambda: self._share.reserve(wanted, earliest=earliest, latest=latest)
        )
        now = time.monotonic()
        if answer.hold > 0:
            self._holds(answer.hold)
        round_trip = now - began
        if answer.is_taken:
            return Own(True, now + answer.delay, min(answer.error, round_trip), round_trip)
        # Where it is only that another limit's begin later: shortly before those.
        ahead = latest if answer.delay > latest else ASK_AHEAD
        return Own(False, now + max(0.0, answer.delay - ahead), 0.0, round_trip)

    async def look(self) -> None:
        """Ask for the news, unless they are recent."""
        if not self.is_fresh:
            await self.report()

    async def report(self, refused: float | None = None) -> SharedPace:
        """Tell what was counted, and a refusal; the pace of all."""
        accepted, self._accepted = self._accepted, 0
        try:
            news, _ = await self._asked(
                lambda: self._share.pace(accepted=accepted, refused=refused)
            )
        except BaseException:
            self._accepted += accepted
            raise
        self._news, self._news_at = news, time.monotonic()
        if news.hold > 0:
            self._holds(news.hold)
        return news

    def tell_hold(self, seconds: float) -> None:
        """Have all others hold too, for what is left of it once the share can be told."""
        until = time.monotonic() + seconds

        async def hold() -> None:
            left = until - time.monotonic()
            if left > 0:
                await self._share.hold(left)

        async def told() -> None:
            await self._asked(hold)

        self.soon(told)

    def soon(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do ``work`` beside everything else; it ends with the client."""

        async def done() -> None:
            # Who asks next for a slot is told what is wrong.
            with suppress(ElluminateError):
                await work()

        task = asyncio.get_running_loop().create_task(done(), name=f"share {self.name}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task

    async def aclose(self) -> None:
        """End what is under way, and close what the share has open."""
        tasks = list(self._telling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(OSError, ElluminateError), anyio.move_on_after(_CLOSING_SECONDS):
            await self._share.aclose()

    def _holds(self, seconds: float) -> None:
        if seconds > self.hold.asked_left() + _SAME_HOLD:
            if not self.hold.left():
                self._began(seconds)
            self.hold.begin(seconds)

    async def _asked(self, call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """The share's answer, however long it takes, and when it was asked for that."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                with anyio.fail_after(_ANSWER_SECONDS):
                    answer = await call()
            except OSError as error:
                self._warn(error)
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if self.away is not None:
                    self.away = None
                    _LOG.info("the share %r of limits is back", self.name)
                return answer, began

    def _warn(self, error: OSError) -> None:
        has_told = self.away is not None
        why = one_line(str(error) or type(error).__name__)
        self.away = f"the share {self._share.name!r} of limits, which does not answer ({why})"
        if not has_told:
            _LOG.warning(
                "the share %r of limits does not answer (%s): requests wait until it does, or "
                "until their deadline",
                self.name,
                why,
            )
