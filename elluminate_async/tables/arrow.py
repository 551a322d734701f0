"""Rows as Arrow: the types of columns, and batches of them.

A known column has the same type whatever is in it, so that an empty table has the columns of a
full one. A column of a caller's values keeps their type where all have one:

| values | Arrow |
|---|---|
| bool, str, bytes, date, time | ``bool``, ``string``, ``binary``, ``date32``, ``time64[us]`` |
| int of 64 bits | ``int64`` |
| float, also with integers that it holds exactly | ``double`` |
| datetime, timedelta | ``timestamp``, ``duration``; of µs, or ns where some have them |
| Decimal of 38 digits | ``decimal128`` of as many digits as there are |
| UUID, path, Enum | as its text or value |
| lists, mappings, a mixture, anything else | ``string``: each as JSON |
| none at all | ``string`` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from elluminate_async.tables.json_checks import is_missing
from elluminate_async.tables.libraries import pyarrow
from elluminate_async.tables.texts import json_text, whole

Kind: TypeAlias = Literal[
    "int", "int32", "int16", "float", "text", "bool", "json", "ratings", "any"
]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table.

    Attributes:
        name: Unique within its table.
        kind: What its cells are, None aside; ``"any"`` for whatever a caller put there.
            ``"ratings"`` are lists of mappings, see `elluminate_async.tables.outcomes`.
    """

    name: str
    kind: Kind


ROWS_AT_ONCE: Final = 10_000
"""Rows of one batch, which is a row group of a Parquet file."""

_FEATURE: Final = "a table of Arrow"
_INT64: Final = 2**63
_EXACT: Final = 2**53  # integers up to this are floats too

Rows: TypeAlias = Callable[[], Iterable[Sequence[object]]]
"""Gives the rows, each time from the first, as types are looked for before anything is written."""


class ArrowForm:
    """How rows become batches of Arrow: a schema, and what is done to each cell.

    Args:
        columns: Of the table.
        rows: Read once, one at a time, to find the types of columns of ``"any"``.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, columns: Sequence[TableColumn], rows: Rows) -> None:
        self._arrow = pyarrow(_FEATURE)
        forms = self._forms(columns, rows)
        self._cells = [cell for _, cell in forms]
        self.schema: Any = self._arrow.schema(
            [(whole(column.name), form[0]) for column, form in zip(columns, forms, strict=True)]
        )

    def _forms(self, columns: Sequence[TableColumn], rows: Rows) -> list[_Form]:
        arrow = self._arrow
        known: dict[Kind, _Form] = {
            "int": (arrow.int64(), None),
            "int32": (arrow.int32(), None),
            "int16": (arrow.int16(), None),
            "float": (arrow.float64(), None),
            "bool": (arrow.bool_(), None),
            "text": (arrow.string(), _as_text),
            "json": (arrow.string(), _as_json),
            "ratings": (_ratings_type(arrow), None),
        }
        open_columns = {i: _Seen() for i, column in enumerate(columns) if column.kind == "any"}
        if open_columns:
            for row in rows():
                for index, seen in open_columns.items():
                    seen.add(row[index])
        return [
            known[column.kind] if i not in open_columns else open_columns[i].form(arrow)
            for i, column in enumerate(columns)
        ]

    def table(self, rows: Iterable[Sequence[object]]) -> Any:
        """All of them as a `pyarrow.Table`."""
        return self._arrow.Table.from_batches(self.batches(rows), self.schema)

    def batches(self, rows: Iterable[Sequence[object]]) -> Iterator[Any]:
        """Batches of `ROWS_AT_ONCE` rows."""
        left = iter(rows)
        while part := [*islice(left, ROWS_AT_ONCE)]:
            arrays = [
                self._array(cells, field.type, form)
                for cells, field, form in zip(
                    zip(*part, strict=True), self.schema, self._cells, strict=True
                )
            ]
            yield self._arrow.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _array(self, cells: Iterable[object], kind: Any, form: _Cell | None) -> Any:
        values = cells if form is None else [None if c is None else form(c) for c in cells]
        try:
            return self._arrow.array(values, kind)
        except UnicodeEncodeError:
            return self._arrow.array([whole(v) if isinstance(v, str) else v for v in values], kind)


def _ratings_type(arrow: Any) -> Any:
    """One struct for each rating of a response."""
    texts = [(name, arrow.string()) for name in ("criterion", "rating", "reasoning")]
    return arrow.list_(arrow.struct([("criterion_id", arrow.int64()), *texts]))


_Cell: TypeAlias = Callable[[Any], object]
_Form: TypeAlias = tuple[Any, _Cell | None]


def _as_text(value: object) -> str:
    return str.__str__(value) if isinstance(value, str) else str(value)


def _as_json(value: object) -> str | None:
    text = json_text(value)
    return None if text == "null" else text


def _plain(value: Any) -> Any:
    """A caller's value as one that Arrow has a type for, where it is of another class."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if is_missing(value):
        return None
    if (
        hasattr(value, "dtype")
        and getattr(value, "shape", ()) == ()
        and value.dtype.kind in "biufU"
    ):
        return value.item()
    return value


