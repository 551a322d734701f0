"""The progress of an evaluation: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from elluminate_async import Progress, Traffic

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two plain lines."""

GetTraffic: TypeAlias = Callable[[], Traffic]
OnProgress: TypeAlias = Callable[[Progress], None]


def told(progress: Progress, traffic: Traffic) -> str:
    """All that is known, but the number of items, in one line."""
    rate = progress.done / progress.elapsed if progress.elapsed > 0 else 0.0
    parts = [f"{rate:.1f}/s"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(f"{traffic.in_flight} in flight")
    if traffic.throttled:
        parts.append(f"{traffic.throttled} throttled")
    if traffic.retried:
        parts.append(f"{traffic.retried} retried")
    if progress.tokens:
        parts.append(f"{_short(progress.tokens)} tokens")
    if progress.cost is not None:
        parts.append(f"cost {progress.cost:.4g}")
    if progress.total and rate:
        parts.append(f"{duration((progress.total - progress.done) / rate)} left")
    return ", ".join(parts)


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


@contextmanager
def showing(console: Console, traffic: GetTraffic, *, quiet: bool) -> Generator[OnProgress | None]:
    """A callback for ``on_progress``; None where nothing is to be shown."""
    if quiet:
        yield None
    elif console.is_terminal:
        with _live(console, traffic) as on_progress:
            yield on_progress
    else:
        yield _plain(console, traffic)


def _plain(console: Console, traffic: GetTraffic) -> OnProgress:
    said_at = time.monotonic()

    def on_progress(progress: Progress) -> None:
        nonlocal said_at
        is_last = progress.done == progress.total
        if time.monotonic() - said_at < PLAIN_INTERVAL and not is_last:
            return
        said_at = time.monotonic()
        total = "" if progress.total is None else f" of {progress.total}"
        line = f"evaluating  {progress.done}{total} items, {told(progress, traffic())}"
        console.print(line, soft_wrap=True)

    return on_progress


@contextmanager
def _live(console: Console, traffic: GetTraffic) -> Generator[OnProgress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("evaluating", total=None, told="")

        def on_progress(progress: Progress) -> None:
            bars.update(
                task,
                total=progress.total,
                completed=progress.done,
                told=told(progress, traffic()),
            )

        yield on_progress
