"""`Showing`: what ``progress=`` asks for, from the beginning of a call to its end."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from elluminate_async.batch.options import check_progress
from elluminate_async.progress.display import Display, GetTraffic, View, shielded
from elluminate_async.progress.notebook import NotebookView, in_notebook
from elluminate_async.progress.plain import PlainLines

if TYPE_CHECKING:
    from types import TracebackType

    from elluminate_async.batch import Progress, ProgressCallback


class Showing:
    """A context in which the progress of a call is shown, whatever ends it.

    Entering gives the callback that is to be told of it; None where nobody wants to know.

    Args:
        progress: True shows it: as a widget in a notebook, as a live line where standard
            error is a terminal, and elsewhere as a line on standard error every 5 seconds.
            A function is told of it instead, and nothing is shown.
        on_progress: Is told besides.
        operation: As in `Progress`.
        total: Items; None where that is not known.
        traffic: Asks the client what its requests are up to.

    Raises:
        InputError: ``progress`` is something else.
    """

    def __init__(
        self,
        progress: bool | ProgressCallback,
        on_progress: ProgressCallback | None,
        *,
        operation: str,
        total: int | None,
        traffic: GetTraffic,
    ) -> None:
        check_progress(progress)
        self._progress = progress
        self._on_progress = on_progress
        self._make_display = partial(Display, operation, total, traffic)
        self._display: Display | None = None
        self._view: View | None = None

    def __enter__(self) -> ProgressCallback | None:
        if self._progress is False:
            return self._on_progress
        if self._progress is not True:
            return _both(self._progress, self._on_progress)
        display = self._display = self._make_display()
        # A display that cannot be set up is no reason to do without the call.
        with shielded():
            view = _view(display)
            view.begin()
            self._view = view
        return _both(display.note, self._on_progress)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.end(failed=exc is not None)
        if self._view is not None:
            with shielded():
                self._view.end()


def _both(first: ProgressCallback, second: ProgressCallback | None) -> ProgressCallback:
    if second is None:
        return first

    def tell(progress: Progress) -> None:
        first(progress)
        second(progress)

    return tell


def _view(display: Display) -> View:
    if in_notebook():
        return NotebookView(display)
    if find_spec("rich") is not None:
        from elluminate_async.progress.terminal import TerminalView, live_console

        if (console := live_console()) is not None:
            return TerminalView(display, console)
    return PlainLines(display)
