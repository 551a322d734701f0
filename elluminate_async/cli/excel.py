"""The first sheet of an Excel file."""

from __future__ import annotations

import zipfile
from typing import TypeAlias

from elluminate_async.errors import InputError, MissingExtraError

Line: TypeAlias = tuple[int, tuple[object, ...]]
"""The number of a line in its sheet, and its cells; None for an empty one."""


def read_sheet(name: str) -> list[Line]:
    """The lines of the first sheet that are not empty.

    Raises:
        InputError: It cannot be read, or a cell holds an error.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise MissingExtraError("reading Excel files", "cli") from None
    try:
        book = load_workbook(name, read_only=True, data_only=True)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError):
        raise InputError(f"cannot read {name}: it is no Excel file (.xlsx)") from None
    try:
        lines: list[Line] = []
        for number, cells in enumerate(book.worksheets[0].iter_rows(), start=1):
            if bad := next((cell for cell in cells if cell.data_type == "e"), None):
                raise InputError(f"{name}, cell {bad.coordinate}: it holds the error {bad.value}")
            values = tuple(cell.value for cell in cells)
            if any(value is not None for value in values):
                lines.append((number, values))
        return lines
    finally:
        book.close()
