"""Which model calls are made again, and when: the one place that decides it."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from elluminate_async.limits import backoff
from elluminate_async.server.llms.lines import LONGEST_HOLD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elluminate_async.server.llms.base import BusyError
    from elluminate_async.server.llms.lines import Line

THROTTLED_FOR = 2 * LONGEST_HOLD
"""Seconds for which a call is made again that the endpoint says is too much."""

AWAY_FOR = 10.0
"""Seconds for which an endpoint that refuses connections is waited for; then calls fail at
once until it takes one."""


def seconds_of(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``Retry-After`` names, as a number or a date; None where it names none."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        given = headers.get(name, "").strip()
        if not given:
            continue
        try:
            seconds = float(given) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(given).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


class Patience:
    """How often one call may be made again.

    Args:
        max_retries: By its configuration; None leaves it to what the endpoint says: what was
            not taken is sent again, and a fault of the endpoint, which may have been paid
            for, is not.
    """

    def __init__(self, max_retries: int | None) -> None:
        self._most = max_retries
        self._failures = 0
        self._until = time.monotonic() + THROTTLED_FOR

    def wait(self, error: BusyError, line: Line) -> float | None:
        """Seconds until the next attempt; None when there is to be none."""
        self._failures += 1
        if error.reason == "throttled":
            line.refused(error.retry_after)
        elif error.reason == "away":
            line.away()
        else:
            line.answered()
        if self._failures > (math.inf if self._most is None else self._most):
            return None
        if error.reason == "throttled":
            wait = error.retry_after
            if wait is None:
                wait = backoff.throttle_back_off(self._failures)
            may_wait = wait <= LONGEST_HOLD and time.monotonic() + wait <= self._until
            return wait if may_wait else None
        wait = backoff.back_off(self._failures)
        if error.reason == "away":
            return wait if line.away_for() < AWAY_FOR else None
        return wait if self._most is not None else None
