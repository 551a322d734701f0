"""`TerminalView`: a live line on the terminal, below those of other calls in this process.

All lines of a process are one live display, drawn by one thread, as a terminal has one end::

    evaluating ━━━━━━━━━━━━━━━━━━━━ 40/40 ...         of a call that has ended, and stays
    a line that the program prints meanwhile          above what is live
    evaluating ━━━━━━━━━━━━━━━────── 31/40 ...        live
    rating     ━━━───────────────────  7/50 ...       live
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, cast

from elluminate_async.progress.display import PATIENCE, shielded
from elluminate_async.progress.text import DOING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from elluminate_async.progress.display import Display

INTERVAL: Final = 0.2
"""Seconds between two pictures."""

_BAR_WIDTH: Final = 20


def live_console() -> Console | None:
    """Standard error, where it is a terminal on which something can be drawn in place."""
    stream: Any = sys.stderr
    if stream is None or stream.closed or not stream.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    # Another live display, of the caller's, has taken the stream: two would draw over each other.
    is_taken = hasattr(stream, "rich_proxied_file") and _Board.current is None
    return console if console.is_interactive and not is_taken else None


class TerminalView:
    """One line of the live display."""

    def __init__(self, display: Display, console: Console) -> None:
        self._line = _Line(display)
        self._console = console

    def begin(self) -> None:
        """Draw it below the others."""
        _Board.add(self._line, self._console)

    def end(self) -> None:
        """Leave the line as it ended, and wait until that is drawn."""
        _Board.wake()
        self._line.is_gone.wait(PATIENCE)


class _Line:
    def __init__(self, display: Display) -> None:
        self.display = display
        self.is_gone = threading.Event()


class _Board:
    """The lines of a process, and the thread that draws them; it ends with the last of them.

    That thread alone draws, and holds the lock never meanwhile: a terminal that takes nothing
    holds up nobody else.
    """

    current: _Board | None = None
    _lock = threading.Lock()

    def __init__(self, console: Console) -> None:
        self._picture = _Picture(console)
        self._lines: list[_Line] = []
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elluminate-progress", daemon=True)

    @classmethod
    def add(cls, line: _Line, console: Console) -> None:
        """Draw ``line`` until its display has ended."""
        with cls._lock:
            board = cls.current
            # A fork has the board, and not its thread.
            if board is None or not board._thread.is_alive():
                board = cls.current = _Board(console)
                board._thread.start()
            board._lines.append(line)
            board._news.set()

    @classmethod
    def wake(cls) -> None:
        """Draw at once."""
        with cls._lock:
            if cls.current is not None:
                cls.current._news.set()

    def _run(self) -> None:
        with shielded():
            while self._draw():
                self._news.wait(INTERVAL)
                self._news.clear()
        # Done, or the terminal is gone.
        with shielded():
            self._picture.close()
        self._leave()

    def _draw(self) -> bool:
        """Whether anything is left to be drawn."""
        with self._lock:
            lines = [*self._lines]
        ended = [line for line in lines if line.display.has_ended]
        self._picture.draw(lines)
        if len(ended) == len(lines):
            self._picture.close()
        else:
            self._picture.retire(ended)
        with self._lock:
            self._lines = [line for line in self._lines if line not in ended]
            is_over = not self._lines
            if is_over:
                _Board.current = None
        for line in ended:
            line.is_gone.set()
        return not is_over

    def _leave(self) -> None:
        with self._lock:
            if _Board.current is self:
                _Board.current = None
            for line in self._lines:
                line.is_gone.set()


class _Picture:
    """The lines as rich draws them; prints and log records go above them meanwhile."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None
        self._tasks: dict[_Line, TaskID] = {}
        self._undo = ExitStack()

    def draw(self, lines: list[_Line]) -> None:
        """Draw all of them as they are now."""
        bars = self._bars or self._open()
        for line in lines:
            progress = line.display.progress
            total, told = progress.total, line.display.told()
            if line in self._tasks:
                bars.update(self._tasks[line], total=total, completed=progress.done, told=told)
            else:
                doing = DOING[progress.operation]
                self._tasks[line] = bars.add_task(
                    doing, total=total, completed=progress.done, told=told
                )
        bars.refresh()

    def retire(self, lines: list[_Line]) -> None:
        """Leave these as they are, above the others."""
        for line in lines:
            assert self._bars is not None
            task = self._tasks.pop(line)
            done = [one for one in self._bars.tasks if one.id == task]
            self._bars.console.print(self._bars.make_tasks_table(done))
            self._bars.remove_task(task)

    def close(self) -> None:
        """Leave all as they are, and the terminal as it was."""
        bars, self._bars = self._bars, None
        self._tasks.clear()
        self._undo.close()
        if bars is not None:
            bars.stop()

    def _open(self) -> Bars:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bars

        bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=self._console,
            auto_refresh=False,
            # What goes to a file is not to come out on the terminal.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # pyright: ignore[reportUnnecessaryComparison]
        )
        self._bars = bars
        before = (sys.stdout, sys.stderr)
        bars.start()
        for was, now in zip(before, (sys.stdout, sys.stderr), strict=True):
            if now is not was:
                self._divert(was, now)
        return bars

    def _divert(self, before: Any, during: Any) -> None:
        """Have log handlers write where prints go: they keep what they were made with."""
        for handler in _handlers():
            if isinstance(handler, logging.StreamHandler):
                stream = cast("logging.StreamHandler[Any]", handler)
                if stream.stream is before:
                    stream.setStream(during)
                    self._undo.callback(_restore, stream, during, before)
            elif _is_richs(handler) and handler.console.file is before:
                self._undo.callback(setattr, handler, "console", handler.console)
                handler.console = self._console


def _handlers() -> list[Any]:
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    return [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in list(logger.handlers)
    ]


def _restore(handler: logging.StreamHandler[Any], during: Any, before: Any) -> None:
    # Unless somebody has given it another stream meanwhile.
    if handler.stream is during:
        handler.setStream(before)


def _is_richs(handler: object) -> bool:
    module = sys.modules.get("rich.logging")
    return module is not None and isinstance(handler, module.RichHandler)
