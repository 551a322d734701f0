"""The ``Retry-After`` header. Source: RFC 9110 section 10.2.3."""

from __future__ import annotations

import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, *, date: str | None = None) -> float | None:
    """Seconds to wait: the header is a number or an HTTP date.

    A date is read against the answer's own ``Date`` header, so that clock skew between
    the machines does not matter. Unusable and past values give None.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, date)
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _seconds_until(value: str, date: str | None) -> float:
    try:
        now = _timestamp(date) if date else time.time()
        return _timestamp(value) - now
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _timestamp(date: str) -> float:
    parsed = parsedate_to_datetime(date)
    # The oldest of the three formats names no zone; all three mean UTC.
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
