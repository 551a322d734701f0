"""Rows as lines of JSON and of CSV, a part at a time.

CSV is that of RFC 4180 in UTF-8: lines end with CR LF, and what has a comma, a quote or a line end
is quoted. A missing cell is empty, and an empty text is a pair of quotes, by which readers that
care tell the two apart. A text that a spreadsheet would run as a formula begins with an
apostrophe, see `formula_safe`; numbers never do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from elluminate_async.tables.values import json_of_any

_LINES_AT_ONCE: Final = 1_000

_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_ascii_json = json.JSONEncoder(allow_nan=False).encode


def json_text(value: object) -> str:
    """``value`` as one line of JSON, whatever it is, see `json_of_any`."""
    try:
        text = _json(value)
    except (TypeError, ValueError, RecursionError):
        text = _json(json_of_any(value))
    # Half a character is no text in UTF-8, but an escape of it is, and reads back equal.
    return text if text.isascii() or _is_whole(text) else _ascii_json(json_of_any(value))


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole(text: str) -> str:
    """``text`` without half characters, which what is UTF-8 does not have."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def jsonl_parts(names: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """The lines of JSON of all rows, one object a row, some thousand lines a part."""
    return _parts(rows, lambda row: json_text(dict(zip(names, row, strict=True))) + "\n")


def csv_parts(names: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """The lines of CSV, a header of ``names`` first, some thousand lines a part."""
    yield _csv_line(names).encode(errors="replace")
    yield from _parts(rows, _csv_line)


def _parts(
    rows: Iterable[Sequence[object]], line_of: Callable[[Sequence[object]], str]
) -> Iterator[bytes]:
    left = iter(rows)
    while lines := [line_of(row) for row in islice(left, _LINES_AT_ONCE)]:
        yield "".join(lines).encode(errors="replace")


def _csv_line(row: Sequence[object]) -> str:
    return ",".join(map(_csv_cell, row)) + "\r\n"


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    kind: type[Any] = type(value)
    if kind is int or kind is float:
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return str(value)
    return _quoted(formula_safe(_text_of(value)))


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, date | time):
        return value.isoformat()
    plain = json_of_any(value)
    return plain if isinstance(plain, str) else _json(plain)


_TO_QUOTE: Final = re.compile(r'[",\r\n]')


def _quoted(text: str) -> str:
    if text and not _TO_QUOTE.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


# The beginnings of formulas; four have a wide form too, which some spreadsheets take alike.
_FORMULA: Final = re.compile("'*[=+\\-@\t\r\n\0＝＋－＠]")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def formula_safe(text: str) -> str:
    """``text`` with an apostrophe before it where a spreadsheet would run it as a formula.

    One that is a number, such as ``-3.5``, is none. One that has apostrophes and then such a
    beginning gets one more, so that to take one away from what `formula_safe` changed always
    gives the text again: ``'=1`` is of ``=1`` alone.

    Source: OWASP, CSV Injection, and ASVS 5.0, 1.2.10.
    """
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text
