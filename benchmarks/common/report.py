"""Figures as JSON lines on the standard output, and as tables in the README."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def emit(**record: Any) -> dict[str, Any]:
    """Print one measurement as one line."""
    line = {name: _short(value) for name, value in record.items()}
    print(json.dumps(line), flush=True)
    return line


def spread(values: Sequence[float]) -> str:
    """``median (least-most)``, or the one value there is."""
    middle = number(statistics.median(values))
    if len(values) == 1 or number(min(values)) == number(max(values)):
        return middle
    return f"{middle} ({number(min(values))}-{number(max(values))})"


def number(value: float) -> str:
    """Three figures that matter, with separators."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_table(name: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Replace the README's table of this name, which stands between two comments.

    Raises:
        LookupError: The README has no place for it.
    """
    lines = [list(map(str, head)), ["---"] * len(head), *(list(map(str, row)) for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = README.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise LookupError(f"{README.name} has no place for the table {name!r}")
    README.write_text(before + begin + table + "\n" + end + after, encoding="utf-8")


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
