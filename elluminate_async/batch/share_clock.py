"""The clock of a share by this process's own, closer than one answer tells."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from elluminate_async.batch.share import Reservation

_DRIFT: Final = 0.001
"""Seconds by which two clocks part in a second, as a rule at most, while one is being corrected."""


class _Offset(NamedTuple):
    """This process's clock less the share's, in seconds, as known at a moment of the former."""

    least: float
    most: float
    at: float


class Moment(NamedTuple):
    """The moment of an answer, by `time.monotonic`.

    Attributes:
        earliest: It was then at the earliest.
        latest: It was then at the latest.
        ahead: Seconds by which the share's clock has gone ahead at least since the answer before,
            beyond what clocks do.
    """

    earliest: float
    latest: float
    ahead: float

    def reservation(self, is_taken: bool, delay: float, hold: float) -> Reservation:
        """The answer of the share then, whose ``delay`` is from that moment on; in a hold 0."""
        later = 0.0 if hold > 0 else time.monotonic() - self.latest
        return Reservation(is_taken, delay - later, hold, self.latest - self.earliest)


class ShareClock:
    """Tells when the share answered.

    An answer alone tells that it was between the question and the answer: where this process had
    no turn meanwhile, long ago perhaps. All answers together leave less, as each bounds how far
    the clocks are apart (the intersection of Marzullo's algorithm). Where they do not agree one
    of the clocks was set, or another one answers, and the last answer counts alone.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: _Offset | None = None

    def moment(self, told: float, *, asked: float, answered: float) -> Moment:
        """The moment of an answer.

        Args:
            told: What the share's clock showed then, in seconds.
            asked: `time.monotonic` before the question.
            answered: The same after the answer.
        """
        least, most, ahead = asked - told, answered - told, 0.0
        if (known := self._known) is not None:
            # What was known is of some moment before the answer that told it.
            parted = _DRIFT * (abs(answered - known.at) + answered - asked)
            closer = max(least, known.least - parted), min(most, known.most + parted)
            if closer[0] <= closer[1]:
                least, most = closer
            else:
                ahead = max(0.0, known.least - parted - most)
        # In one step, as several threads may have one share.
        self._known = _Offset(least, most, answered)
        return Moment(told + least, told + most, ahead)
