"""The progress of an evaluation: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from elluminate_async import Progress, Traffic

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two plain lines."""

LIVE_INTERVAL: Final = 0.2
"""Seconds between two pictures on a terminal."""

GetTraffic: TypeAlias = Callable[[], Traffic]
OnProgress: TypeAlias = Callable[[Progress], None]


def told(progress: Progress, traffic: Traffic) -> str:
    """All that is known, but the number of items, in one line."""
    rate = progress.done / progress.elapsed if progress.elapsed > 0 else 0.0
    parts = [f"{rate:.1f}/s"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(f"{traffic.in_flight} chunks in flight")
    if traffic.throttled:
        parts.append(f"{traffic.throttled} throttled")
    if traffic.retried:
        parts.append(f"{traffic.retried} retried")
    if progress.tokens:
        parts.append(f"{_short(progress.tokens)} tokens")
    if progress.cost is not None:
        parts.append(f"cost {progress.cost:.4g}")
    if progress.total and rate and progress.done < progress.total:
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


class Display:
    """The newest progress, shown when it is time to.

    Args:
        traffic: Asks the client what its requests are up to.
        total: Items.
        show: Shows a progress and what is told of it.
        every: Seconds between two showings.
    """

    def __init__(
        self, traffic: GetTraffic, total: int, show: Callable[[Progress, str], None], every: float
    ) -> None:
        self._traffic = traffic
        self._show = show
        self._every = every
        self._started = time.monotonic()
        self._progress = Progress("evaluate", total, 0, 0, 0.0)

    def note(self, progress: Progress) -> None:
        """Take what is newer."""
        self._progress = progress

    def show(self) -> None:
        """Show it, as of now."""
        now = replace(self._progress, elapsed=time.monotonic() - self._started)
        self._show(now, told(now, self._traffic()))

    async def tick(self) -> None:
        """Show it again and again, whether or not anything has come."""
        while True:
            await asyncio.sleep(self._every)
            self.show()


@asynccontextmanager
async def showing(
    console: Console, traffic: GetTraffic, *, total: int, quiet: bool
) -> AsyncGenerator[OnProgress | None]:
    """A callback for ``on_progress``; None where nothing is to be shown."""
    if quiet:
        yield None
        return
    with ExitStack() as stack:
        if console.is_terminal:
            show, every = _live(stack, console), LIVE_INTERVAL
        else:
            show, every = _plain(console), PLAIN_INTERVAL
        display = Display(traffic, total, show, every)
        ticking = asyncio.ensure_future(display.tick())
        try:
            yield display.note
            display.show()
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])


def _plain(console: Console) -> Callable[[Progress, str], None]:
    def show(progress: Progress, text: str) -> None:
        line = f"evaluating  {progress.done} of {progress.total} items, {text}"
        console.print(line, soft_wrap=True)

    return show


def _live(stack: ExitStack, console: Console) -> Callable[[Progress, str], None]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    bars = stack.enter_context(Bars(*columns, console=console, auto_refresh=False))
    task = bars.add_task("evaluating", total=None, told="")

    def show(progress: Progress, text: str) -> None:
        bars.update(task, total=progress.total, completed=progress.done, told=text, refresh=True)

    return show
