"""`Display`: the newest progress of one call. `Ticker`: a thread that shows it."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from elluminate_async.batch import Progress
from elluminate_async.progress.text import line, told

if TYPE_CHECKING:
    from elluminate_async.limits.limits import Traffic

GetTraffic: TypeAlias = "Callable[[], Traffic]"

PATIENCE: Final = 1.0
"""Seconds that a call waits at its end for its last picture to be drawn."""

logger = logging.getLogger("elluminate_async")


class Display:
    """The newest progress of one call, and how the call ended.

    Args:
        operation: As in `Progress`.
        total: Items; None where that is not known.
        traffic: Asks the client what its requests are up to.

    Attributes:
        has_failed: Whether the call ended by an error or a cancellation.
    """

    def __init__(self, operation: str, total: int | None, traffic: GetTraffic) -> None:
        self._traffic = traffic
        self._started = time.monotonic()
        self._ended_at: float | None = None
        self._progress = Progress(operation, total, 0, 0, 0.0)
        self.has_failed = False

    def note(self, progress: Progress) -> None:
        """Take what is newer: all that a finished item costs."""
        self._progress = progress

    def end(self, *, failed: bool) -> None:
        """Note that the call has ended."""
        self.has_failed = failed
        self._ended_at = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether there will be nothing newer."""
        return self._ended_at is not None

    @property
    def progress(self) -> Progress:
        """The newest, with the time that has passed until now or the end."""
        now = time.monotonic() if self._ended_at is None else self._ended_at
        return replace(self._progress, elapsed=now - self._started)

    def told(self) -> str:
        """All that is known, but the number of items."""
        return told(self.progress, None if self.has_ended else self._traffic(), self.has_failed)

    def line(self) -> str:
        """All that is known, in one line."""
        return line(self.progress, self.told())


class View(Protocol):
    """A place where a display is shown."""

    def begin(self) -> None:
        """Show it from now on."""
        ...

    def end(self) -> None:
        """Show its end, and then nothing any more."""
        ...


class Ticker:
    """Calls ``show`` again and again in a thread, and once more at the end.

    A terminal that is paused, or a pipe that nobody reads, holds up that thread and not the
    event loop. An error of ``show``, such as of a closed stream, ends the showing and nothing
    else.

    Args:
        show: Shows what is to be shown; it is never called by two threads at once.
        every: Seconds between two calls.
        patience: Seconds that are waited for the last call; None is `PATIENCE`.
    """

    def __init__(
        self, show: Callable[[], None], every: float, *, patience: float | None = None
    ) -> None:
        self._show = show
        self._every = every
        self._patience = PATIENCE if patience is None else patience
        self._is_over = threading.Event()
        # In the context of the call: a notebook finds the cell by it that outputs belong to.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._run,), name="elluminate-progress", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Show the end, unless that takes too long."""
        self._is_over.set()
        self._thread.join(self._patience)

    def _run(self) -> None:
        with shielded():
            while not self._is_over.wait(self._every):
                self._show()
            self._show()


@contextmanager
def shielded() -> Generator[None]:
    """A context whose exceptions end it, with a line in the log for who looks for them."""
    try:
        yield
    except Exception as error:
        logger.debug("the progress is not shown any more: %r", error)
