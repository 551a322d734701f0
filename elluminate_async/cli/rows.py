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


def parse_rows(text: str, name: str) -> list[dict[str, str]]:
    """The rows of a CSV text; blank lines are passed over.

    Raises:
        InputError: It is no CSV, has no header, or a line does not fit the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        header = _header(next(reader, None) or (), name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{name}, line {reader.line_num}: {len(cells)} cells, and the header has "
                    f"{len(header)} ({', '.join(header)}): quote cells that hold a comma"
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: no CSV: {error}") from None
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
