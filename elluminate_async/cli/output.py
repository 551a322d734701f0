"""The output of the demo: live progress on a terminal, plain lines elsewhere, results as tables."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from elluminate_async import Progress, RatingValue

if TYPE_CHECKING:
    from rich.progress import TaskID

    from elluminate_async.cli.flow import FlowResult

_DOING = {"generate": "generating", "rate": "rating", "add": "adding"}
_PLAIN_INTERVAL = 2.0
_PLAIN_STEPS = 4


def printable(text: str) -> str:
    """``text`` without the control characters that would drive a terminal."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "�" for character in text
    )


def in_one_line(text: str) -> str:
    """The same in one line, so that it cannot pass for a line of the program's own."""
    return " ".join(printable(text).split())


class PlainProgress:
    """A line at each quarter, and at least one every two seconds while there is progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, tuple[int, float]] = {}

    def __call__(self, progress: Progress) -> None:
        """Print a line where it is time for one."""
        total = progress.total or 0
        step = max(1, math.ceil(total / _PLAIN_STEPS))
        done, at = self._said.get(progress.operation, (0, time.monotonic()))
        late = time.monotonic() - at >= _PLAIN_INTERVAL
        if progress.done == total or progress.done // step > done // step or late:
            self._said[progress.operation] = (progress.done, time.monotonic())
            failed = f", {progress.failed} failed" if progress.failed else ""
            self._console.print(
                f"{_DOING[progress.operation]:<11} {progress.done}/{total}{failed}", soft_wrap=True
            )


class LiveProgress:
    """A bar for each operation."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        """Move the operation's bar."""
        task = self._tasks.get(progress.operation)
        if task is None:
            doing = _DOING[progress.operation]
            task = self._tasks[progress.operation] = self._bars.add_task(
                doing, total=progress.total
            )
        self._bars.update(task, completed=progress.done)


@contextmanager
def progress_on(console: Console) -> Generator[PlainProgress | LiveProgress]:
    """A callback for ``on_progress``: bars on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    columns = (
        TextColumn("{task.description:<11}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield LiveProgress(bars)


def show_examples(console: Console, result: FlowResult, count: int = 2) -> None:
    """The first responses that were rated, whole, with their ratings."""
    rated = list(result.ratings.succeeded.items())[:count]
    for position, ratings in rated:
        response = result.responses[position]
        values = response.prompt.template_variables.input_values
        title = ", ".join(f"{name}: {value}" for name, value in values.items())
        console.rule(escape(in_one_line(title)), align="left")
        console.print(escape(printable(response.response_str)), soft_wrap=True)
        console.print()
        for rating in ratings:
            criterion = escape(in_one_line(rating.criterion.criterion_str))
            console.print(f"  {rating.rating:<4} {criterion}", soft_wrap=True)
        console.print()


def show_pass_rates(console: Console, result: FlowResult) -> None:
    """The share of YES by criterion, over what was rated; failed rows do not count."""
    table = Table("criterion", title="Pass rate by criterion", title_justify="left")
    for name in ("YES", "rated", "pass rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for criterion in result.criteria:
        verdicts = [
            rating.rating
            for ratings in result.ratings.succeeded.values()
            for rating in ratings
            if rating.criterion.id == criterion.id
        ]
        passed = sum(verdict == RatingValue.YES for verdict in verdicts)
        share = f"{passed / len(verdicts):.0%}" if verdicts else "-"
        table.add_row(
            escape(in_one_line(criterion.criterion_str)), str(passed), str(len(verdicts)), share
        )
    console.print(table)


def show_failures(console: Console, result: FlowResult, limit: int = 5) -> None:
    """The first failed rows, a line each."""
    failed = list(result.ratings.failed.values())
    for error in failed[:limit]:
        console.print(f"failed: {escape(in_one_line(str(error)))}", soft_wrap=True)
    if len(failed) > limit:
        console.print(f"failed: and {len(failed) - limit} more", soft_wrap=True)
