"""`PlainLines`: a line on standard error every few seconds, and one at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from elluminate_async.progress.display import Ticker

if TYPE_CHECKING:
    from elluminate_async.progress.display import Display

INTERVAL: Final = 5.0
"""Seconds between two lines."""


class PlainLines:
    """The view for pipes, files and logs."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._ticker = Ticker(self._show, INTERVAL)

    def begin(self) -> None:
        """Write a line now and then."""
        self._ticker.start()

    def end(self) -> None:
        """Write the last line."""
        self._ticker.stop()

    def _show(self) -> None:
        # None in a program without a console.
        if (stream := sys.stderr) is not None:  # pyright: ignore[reportUnnecessaryComparison]
            stream.write(f"{self._display.line()}\n")
            stream.flush()
