"""Rows from a file: CSV, JSONL, JSON, Parquet or Excel; or lines of JSON from standard input.

| suffix | rows |
|---|---|
| ``.csv``, ``.tsv`` | a header and a line a row; every cell is a text, if only an empty one |
| ``.jsonl``, ``.ndjson`` | an object a line; blank lines are passed over |
| ``.json`` | a list of objects |
| ``.parquet`` | as it is typed; dates become texts |
| ``.xlsx``, ``.xlsx#sheet`` | of formulas their values; dates become texts |
| ``-`` | JSONL from standard input |

Texts are UTF-8, with or without a byte order mark. Cells of CSV have commas between them, or where
the header has none semicolons or tabs. A header and lines of a sheet are as in CSV, and it is the
first that is not hidden, or the named one. Lines without anything in their cells are passed over.
Any file may be packed, as ``.csv.gz``. What cannot be read is an `InputError` that names the file
and the line.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from elluminate_async.cli.files import decoded, read_bytes
from elluminate_async.cli.rows import column_names, parse_rows
from elluminate_async.errors import InputError
from elluminate_async.tables.json_checks import problem_in
from elluminate_async.tables.values import json_cell

Row: TypeAlias = dict[str, Any]

STANDARD_INPUT: Final = "-"
_SHEET: Final = ".xlsx#"


def read_data(source: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file, or of standard input for ``-``.

    Raises:
        InputError: It cannot be read; the text names the file and the line.
        MissingExtraError: Its format needs a library that is not installed.
    """
    name = os.fspath(source)
    if name == STANDARD_INPUT:
        return _jsonl(sys.stdin.buffer.read(), "standard input")
    file = file_of(name)
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        suffix = Path(file).with_suffix("").suffix.lower()
    if suffix not in READERS:
        raise InputError(
            f"{name}: a file of rows ends in {', '.join(sorted(READERS))}; or give - to read "
            "lines of JSON from standard input"
        )
    content = read_bytes(file)
    if file.lower().endswith(".gz"):
        content = _unpacked(content, name)
    if not content:
        raise InputError(f"{name} is empty")
    rows = READERS[suffix](content, name)
    if not rows:
        raise InputError(f"{name} has no rows")
    return rows


def file_of(source: str) -> str:
    """The path in ``source``, without the name of a sheet."""
    return _parts_of(source)[0]


def _parts_of(source: str) -> tuple[str, str | None]:
    at = source.lower().rfind(_SHEET) + len(_SHEET)
    if at < len(_SHEET) or Path(source).exists():
        return source, None
    return source[: at - 1], source[at:]


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {name}: {error}") from None


def _csv(content: bytes, name: str) -> list[Row]:
    text = decoded(content, name)
    return cast("list[Row]", parse_rows(text, name, delimiter=_delimiter(name, text)))


def _delimiter(name: str, text: str) -> str:
    """The comma, but where the header has none and has what other programs put there."""
    # A quoted name may hold either.
    header = re.sub('"[^"]*"', "", text.lstrip("\r\n")).partition("\n")[0]
    if ".tsv" in Path(name.lower()).suffixes or ("\t" in header and "," not in header):
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _jsonl(content: bytes, name: str) -> list[Row]:
    rows: list[Row] = []
    # Not by `splitlines`: a text in JSON may hold other ends of lines as they are.
    for number, line in enumerate(decoded(content, name).split("\n"), start=1):
        if line.strip():
            rows.append(_object(_parsed(line, name, number), f"{name}, line {number}"))
    if not rows:
        raise InputError(f"{name} has no rows: write an object a line")
    return rows


def _json(content: bytes, name: str) -> list[Row]:
    rows = _parsed(decoded(content, name), name)
    if not isinstance(rows, list):
        raise InputError(f"{name} must hold a list of objects, a row each: [{{...}}, ...]")
    found = cast("list[object]", rows)
    return [_object(row, f"{name}, row {index}") for index, row in enumerate(found)]


def _parsed(text: str, name: str, line: int | None = None) -> object:
    """The JSON of a file, or of one of its lines."""
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        place = f"{name}, line {line or error.lineno}, column {error.colno}"
        problem = error.msg
        if line is None and error.msg == "Extra data":
            problem = "more than one value: a file with an object a line is .jsonl"
    except RecursionError:
        place, problem = _whole(name, line), "it is nested too deeply"
    except ValueError as error:
        # A key that is there twice, or a number with more digits than Python reads.
        place, problem = _whole(name, line), str(error)
    raise InputError(f"{place}: no JSON: {problem}")


def _whole(name: str, line: int | None) -> str:
    return name if line is None else f"{name}, line {line}"


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, none of whose keys is there twice: the first value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twin = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {twin!r} is there twice in one object")
    return found


def _object(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place}: a row must be an object, {{...}}, not {value!r:.60}")
    row = cast("Row", value)
    if not row or "" in row:
        raise InputError(f"{place}: a row needs columns, and each a name")
    # Python reads the numbers NaN and Infinity, which JSON does not have.
    if problem := problem_in(row, place, texts=False):
        raise InputError(problem)
    return row


def _parquet(content: bytes, name: str) -> list[Row]:
    from elluminate_async.tables.libraries import parquet, pyarrow
    from elluminate_async.tables.reading import rows_of

    library = pyarrow("reading Parquet")
    try:
        # Not by `read_table`, which takes columns from the names of folders.
        with parquet("reading Parquet").ParquetFile(library.BufferReader(content)) as file:
            table = file.read()
    except (OSError, library.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {name}: {reason}") from None
    rows = cast("Iterable[Mapping[str, Any]]", rows_of(table, name))
    return [_plain(dict(row), f"{name}, row {index}") for index, row in enumerate(rows)]


def _xlsx(content: bytes, name: str) -> list[Row]:
    from elluminate_async.cli.excel import is_blank, read_sheet

    file, sheet = _parts_of(name)
    header, *lines = read_sheet(content, file, sheet) or [(1, ())]
    names = column_names(header[1], name)
    rows: list[Row] = []
    for number, cells in lines:
        if not all(map(is_blank, cells[len(names) :])):
            raise InputError(f"{name}, line {number}: a cell under no name: name its column")
        filled = [*cells[: len(names)], *([None] * (len(names) - len(cells)))]
        rows.append(_plain(dict(zip(names, filled, strict=True)), f"{name}, line {number}"))
    return rows


def _plain(row: Row, place: str) -> Row:
    """The row as JSON has it: dates as texts, numbers of other libraries as numbers.

    Raises:
        InputError: A value is none of JSON, and cannot be converted without loss.
    """
    return {column: json_cell(value, f"{place}, {column}") for column, value in row.items()}


READERS: Final[Mapping[str, Callable[[bytes, str], list[Row]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}
"""Suffix to what reads the content of such a file."""
