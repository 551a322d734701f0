"""A share in memory, with a way to it that takes time, and that can be away or forget all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from elluminate_async.batch.share import LimitShare, Reservation, SharedPace, ShareState, Slots
from elluminate_async.batch.share_clock import ShareClock
from elluminate_async.batch.share_table import ShareTable

EPSILON = 1e-6
"""Seconds by which sums with the time of day are inexact."""


async def is_new(share: LimitShare, wanted: Sequence[Slots]) -> bool:
    """Whether its first slot begins a second after it was asked for, whenever the answer came."""
    began = time.monotonic()
    taken = await share.reserve(wanted, earliest=0.0, latest=9.0)
    return taken.delay - EPSILON <= 1.0 <= taken.delay + time.monotonic() - began + EPSILON


@dataclass(eq=False)
class MemoryShare:
    """One for all clients of a test.

    Attributes:
        round_trip: Seconds.
        late_once_in: Of so many answers one comes late; 0 for none.
        late: By so many seconds.
        away_until: Until then it raises.
        calls: Times that it was asked for slots.
    """

    name: str = "memory"
    round_trip: float = 0.001
    table: ShareTable = field(default_factory=ShareTable)
    away_until: float = 0.0
    late_once_in: int = 0
    late: float = 0.0
    calls: int = 0
    clock: ShareClock = field(default_factory=ShareClock)
    closed: int = 0

    async def _way(self) -> None:
        await anyio.sleep(self.round_trip / 2)
        if time.monotonic() < self.away_until:
            raise ConnectionError("nobody is there")

    async def reserve(
        self, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Reservation:
        began = time.monotonic()
        self.calls += 1
        await self._way()
        now = time.monotonic()
        taken = self.table.reserve(now, wanted, earliest=earliest, latest=latest)
        if self.late_once_in and not self.calls % self.late_once_in:
            await anyio.sleep(self.late)
        await self._way()
        moment = self.clock.moment(now, asked=began, answered=time.monotonic())
        return moment.reservation(*taken)

    async def hold(self, seconds: float) -> None:
        await self._way()
        self.table.hold(time.monotonic(), seconds)

    async def held(self) -> float:
        await self._way()
        return self.table.hold_left(time.monotonic())

    async def pace(self, *, accepted: int = 0, refused: float | None = None) -> SharedPace:
        await self._way()
        return self.table.pace(time.monotonic(), accepted, refused)

    async def state(self) -> ShareState:
        now = time.monotonic()
        return ShareState(self.round_trip, {}, self.table.hold_left(now), self.table.pace(now))

    async def aclose(self) -> None:
        self.closed += 1
