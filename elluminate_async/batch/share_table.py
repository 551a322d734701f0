"""The arithmetic of a share of limits, by whatever clock: no I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from elluminate_async.batch.share import SharedPace, Slots

CUT_INTERVAL: Final = 1.0
"""Seconds in which refusals count as one."""

MEASURE_SECONDS: Final = 2.0
"""Seconds over which the requests that were taken are counted."""


class Taken(NamedTuple):
    """The answer of `ShareTable.reserve`.

    Attributes:
        is_taken: Whether anything was given away.
        delay: Seconds from now to the first slot; below 0 where it has begun.
        hold: Seconds left of a hold; above 0 nothing is given away.
    """

    is_taken: bool
    delay: float
    hold: float


@dataclass(slots=True)
class ShareTable:
    """The state of a share, and how it changes. ``now`` is of one clock that never goes back.

    Attributes:
        ends: Of each limit, when the last slot that was given away ends.
        held_until: When the hold ends.
        refused_rate: Requests a second at which the service last refused one; 0 for never.
        refused_at: When that was.
        counted_from: Since when ``current`` counts; below 0 for never.
        current: Requests that the service has taken since then.
        previous: Those of the `MEASURE_SECONDS` before that; below 0 where nobody counted.
    """

    ends: dict[str, float] = field(default_factory=dict[str, float])
    held_until: float = 0.0
    refused_rate: float = 0.0
    refused_at: float = 0.0
    counted_from: float = -1.0
    current: int = 0
    previous: int = -1

    def reserve(
        self, now: float, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Taken:
        """Give slots away, see `LimitShare.reserve`."""
        if hold := self.hold_left(now):
            return Taken(is_taken=False, delay=0.0, hold=hold)
        for slots in wanted:
            self.ends.setdefault(slots.limit, now + slots.guard)
        could = [max(now + earliest, self.ends[slots.limit]) for slots in wanted]
        start = max(could)
        is_idle = any(start - one > slots.idle for one, slots in zip(could, wanted, strict=True))
        if start - now > latest or is_idle:
            return Taken(is_taken=False, delay=start - now, hold=0.0)
        for slots in wanted:
            self.ends[slots.limit] = start + slots.number * slots.interval
        return Taken(is_taken=True, delay=start - now, hold=0.0)

    def hold(self, now: float, seconds: float) -> None:
        """Begin a hold; a longer one in force stays."""
        self.held_until = max(self.held_until, now + seconds)

    def hold_left(self, now: float) -> float:
        """Seconds left of a hold; 0 for none."""
        return max(0.0, self.held_until - now)

    def pace(self, now: float, accepted: int = 0, refused: float | None = None) -> SharedPace:
        """Count, and tell the pace, see `LimitShare.pace`."""
        if accepted:
            self._count(now, accepted)
        known = self.refused_rate > 0
        if refused is not None and not (known and now - self.refused_at < CUT_INTERVAL):
            self.refused_rate, self.refused_at, known = refused, now, True
        since = max(0.0, now - self.refused_at) if known else 0.0
        return SharedPace(self.measured(now), self.refused_rate, since, self.hold_left(now))

    def measured(self, now: float) -> float:
        """Requests a second that the service took lately."""
        elapsed = now - self.counted_from
        if self.counted_from < 0 or elapsed >= 2 * MEASURE_SECONDS:
            return 0.0
        if elapsed >= MEASURE_SECONDS:
            # `current` is what `previous` will be called when somebody counts next.
            return self.current * (2 - elapsed / MEASURE_SECONDS) / MEASURE_SECONDS
        if self.previous < 0:
            return self.current / max(elapsed, 1.0)
        before = self.previous * (1 - elapsed / MEASURE_SECONDS)
        return (before + self.current) / MEASURE_SECONDS

    def _count(self, now: float, accepted: int) -> None:
        elapsed = now - self.counted_from
        if self.counted_from < 0 or elapsed >= 2 * MEASURE_SECONDS:
            self.counted_from, self.current, self.previous = now, 0, -1
        elif elapsed >= MEASURE_SECONDS:
            self.counted_from += MEASURE_SECONDS
            self.current, self.previous = 0, self.current
        self.current += accepted
