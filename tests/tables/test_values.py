"""Cells of tables as JSON: without a loss, or not at all."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from elluminate_async import InputError
from elluminate_async.resources.template_variables import encode_row
from elluminate_async.tables.json_checks import MAX_DEPTH
from elluminate_async.tables.values import NoTextError, json_cell, json_of_any
from tests.tables.libraries import np, pa, pd, pl


class Colour(Enum):
    RED = Decimal("1.5")


class Size(StrEnum):
    LARGE = "l"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: Any


class Model(BaseModel):
    at: date


SAME: list[Any] = [None, True, 1, -0.0, 10**4000, "é\U0001f600", [], {}, [{"a": [None]}]]

CONVERTED: dict[str, tuple[Any, Any]] = {
    "NA": (pd.NA, None),
    "NaT": (pd.NaT, None),
    "NaT of numpy": (np.datetime64("NaT"), None),
    "no span": (np.timedelta64("NaT"), None),
    "int64": (np.int64(3), 3),
    "uint64": (np.uint64(2**64 - 1), 2**64 - 1),
    "float32": (np.float32(0.5), 0.5),
    "float64": (np.float64(0.1), 0.1),
    "longdouble": (np.longdouble("0.5"), 0.5),
    "bool_": (np.bool_(True), True),
    "str_": (np.str_("a"), "a"),
    "0-d": (np.array(4), 4),
    "array": (np.array([[1, 2]]), [[1, 2]]),
    "array of objects": (np.array([1, None, Decimal("0.5")], dtype=object), [1, None, 0.5]),
    "array of times": (np.array(["2026-01-02"], dtype="M8[s]"), ["2026-01-02T00:00:00"]),
    "array of spans": (np.array([1500], dtype="m8[ms]"), ["P0DT1.5S"]),
    "Series": (pd.Series([1, 2]), [1, 2]),
    "Series of polars": (pl.Series([1, None]), [1, None]),
    "array of pandas": (pd.array([1, None], dtype="Int64"), [1, None]),
    "scalar of Arrow": (pa.scalar(3), 3),
    "whole decimal": (Decimal("12"), 12),
    "decimal": (Decimal("0.1"), 0.1),
    "decimal with zeros": (Decimal("10.50"), 10.5),
    "large decimal": (Decimal("1E+3"), 1000),
    "minus zero": (Decimal("-0"), -0.0),
    "datetime": (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
    "date": (date(2026, 1, 2), "2026-01-02"),
    "time": (time(1, 2, 3, 4), "01:02:03.000004"),
    "Timestamp": (pd.Timestamp("2026-01-02 00:00:00.000000001"), "2026-01-02T00:00:00.000000001"),
    "datetime64": (np.datetime64("2026-01-02T03", "ns"), "2026-01-02T03:00:00.000000000"),
    "timedelta": (timedelta(1, 2, 500_000), "P1DT2.5S"),
    "negative timedelta": (timedelta(seconds=-90), "-P0DT90S"),
    "Timedelta": (pd.Timedelta("1ns"), "P0DT0H0M0.000000001S"),
    "timedelta64": (np.timedelta64(3, "s"), "P0DT3S"),
    "timedelta64 of ns": (np.timedelta64(3_000, "ns"), "P0DT0.000003S"),
    "UUID": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "Enum": (Colour.RED, 1.5),
    "StrEnum": (Size.LARGE, "l"),
    "IntEnum": (Level.LOW, 1),
    "tuple": ((1, (2,)), [1, [2]]),
    "mapping": (MappingProxyType({"a": np.int8(1)}), {"a": 1}),
    "dataclass": (Point(np.int8(1)), {"x": 1}),
    "model": (Model(at=date(2026, 1, 2)), {"at": "2026-01-02"}),
}  # fmt: skip


@pytest.mark.parametrize("value", SAME, ids=lambda value: f"{value!r:.20}")
def test_json_stays_as_it_is(value: Any) -> None:
    """Of the same types, too."""
    assert json.dumps(json_cell(value, "x")) == json.dumps(value)


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_cell_is_converted_where_that_loses_nothing(kind: str) -> None:
    """To what JSON has, at any depth, and of JSON's own types."""
    value, expected = CONVERTED[kind]
    cell, deep = json_cell(value, "x"), json_cell([{"y": value}], "deep")

    assert (cell, deep) == (expected, [{"y": expected}])
    assert repr(cell) == repr(expected)
    assert json.loads(json.dumps(deep)) == deep


