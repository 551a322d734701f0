"""`NotebookView`: a widget that is updated in place, and a text that stays where it is not."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

from elluminate_async.progress.display import Ticker
from elluminate_async.progress.text import DOING, counted

if TYPE_CHECKING:
    from elluminate_async.progress.display import Display

INTERVAL: Final = 0.5
"""Seconds between two updates."""

_PATIENCE: Final = 30.0
"""Seconds for the last update: a kernel's messages are only queued, and wait for nobody."""

_SHELL: Final = "ZMQInteractiveShell"
"""IPython's shell in a kernel; that of Colab is derived from it."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # Where IPython is not loaded, nobody runs in it.
    if (ipython := sys.modules.get("IPython")) is None:
        return False
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return any(kind.__name__ == _SHELL for kind in type(shell).__mro__)


class NotebookView:
    """One output of the cell that made the call.

    It is a widget where ipywidgets are installed. Beside that the output has the line as text,
    for notebooks that are shown without their widgets' state, as on a page or in a diff.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._widget = _Widget() if find_spec("ipywidgets") is not None else None
        self._handle: Any = None
        self._ticker = Ticker(self._show, INTERVAL, patience=_PATIENCE)

    def begin(self) -> None:
        """Show it as an output of the cell that runs."""
        from IPython import display

        self._update_widget()
        publish = cast("Any", display).display  # whose types are partly unknown
        self._handle = publish(self._bundle(), raw=True, display_id=True)
        self._ticker.start()

    def end(self) -> None:
        """Leave the last state, as widget and as text."""
        self._ticker.stop()

    def _show(self) -> None:
        self._update_widget()
        # As a new output too where it is the only sign of life, or the last one.
        if self._widget is None or self._display.has_ended:
            self._handle.update(self._bundle(), raw=True)

    def _update_widget(self) -> None:
        if self._widget is not None:
            self._widget.update(self._display)

    def _bundle(self) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self._display.line()}
        return bundle if self._widget is None else {**self._widget.bundle(), **bundle}


class _Widget:
    """A bar, and what is known beside it."""

    def __init__(self) -> None:
        import ipywidgets as widgets  # pyright: ignore[reportMissingTypeStubs]

        made: Any = widgets
        self._bar: Any = made.IntProgress(style={"description_width": "initial"})
        self._label: Any = made.Label()
        self._box: Any = made.HBox([self._bar, self._label])

    def update(self, display: Display) -> None:
        """Show the newest of ``display``."""
        progress = display.progress
        self._bar.description = DOING[progress.operation]
        # Without a total the bar is full: something goes on, and nobody knows how long.
        self._bar.max = progress.total or max(1, progress.done)
        self._bar.value = progress.done if progress.total else self._bar.max
        self._label.value = counted(progress, display.told())
        if display.has_ended:
            is_whole = not display.has_failed and not progress.failed
            self._bar.bar_style = (
                "success" if is_whole else "danger" if display.has_failed else "warning"
            )

    def bundle(self) -> dict[str, Any]:
        """The box, by media type."""
        return self._box._repr_mimebundle_()
