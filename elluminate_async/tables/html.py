"""A table as HTML for notebooks: the first rows, every text escaped and cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from elluminate_async.tables.texts import json_text, whole

ROWS_SHOWN: Final = 20
_COLUMNS_SHOWN: Final = 30
_CHARACTERS_SHOWN: Final = 120


def html_table(
    title: str, names: Sequence[str], rows: Iterable[Sequence[object]], count: int | None
) -> str:
    """The table.

    Args:
        title: A line above it.
        names: Of the columns.
        rows: Those that are shown.
        count: How many there are in all; None where that is not known.
    """
    shown = [*rows]
    head = "".join(f"<th>{_text(name)}</th>" for name in names[:_COLUMNS_SHOWN])
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row[:_COLUMNS_SHOWN]) + "</tr>"
        for row in shown
    )
    left = [
        f"{n} more {what}"
        for n, what in (
            (0 if count is None else count - len(shown), "rows"),
            (len(names) - _COLUMNS_SHOWN, "columns"),
        )
        if n > 0
    ]
    rest = f"<p>and {', '.join(left)}</p>" if left else ""
    return (
        f"<p>{_text(title)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{rest}"
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _text(value if isinstance(value, str) else json_text(value))


def _text(text: str) -> str:
    cut = text if len(text) <= _CHARACTERS_SHOWN else text[:_CHARACTERS_SHOWN] + "…"
    # Half a character cannot be sent to the browser.
    return escape(whole(cut))