_PLAIN: Final = frozenset({str, int, float, bool, type(None), Decimal, datetime, date})

# In this order, as a bool is an int, and a datetime a date.
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "text"),
    (datetime, "datetime"),
    (date, "date"),
    (time, "time"),
    (timedelta, "duration"),
    (Decimal, "decimal"),
    (bytes, "bytes"),
)


class _Seen:
    """The kinds of values that a column has, and how large they are."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._zones: set[Any] = set()
        self._largest = 0
        self._has_nanoseconds = False
        self._digits = 0  # of decimals, before and behind the point
        self._places = 0

    def add(self, value: object) -> None:
        """Note one value."""
        value = value if type(value) in _PLAIN else _plain(value)
        if value is None:
            return
        kind = next((name for cls, name in _KINDS if isinstance(value, cls)), "json")
        self._kinds.add(kind)
        if isinstance(value, int):
            self._largest = max(self._largest, value if value >= 0 else -value - 1)
        elif isinstance(value, datetime):
            self._zones.add(value.tzinfo)
            self._has_nanoseconds |= bool(getattr(value, "nanosecond", 0))
        elif isinstance(value, timedelta):
            self._has_nanoseconds |= bool(getattr(value, "nanoseconds", 0))
        elif isinstance(value, time) and value.tzinfo is not None:
            self._kinds.add("json")
        elif isinstance(value, Decimal):
            self._add_decimal(value)

    def _add_decimal(self, value: Decimal) -> None:
        _, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):  # not finite
            self._kinds.add("json")
            return
        self._places = max(self._places, -exponent)
        self._digits = max(self._digits, len(digits) + exponent, 0)

    def form(self, arrow: Any) -> _Form:
        """The type that holds all of it, and how a cell becomes one of that."""
        kinds = self._kinds
        unit = "ns" if self._has_nanoseconds else "us"
        if kinds == {"int", "float"} and self._largest <= _EXACT:
            return arrow.float64(), lambda value: float(_plain(value))
        if len(kinds) > 1 or kinds == {"json"} or not self._fits():
            return arrow.string(), _as_json
        if kinds == {"decimal"}:
            return self._decimal_type(arrow), None
        (kind,) = kinds or {"text"}
        types: dict[str, Any] = {
            "bool": arrow.bool_(),
            "int": arrow.int64(),
            "float": arrow.float64(),
            "text": arrow.string(),
            "datetime": arrow.timestamp(unit, self._zone(arrow)),
            "date": arrow.date32(),
            "time": arrow.time64("us"),
            "duration": arrow.duration(unit),
            "bytes": arrow.binary(),
        }
        return types[kind], _plain

    def _fits(self) -> bool:
        if self._kinds == {"int"}:
            return self._largest < _INT64
        if self._kinds == {"decimal"}:
            return self._digits + self._places <= 38
        return len(self._zones) <= 1

    def _zone(self, arrow: Any) -> str | None:
        (zone,) = self._zones or {None}
        return None if zone is None else arrow.lib.tzinfo_to_string(zone)

    def _decimal_type(self, arrow: Any) -> Any:
        return arrow.decimal128(max(self._digits + self._places, 1), self._places)