REFUSED: dict[str, tuple[Any, str]] = {
    "nan": (math.nan, "is nan, which JSON does not have: use None"),
    "nan of numpy": (np.float64("nan"), "is nan, .*: use None"),
    "nan of float32": (np.float32("nan"), "is nan, .*: use None"),
    "infinity": (-math.inf, "is -inf, .*: use None"),
    "decimal nan": (Decimal("nan"), "is nan, .*: use None"),
    "signalling nan": (Decimal("snan"), "is nan, .*: use None"),
    "decimal of more digits": (Decimal("0.1234567890123456789"), r"use float\(x\) or str\(x\)"),
    "huge decimal": (Decimal("1E+5000"), r"use float\(x\) or str\(x\)"),
    "longdouble": (np.longdouble("0.1"), r"use float\(x\) or str\(x\)"),
    "months": (np.timedelta64(3, "M"), r"use str\(x\)"),
    "nanoseconds": (np.timedelta64(1_500, "ns"), r"use str\(x\)"),
    "bytes": (b"a", r"use x.decode\(\)"),
    "bytes of numpy": (np.bytes_(b"a"), r"use x.decode\(\)"),
    "set": ({1}, r"use sorted\(x\)"),
    "complex": (1j, r"use str\(x\)"),
    "fraction": (Fraction(1, 3), r"use float\(x\)"),
    "period": (pd.Period("2026-01"), r"use str\(x\)"),
    "object": (object(), r"use str\(x\)"),
    "class": (Point, r"use str\(x\)"),
    "long integer": (10**5000, r"integer of over 4,000 digits: use str\(x\)"),
    "name": ({1: "a"}, "has 1 of the type int as a name"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_cell_that_would_lose_is_named_by_row_and_column(kind: str) -> None:
    """With what to pass instead, in one short line."""
    value, expected = REFUSED[kind]
    with pytest.raises(InputError, match=rf"values\[3\]\['price'\] .*{expected}") as caught:
        encode_row({"ok": 1, "price": value}, 3, convert=True)
    assert len(str(caught.value)) < 300

    with pytest.raises(InputError, match=rf"values\[3\]\['price'\]\['a'\]\[1\] .*{expected}"):
        encode_row({"price": {"a": [0, value]}}, 3, convert=True)


@pytest.mark.parametrize("row", [{"x": "\ud83d"}, {"\ud83d": 1}, {"x": [{"\ud83d": Decimal(1)}]}])
def test_half_a_character_is_an_error_of_its_own(row: dict[str, Any]) -> None:
    """As that row alone cannot be sent."""
    with pytest.raises(NoTextError, match="half a character"):
        encode_row(row, 0, convert=True)


def test_a_circle_and_a_depth_are_refused() -> None:
    """As JSON cannot be written of them, and read of a deep one."""
    circle: list[Any] = []
    circle.append({"a": circle})
    with pytest.raises(InputError, match=r"^x\[0\]\['a'\] is a part of itself"):
        json_cell(circle, "x")
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(InputError, match=f"over {MAX_DEPTH} levels deep"):
        json_cell(deep, "x")


@pytest.mark.parametrize("row", [3, "a", [("a", 1)], None])
def test_a_row_is_a_mapping(row: Any) -> None:
    """Named by its position."""
    with pytest.raises(InputError, match=r"^values\[7\] must be a mapping of column names"):
        encode_row(row, 7, convert=True)


@pytest.mark.parametrize("name", [1, "", None])
def test_a_column_has_a_name(name: Any) -> None:
    """A text."""
    with pytest.raises(InputError, match=r"values\[7\]: a column name must be a string"):
        encode_row({name: 1}, 7, convert=True)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_the_same_number_or_refused(value: Decimal) -> None:
    """What is sent reads back as an equal decimal."""
    try:
        cell = json_cell(value, "x")
    except InputError:
        return
    assert Decimal(json.dumps(cell)) == value


@given(st.timedeltas())
def test_a_span_reads_back(value: timedelta) -> None:
    """By whoever knows ISO 8601."""
    assert TypeAdapter(timedelta).validate_python(json_cell(value, "x")) == value


class Rude:
    def __str__(self) -> str:
        raise ZeroDivisionError


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.dates() | st.datetimes() | st.timedeltas() | st.uuids()
    | st.complex_numbers() | st.builds(Rude) | st.just("\ud800") | st.builds(Point, st.floats()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.builds(Point, inner),
)  # fmt: skip


@given(anything)
def test_results_are_json_whatever_they_hold(value: Any) -> None:
    """None is lost for a cell that JSON does not have."""
    plain = json_of_any(value)

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


@given(anything)
def test_input_is_json_or_refused(value: Any) -> None:
    """Never another exception."""
    try:
        row = encode_row({"x": value}, 0, convert=True)
    except InputError:
        return
    assert json.loads(row).keys() == {"x"}
