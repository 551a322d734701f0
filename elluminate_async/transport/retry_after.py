"""The ``Retry-After`` header. Source: RFC 9110 section 10.2.3."""

from __future__ import annotations

import math
import time
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
        then = parsedate_to_datetime(value).timestamp()
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
    except (TypeError, ValueError):
        return math.nan
    return then - now
