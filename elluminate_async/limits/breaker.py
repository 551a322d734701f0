"""Waiting out an outage, and coming back from it without a rush."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import anyio

from elluminate_async.errors import ServiceUnavailableError
from elluminate_async.limits.backoff import back_off
from elluminate_async.telemetry import BreakerChange

Probe: TypeAlias = Callable[[], Awaitable[str | None]]
"""Asks the service for the least that it can be asked for: None, or why there was no answer."""

DOUBT: Final = 5
"""Failures in a row from which on nothing is sent again."""

OPEN: Final = 20
"""Failures in a row from which on nothing is sent at all."""

OPEN_SECONDS: Final = 3.0
"""Seconds that those must have taken."""

PROBE_INTERVAL: Final = 1.0
"""Seconds between two probes."""

FORGET: Final = 60.0
"""Seconds after which failures say nothing any more, when nobody was waiting meanwhile."""

_GROWTH: Final = 0.02
_MEMORY: Final = 10.0
_ROUNDING: Final = 1e-6  # seconds
_LOOK: Final = 1.0  # seconds after which who waits looks whether more are let in by now


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request that is held back.

    Attributes:
        retry: Whether it was sent before.
        wary: Whether it waits after a single failure, as it may be lost by another.
        patience: Seconds without an answer to anybody after which it gives up.
        since: `time.monotonic` when it came.
        in_vain: Whether it has asked the service, and had no answer.
    """

    retry: bool
    wary: bool
    patience: float
    since: float
    turn: anyio.Event = field(default_factory=anyio.Event)
    ticket: int = 0
    in_vain: bool = False
    probing: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Breaker:
    """Stops what would only fail, finds out when the service is back, and lets all in again.

    After `DOUBT` failures in a row with no success, no request is sent again; after
    ``open_after`` in ``open_seconds``, none is sent. What is held back waits, and loses no
    attempt; once a second one of those who wait sends the probe, and an answer to that ends
    the outage. Without a probe, one of those who wait goes alone, after a back-off that
    doubles until one is answered.

    Then those who waited are let in, first come first served, beginning with one and one more
    for each answer, up to as many at once as before the outage and 2 % more each second.

    Who has waited until nobody was answered for ``patience`` seconds gives up, and so does at
    once whoever comes after that, but for the one that is to ask whether the service is back.

    Args:
        ready: Waited for before each probe.
        open_after: Failures in a row from which on nothing is sent.
        open_seconds: Seconds that those must have taken.
        of: The requests that it holds back.
        changed: Told when it begins to hold all back, and when it ends that.

    Attributes:
        probe: None for none.
        is_open: Whether all is held back, but for one that may be let in to find out.
    """

    def __init__(
        self,
        ready: Callable[[], Awaitable[None]],
        *,
        open_after: int = OPEN,
        open_seconds: float = OPEN_SECONDS,
        of: Literal["service", "chunks"] = "service",
        changed: Callable[[BreakerChange], None] | None = None,
    ) -> None:
        self.probe: Probe | None = None
        self._ready = ready
        self._open_after = open_after
        self._open_seconds = open_seconds
        self._of: Literal["service", "chunks"] = of
        self._changed = changed
        self.is_open = False
        self._failures = 0
        self._failing_since = 0.0
        self._failed_at = 0.0
        self._reason = ""
        self._open = False
        self._alone = False  # while one has been let in to find out
        self._waiting: deque[_Waiter] = deque()
        self._ask_at = 0.0
        self._asking = 0  # probes that are out
        self._tried = 0  # times that one went alone since the last answer
        self._let_in: float | None = None  # while those who waited are let in, how many at once
        self._returned_at = 0.0
        self._ticket = 0
        self._in_flight = 0  # those of the present ticket; what an outage left hanging is not
        self._peak = self._peak_before = 0
        self._peak_since = 0.0

    @property
    def is_tried(self) -> bool:
        """Whether one has been let in alone, to find out whether the service is back."""
        return self._alone

    @property
    def silent_since(self) -> float | None:
        """`time.monotonic` of the first failure since the last answer; None for none."""
        return self._failing_since if self._failures else None

    def blocks(self, *, retry: bool, wary: bool = False) -> bool:
        """Whether such a request must wait for an answer to somebody."""
        if self._alone:
            return False
        return self._open or ((retry or wary) and self._failures >= (1 if wary else DOUBT))

    def _holds(self, waiter: _Waiter) -> bool:
        if self._alone:
            return False
        return self.blocks(retry=waiter.retry, wary=waiter.wary) or (
            waiter.patience > 0 and self._is_over(waiter.patience)
        )

    def _is_over(self, patience: float) -> bool:
        return self.gives_up_in(patience) <= 0

    def try_enter(
        self, *, retry: bool, wary: bool = False, patience: float = math.inf
    ) -> int | None:
        """The ticket to `leave` by of a request that may be sent now; None for one that waits."""
        if self._failures:
            self._forget()
            if self.blocks(retry=retry, wary=wary) or (patience > 0 and self._is_over(patience)):
                return None
        return self._take() if self._let_in is None else None

    def _forget(self) -> None:
        idle = not self._waiting and not self._in_flight
        if idle and time.monotonic() - self._failed_at >= FORGET:
            self._failures = self._tried = 0
            self._open = self._alone = False
            self._let_in = None
            self._tell(is_open=False)

    async def enter(self, *, retry: bool, wary: bool = False, patience: float = math.inf) -> int:
        """Return when the request may be sent, with the ticket to `leave` by.

        Args:
            retry: Whether it was sent before.
            wary: Whether it is to wait after a single failure.
            patience: Seconds.

        Raises:
            ServiceUnavailableError: Nobody was answered for ``patience`` seconds.
        """
        ticket = self.try_enter(retry=retry, wary=wary, patience=patience)
        if ticket is not None:
            return ticket
        waiter = _Waiter(retry, wary, patience, time.monotonic())
        self._waiting.append(waiter)
        self._wake()
        try:
            while not waiter.turn.is_set():
                if self._holds(waiter) and self._is_over(patience) and self._is_told(waiter):
                    raise self.outage()
                await self._wait(waiter)
        except BaseException:
            if waiter.turn.is_set():
                self.leave(waiter.ticket)
            else:
                self._waiting.remove(waiter)
                self._wake()
            raise
        return waiter.ticket

    def _is_told(self, waiter: _Waiter) -> bool:
        """Whether who has waited for long enough need not wait for whoever finds out."""
        # Somebody had no answer while this one waited, and after all its patience.
        failed_late = self._failed_at >= self._failing_since + waiter.patience - _ROUNDING
        if waiter.in_vain or (self._failed_at > waiter.since and failed_late):
            return True
        # One that asks may find that the service is back; of several the first has no answer.
        return self._asking != 1 and time.monotonic() < self._ask_at

    def gives_up_in(self, patience: float) -> float:
        """Seconds until who has so much patience gives up; infinite while nobody failed."""
        if not self._failures:
            return math.inf
        return max(0.0, self._failing_since + patience - time.monotonic())

    def outage(self) -> ServiceUnavailableError:
        """The error of who gives up now."""
        now = time.monotonic()
        wait = self._ask_at - now
        return ServiceUnavailableError(
            since=datetime.now(UTC) - timedelta(seconds=now - self._failing_since),
            last=self._reason,
            retry_after=max(PROBE_INTERVAL, wait if math.isfinite(wait) else 0.0),
        )

    async def _wait(self, waiter: _Waiter) -> None:
        """Wait for the turn until somebody is to ask, or ask."""
        pause = _LOOK
        if self._holds(waiter):
            now = time.monotonic()
            pause = min(pause, self._ask_at - now)
            if left := self.gives_up_in(waiter.patience):
                pause = min(pause, left)
            if self._ask_at <= now:
                await self._ask(waiter)
                return
        with anyio.move_on_after(pause):
            await waiter.turn.wait()
        self._wake()

    async def _ask(self, waiter: _Waiter) -> None:
        """Find out whether the service is back."""
        if self.probe is None:
            # By one that waits: alone, as it may be lost.
            self._ask_at = math.inf
            self._open, self._alone, self._let_in = False, True, 1.0
            self._ticket += 1
            self._in_flight = 0
            self._wake()
            return
        reason: str | None = "cancelled"
        # Left once its turn has come by another's probe: one that hangs keeps nobody back.
        with anyio.CancelScope() as waiter.probing:
            self._ask_at = math.inf
            self._asking += 1
            try:
                try:
                    await self._ready()
                finally:
                    # From its sending on: one that hangs does not keep the next from being sent.
                    self._ask_at = time.monotonic() + PROBE_INTERVAL
                reason = await self.probe()
            finally:
                self._asking -= 1
        if waiter.probing.cancelled_caught:
            return
        if reason is None:
            self.answered()
        else:
            waiter.in_vain = True
            self.failed(reason)

    def ask_now(self) -> None:
        """There is reason to think that the service is back: the next request finds out."""
        if math.isfinite(self._ask_at):
            self._ask_at = 0.0

    def leave(self, ticket: int) -> None:
        """The exchange is over, or was never begun."""
        if ticket == self._ticket:
            self._in_flight -= 1
            self._wake()

    def answered(self) -> None:
        """The service answered something: it is there."""
        self._failures = self._tried = 0
        if self.probe is None:
            self._ask_at = 0.0
        if self._open:
            self._open = False
            self._let_in, self._returned_at = 1.0, time.monotonic()
            self._ticket += 1
            self._in_flight = 0
        elif self._let_in is not None:
            self._let_in += 1
        if self._alone:
            self._alone, self._returned_at = False, time.monotonic()
        self._tell(is_open=False)
        self._wake()

    def failed(self, reason: str, *, at_once: bool = False) -> None:
        """There was no answer, or one that the service failed.

        Args:
            reason: In a few words.
            at_once: Send nothing from now on, whatever the number of failures.
        """
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._failed_at, self._reason = now, reason
        enough = self._failures >= self._open_after
        if self._alone or at_once or (enough and now - self._failing_since >= self._open_seconds):
            if not self._open and self.probe is None:
                self._tried += 1
                self._ask_at = now + back_off(self._tried)
            self._open, self._alone, self._let_in = True, False, None
            self._tell(is_open=True)

    def _tell(self, *, is_open: bool) -> None:
        if is_open == self.is_open:
            return
        self.is_open = is_open
        if self._changed is not None:
            seconds = time.monotonic() - self._failing_since
            self._changed(BreakerChange(self._of, is_open, self._reason, seconds))

    def _wake(self) -> None:
        while self._waiting and not self._holds(self._waiting[0]):
            if self._in_flight >= self._most():
                return
            waiter = self._waiting.popleft()
            waiter.ticket = self._take()
            waiter.turn.set()
            waiter.probing.cancel()
        if not self._waiting and not self._alone:
            self._let_in = None

    def _most(self) -> float:
        if self._let_in is None:
            return math.inf
        usual = max(self._peak, self._peak_before)
        grown = usual * (1 + _GROWTH * (time.monotonic() - self._returned_at))
        return min(self._let_in, max(1.0, math.floor(grown))) if usual else self._let_in

    def _take(self) -> int:
        self._in_flight += 1
        if not self._failures and self._let_in is None:
            now = time.monotonic()
            if now - self._peak_since >= _MEMORY:
                recent = now - self._peak_since < 2 * _MEMORY
                self._peak_before = self._peak if recent else 0
                self._peak, self._peak_since = 0, now
            self._peak = max(self._peak, self._in_flight)
        return self._ticket
