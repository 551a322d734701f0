"""A sheet of an Excel file."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, time
from typing import Any, TypeAlias

from elluminate_async.errors import InputError, MissingExtraError

Line: TypeAlias = tuple[int, tuple[object, ...]]
"""The number of a line in its sheet, and its cells; None for an empty one."""


def read_sheet(content: bytes, name: str, sheet: str | None = None) -> list[Line]:
    """The lines of a sheet that are not empty.

    Args:
        content: Of the file.
        name: Of the file, for errors.
        sheet: None for the first that is not hidden.

    Raises:
        InputError: It cannot be read, has no such sheet, or a cell holds an error.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise MissingExtraError("reading Excel files", "cli") from None
    with warnings.catch_warnings():
        # Of drop-downs and styles that it passes over: nothing that rows have.
        warnings.simplefilter("ignore", UserWarning)
        try:
            book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError):
            raise InputError(f"cannot read {name}: it is no Excel file (.xlsx)") from None
        with closing(book):
            return list(_lines(_sheet(book, name, sheet), name))


def is_blank(value: object) -> bool:
    """Whether a cell shows nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def _lines(sheet: Any, name: str) -> Iterator[Line]:
    # What a file says of its size may be too little, or a million lines.
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        if bad := next((cell for cell in cells if cell.data_type == "e"), None):
            raise InputError(f"{name}, cell {bad.coordinate}: it holds the error {bad.value}")
        values = tuple(map(_value, cells))
        if not all(map(is_blank, values)):
            yield number, values


def _sheet(book: Any, name: str, wanted: str | None) -> Any:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted is None:
        shown = [sheet for sheet in sheets.values() if sheet.sheet_state == "visible"]
        if not shown:
            raise InputError(f"{name} has no sheet of cells")
        return shown[0]
    if wanted not in sheets:
        raise InputError(f"{name} has no sheet {wanted!r:.60}; it has {', '.join(sheets)}")
    return sheets[wanted]


def _value(cell: Any) -> object:
    """The content of a cell; of a day without a time the date."""
    value = cell.value
    if isinstance(value, datetime) and value.time() == time():
        from openpyxl.styles.numbers import is_datetime

        # A day is kept as its midnight: the cell's format tells which of the two is meant.
        return value.date() if is_datetime(cell.number_format) == "date" else value
    return value
