"""The clock of a share by this process's own, closer than one answer tells."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from elluminate_async.batch.share import Reservation

_DRIFT: Final = 0.001
"""Seconds by which two clocks part in a second at most, while one of them is being corrected."""


class _Offset(NamedTuple):
    """This process's clock less the share's, in seconds, as known at a moment of the former."""

    least: float
    most: float
    at: float


class ShareClock:
    """When the share answered, by `time.monotonic`.

    An answer alone tells that it was between the question and the answer: where this process had
    no turn meanwhile, long ago perhaps. All answers together leave less, as each bounds how far
    the clocks are apart (the intersection of Marzullo's algorithm). Where they do not agree one
    of the clocks was set, or another one answers, and the last answer counts alone.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: _Offset | None = None

    def moment(self, told: float, asked: float, answered: float) -> tuple[float, float]:
        """The earliest and the latest moment at which the share's clock can have shown ``told``.

        Args:
            told: What it showed when it answered, in seconds.
            asked: `time.monotonic` before the question.
            answered: The same after the answer.
        """
        least, most = asked - told, answered - told
        if (known := self._known) is not None:
            parted = _DRIFT * abs(answered - known.at)
            closer = max(least, known.least - parted), min(most, known.most + parted)
            if closer[0] <= closer[1]:
                least, most = closer
        # In one step, as several threads may have one share.
        self._known = _Offset(least, most, answered)
        return told + least, told + most

    def reservation(
        self, is_taken: bool, delay: float, hold: float, *, told: float, asked: float
    ) -> Reservation:
        """The answer that came just now, whose ``delay`` is from the moment of the decision on.

        Args:
            is_taken: See `Reservation`.
            delay: The same.
            hold: The same.
            told: What its clock showed.
            asked: `time.monotonic` before the question.
        """
        answered = time.monotonic()
        least, most = self.moment(told, asked, answered)
        if hold <= 0:
            delay -= answered - most
        return Reservation(is_taken, delay, hold, most - least)
