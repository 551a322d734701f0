"""Rows of template variables from a CSV text, and criteria from a text file."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from importlib import resources

from elluminate_async import InputError
from elluminate_async.cli.files import read_text

SHIPPED = "programming_quirks.csv"
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def shipped_rows() -> list[dict[str, str]]:
    """The language and quirk pairs that come with the package."""
    text = resources.files("elluminate_async").joinpath("data", SHIPPED).read_text("utf-8")
    return parse_rows(text, SHIPPED)


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line, UTF-8 with or without a byte order mark.

    Raises:
        InputError: It cannot be read, or a line does not fit the header.
    """
    return parse_rows(read_text(path), os.fspath(path))


def read_criteria(path: str | os.PathLike[str]) -> list[str]:
    """The criteria of a text file, one a line; blank lines are passed over.

    Raises:
        InputError: It cannot be read, or holds none.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    criteria = list(dict.fromkeys(line for line in lines if line))
    if not criteria:
        raise InputError(f"{os.fspath(path)} holds no criteria: write one question a line")
    return criteria


def parse_rows(text: str, name: str, *, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV text; lines without anything in their cells are passed over.

    Spreadsheets write such lines, and cells behind the last column, where something once was.

    Raises:
        InputError: It is no CSV, has no header, or a line does not fit the header.
    """
    # Of the module, not of a reader: a cell may hold a whole document.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[dict[str, str]] = []
    line = 1
    try:
        header = next((cells for cells in reader if any(map(str.strip, cells))), ())
        names = column_names(header, name)
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                place = f"{name}, line {line}"
                _check_width(cells, len(header), names, place, _NAMES.get(delimiter, delimiter))
                rows.append(dict(zip(names, cells, strict=False)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}, line {line}: no CSV: {error}") from None
    if not rows:
        raise InputError(f"{name} has a header and no rows")
    return rows


def _check_width(
    cells: list[str], width: int, names: list[str], place: str, delimiter: str
) -> None:
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        raise InputError(
            f"{place}: {len(cells)} cells, and the header has {width} ({', '.join(names)}): "
            f"quote cells that hold a {delimiter}"
        )
    if any(cell.strip() for cell in cells[len(names) :]):
        raise InputError(f"{place}: a cell under no name: name its column")


def column_names(cells: Iterable[object], name: str) -> list[str]:
    """The names in a header line, without the empty cells behind the last.

    Raises:
        InputError: There is none, one is empty, or two are the same.
    """
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise InputError(
            f"{name}: the first line must name the columns, without a gap, one for each "
            "placeholder of the prompt, such as language,quirk"
        )
    if twice := [column for column, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"{name}: two columns have the same name: {twice[0]!r:.60}, of {', '.join(names)}"
        )
    return names
