"""A progress in words. All of them are ASCII, so that any stream takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from elluminate_async.batch import Progress
    from elluminate_async.limits.limits import Traffic

DOING: Final = {
    "add": "adding",
    "evaluate": "evaluating",
    "generate": "generating",
    "rate": "rating",
}
"""Words for `Progress.operation`."""


def line(progress: Progress, known: str) -> str:
    """One line: the operation, the number of items, and what else is ``known``."""
    return f"{DOING[progress.operation]}  {counted(progress, known)}"


def counted(progress: Progress, known: str) -> str:
    """The same without the operation, for beside a bar that has it."""
    of = "" if progress.total is None else f" of {progress.total}"
    return f"{progress.done}{of} items, {known}"


def told(progress: Progress, traffic: Traffic | None, has_failed: bool = False) -> str:
    """All that is known, but the number of items.

    Args:
        progress: Of the call.
        traffic: Of its client; None once the call has ended.
        has_failed: Whether it ended before it was done.
    """
    rate = progress.done / progress.elapsed if progress.elapsed > 0 else 0.0
    parts = [f"{rate:.1f}/s"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if traffic is not None:
        parts += _traffic(traffic)
    if progress.tokens:
        parts.append(f"{_short(progress.tokens)} tokens")
    if progress.cost is not None:
        parts.append(f"cost {progress.cost:.4g}")
    if traffic is None:
        parts.append(f"{'stopped after' if has_failed else 'in'} {duration(progress.elapsed)}")
    elif progress.total and rate and progress.done < progress.total:
        parts.append(f"{duration((progress.total - progress.done) / rate)} left")
    return ", ".join(parts)


def _traffic(traffic: Traffic) -> list[str]:
    counts = {"throttled": traffic.throttled, "retried": traffic.retried}
    return [
        f"{traffic.in_flight} chunks in flight",
        *(f"{count} {name}" for name, count in counts.items() if count),
    ]


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3:07 min, 1:02:03 h."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _short(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1_000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"
