"""Rows of template variables from a CSV file, and criteria from a text file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from elluminate_async import InputError

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
    return parse_rows(_text_of(path), os.fspath(path))


def read_criteria(path: str | os.PathLike[str]) -> list[str]:
    """The criteria of a text file, one a line; blank lines are passed over.

    Raises:
        InputError: It cannot be read, or holds none.
    """
    lines = [line.strip() for line in _text_of(path).splitlines()]
    criteria = list(dict.fromkeys(line for line in lines if line))
    if not criteria:
        raise InputError(f"{os.fspath(path)} holds no criteria: write one question a line")
    return criteria


def _text_of(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{os.fspath(path)} is not UTF-8 (byte {error.start}): save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from None


def parse_rows(text: str, name: str, *, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV text; blank lines are passed over.

    Raises:
        InputError: It is no CSV, has no header, or a line does not fit the header.
    """
    # Of the module, not of a reader: a cell may hold a whole document.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[dict[str, str]] = []
    line = 1
    try:
        header = _header(next(reader, None) or (), name)
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise InputError(
                    f"{name}, line {line}: {len(cells)} cells, and the header has "
                    f"{len(header)} ({', '.join(header)}): quote cells that hold a "
                    f"{_NAMES.get(delimiter, delimiter)}"
                )
            if cells:
                rows.append(dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}, line {line}: no CSV: {error}") from None
    if not rows:
        raise InputError(f"{name} has a header and no rows")
    return rows


def _header(cells: Iterable[str], name: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not header or not all(header):
        raise InputError(
            f"{name}: the first line must name the columns, one for each placeholder of the "
            "template, such as language,quirk"
        )
    if len(set(header)) < len(header):
        raise InputError(f"{name}: two columns have the same name: {', '.join(header)}")
    return header
