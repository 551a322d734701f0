"""Rows from a file: CSV, JSONL, JSON, Parquet or Excel; or lines of JSON from standard input.

| suffix | rows |
|---|---|
| ``.csv``, ``.tsv`` | a header and a line a row; every cell is a text, if only an empty one |
| ``.jsonl``, ``.ndjson`` | an object a line; blank lines are passed over |
| ``.json`` | a list of objects |
| ``.parquet`` | as it is typed; dates become texts |
| ``.xlsx`` | the first sheet; a header and a line a row; of formulas their values |
| ``-`` | JSONL from standard input |

All are UTF-8, with or without a byte order mark. What cannot be read is an `InputError` that
names the file and the line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from elluminate_async.cli.rows import parse_rows
from elluminate_async.errors import InputError
from elluminate_async.tables.values import json_cell

Row: TypeAlias = dict[str, Any]

STANDARD_INPUT: Final = "-"


def read_data(source: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file, or of standard input for ``-``.

    Raises:
        InputError: It cannot be read; the text names the file and the line.
        MissingExtraError: Its format needs a library that is not installed.
    """
    name = os.fspath(source)
    if name == STANDARD_INPUT:
        return _jsonl(_decoded(sys.stdin.buffer.read(), "standard input"), "standard input")
    suffix = Path(name).suffix.lower()
    if suffix not in READERS:
        raise InputError(
            f"{name}: a file of rows ends in {', '.join(sorted(READERS))}; or give - to read "
            "lines of JSON from standard input"
        )
    rows = READERS[suffix](name)
    if not rows:
        raise InputError(f"{name} has no rows")
    return rows


def _bytes_of(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: not UTF-8, save it as UTF-8") from None


def _csv(name: str) -> list[Row]:
    text = _decoded(_bytes_of(name), name)
    return cast("list[Row]", parse_rows(text, name, delimiter=_delimiter(name, text)))


def _delimiter(name: str, text: str) -> str:
    """The comma, but where the header has none and has what other programs put there."""
    header = text.lstrip("\r\n").partition("\n")[0]
    if name.lower().endswith(".tsv") or ("\t" in header and "," not in header):
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _jsonl_file(name: str) -> list[Row]:
    return _jsonl(_decoded(_bytes_of(name), name), name)


def _jsonl(text: str, name: str) -> list[Row]:
    rows: list[Row] = []
    # Not by `splitlines`: a text in JSON may hold other ends of lines as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            rows.append(_object(_parsed(line), place))
        except json.JSONDecodeError as error:
            raise InputError(f"{place}, column {error.colno}: no JSON: {error.msg}") from None
    if not rows:
        raise InputError(f"{name} has no rows: write an object a line")
    return rows


def _json(name: str) -> list[Row]:
    try:
        content = _parsed(_decoded(_bytes_of(name), name))
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise InputError(f"{place}: no JSON: {error.msg}") from None
    if not isinstance(content, list):
        raise InputError(f"{name} must hold a list of objects, a row each: [{{...}}, ...]")
    rows = cast("list[object]", content)
    return [_object(row, f"{name}, row {index}") for index, row in enumerate(rows)]


def _parsed(text: str) -> object:
    def refuse(constant: str) -> object:
        raise json.JSONDecodeError(f"{constant} is no number of JSON", text, text.find(constant))

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=_without_twins)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("it is nested too deeply", text, 0) from None
    except ValueError as error:
        # Such as a number with more digits than Python reads.
        raise json.JSONDecodeError(str(error), text, 0) from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"the key {twin!r} is there twice", "", 0)
    return found


def _object(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place}: a row must be an object, {{...}}, not {value!r:.60}")
    row = cast("Row", value)
    if not row or "" in row:
        raise InputError(f"{place}: a row needs columns, and each a name")
    return row


def _parquet(name: str) -> list[Row]:
    from elluminate_async.tables.libraries import parquet, pyarrow
    from elluminate_async.tables.reading import rows_of

    library = pyarrow("reading Parquet")
    content = _bytes_of(name)
    try:
        # Not by `read_table`, which takes columns from the names of folders.
        with parquet("reading Parquet").ParquetFile(library.BufferReader(content)) as file:
            table = file.read()
    except (OSError, library.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {name}: {reason}") from None
    rows = cast("Iterable[Mapping[str, Any]]", rows_of(table, name))
    return [_plain(dict(row), f"{name}, row {index}") for index, row in enumerate(rows)]


def _xlsx(name: str) -> list[Row]:
    from elluminate_async.cli.excel import read_sheet

    header, *lines = read_sheet(name) or [(1, ())]
    names = _column_names(name, header[1])
    rows: list[Row] = []
    for number, cells in lines:
        if any(cell is not None for cell in cells[len(names) :]):
            raise InputError(f"{name}, line {number}: a cell under no name: name its column")
        filled = [*cells[: len(names)], *([None] * (len(names) - len(cells)))]
        rows.append(_plain(dict(zip(names, filled, strict=True)), f"{name}, line {number}"))
    return rows


def _column_names(name: str, cells: Iterable[object]) -> list[str]:
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise InputError(f"{name}: the first line must name the columns, without a gap")
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two columns have the same name: {', '.join(names)}")
    return names


def _plain(row: Row, place: str) -> Row:
    """The row as JSON has it: dates as texts, numbers of other libraries as numbers.

    Raises:
        InputError: A value is none of JSON, and cannot be converted without loss.
    """
    return {column: json_cell(value, f"{place}, {column}") for column, value in row.items()}


READERS: Final[Mapping[str, Callable[[str], list[Row]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl_file,
    ".ndjson": _jsonl_file,
    ".json": _json,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}
"""Suffix to what reads such a file."""
