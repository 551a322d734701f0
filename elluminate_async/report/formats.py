"""How a report writes numbers: what is not known is told so, and is never 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from elluminate_async.report.texts import excerpt, shown

UNKNOWN: Final = "unknown"


def percent(share: float | None) -> str:
    """A share of 0.9031 is ``90.3 %``."""
    return "not measured" if share is None else f"{100 * share:.1f} %"


def level(confidence: float) -> str:
    """A confidence of 0.95 is ``95 %``."""
    return f"{100 * confidence:.4g} %"


def points(difference: float | None) -> str:
    """A difference of two shares, 0.031 is ``+3.1 points``."""
    if difference is None:
        return "not measured"
    return f"{100 * difference:+.1f} points".replace("-", "−")


def seconds(value: float | None) -> str:
    """``0.84 s``."""
    return UNKNOWN if value is None else f"{value:,.2f} s"


def count(value: float | None) -> str:
    """``12,345``."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def cost(value: float | None) -> str:
    """Three digits that tell something: ``0.00123``."""
    if value is None:
        return UNKNOWN
    return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.3g}"


def p_value(value: float | None) -> str:
    """``0.031``, or ``< 0.001``."""
    if value is None:
        return "not measured"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def measured(value: float | None, form: str) -> str:
    """A measurement in its form: ``seconds``, ``count`` or ``cost``."""
    return {"seconds": seconds, "count": count, "cost": cost}[form](value)


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "percent": percent,
    "level": level,
    "points": points,
    "seconds": seconds,
    "count": count,
    "cost": cost,
    "p_value": p_value,
    "measured": measured,
    "shown": shown,
    "excerpt": excerpt,
}
