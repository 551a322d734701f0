"""Which items the model fails, and which the judge: known before, so that it can be checked."""

from __future__ import annotations

EACH = 50
"""One of so many fails."""

_GENERATION, _RATING = 7, 23


def generation_fails(number: int) -> bool:
    """Whether the model gives no answer to item ``number``."""
    return number % EACH == _GENERATION


def rating_fails(number: int) -> bool:
    """Whether the judge gives no verdict on it."""
    return number % EACH == _RATING
