"""Waits between attempts."""

from __future__ import annotations

import random
from typing import Final

BACKOFF_BASE: Final = 0.5
BACKOFF_CAP: Final = 8.0

THROTTLE_BASE: Final = 1.0
THROTTLE_CAP: Final = 20.0


def back_off(failures: int) -> float:
    """Seconds before the next attempt: `BACKOFF_BASE` doubled by each failure, up to the cap.

    The half of it is jitter, so that clients that failed together come back apart, and none
    comes back at once.

    Args:
        failures: Failed attempts so far, at least 1.
    """
    most = _doubled(failures, BACKOFF_BASE, BACKOFF_CAP)
    return random.uniform(most / 2, most)


def throttle_back_off(refusals: int) -> float:
    """The same after a refusal that named no time: full jitter, from `THROTTLE_BASE` on."""
    return random.uniform(0, _doubled(refusals, THROTTLE_BASE, THROTTLE_CAP))


def _doubled(times: int, base: float, cap: float) -> float:
    return min(cap, base * 2.0 ** min(times - 1, 30))
