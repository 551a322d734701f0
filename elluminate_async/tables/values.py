"""Cells of tables as JSON: converted where that loses nothing, else named by row and column.

| a cell | in JSON |
|---|---|
| None, ``pandas.NA``, ``NaT`` | null |
| a number of Python or numpy | that number; NaN and the infinities are refused |
| Decimal | an integer, or a float that reads back as the same decimal; else refused |
| datetime, date, time, Timestamp, ``datetime64`` | its ISO 8601 text, with the offset of its zone |
| timedelta, Timedelta, ``timedelta64`` | its ISO 8601 text: ``P1DT2.5S`` |
| UUID, path | its text |
| Enum | its value |
| list, tuple, array, Series | a list |
| mapping, dataclass, pydantic model | an object |
| bytes, set, complex, anything else | refused, with what to pass instead |

A row of a pandas frame has None where its cell is missing (`reading`), NaN included: that is what
it means there. Elsewhere NaN is a number, and null would lose the difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import singledispatch
from pathlib import PurePath
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from pydantic import BaseModel

from elluminate_async.errors import InputError, NoTextError
from elluminate_async.tables.json_checks import MAX_DEPTH, below, is_missing, problem_in, shown

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

Otherwise: TypeAlias = Callable[[object, str], JSON]
"""Gives the stand-in for a value that JSON does not have, by the value and the problem."""

_MOST_DIGITS: Final = 4_000


def json_cell(value: object, path: str) -> JSON:
    """``value`` as JSON has it; ``path`` is what errors call it.

    Raises:
        NoTextError: A text has half a character.
        InputError: JSON does not have it, or not without a loss.
    """
    return _converted(value, path, _refuse, ())


def json_of_any(value: object) -> JSON:
    """``value`` as JSON, whatever it is: null for NaN, `str` of what has no other form.

    For results that are written, of which none may be lost for the sake of one cell.
    """
    return _converted(value, "x", _stand_in, ())


def _refuse(value: object, problem: str) -> JSON:
    raise NoTextError(problem) if isinstance(value, str) else InputError(problem)


def _stand_in(value: object, _problem: str) -> JSON:
    if isinstance(value, float):
        return None
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # a caller's own `__str__` may raise anything
        return shown(value)


def _converted(value: object, path: str, otherwise: Otherwise, above: tuple[int, ...]) -> JSON:
    plain = _plain(value)
    if not isinstance(plain, Mapping | list | tuple):
        problem = problem_in(plain, path)
        return cast("JSON", plain) if problem is None else otherwise(plain, problem)
    if id(value) in above:
        problem = f"{path} is a part of itself, which JSON cannot write: pass a copy without it"
        return otherwise(_Mark.CIRCLE, problem)
    if len(above) >= MAX_DEPTH:
        problem = f"{path} is over {MAX_DEPTH} levels deep: pass it flatter, or as one text"
        return otherwise(_Mark.DEPTH, problem)
    inside = (*above, id(value))
    if isinstance(plain, Mapping):
        return _object(cast("Mapping[object, object]", plain), path, otherwise, inside)
    parts = enumerate(cast("Iterable[object]", plain))
    return [_converted(part, below(path, f"[{i}]"), otherwise, inside) for i, part in parts]


class _Mark(Enum):
    """Stand-ins for parts that cannot be written at all."""

    CIRCLE = "(a part of itself)"
    DEPTH = "(deeper)"

    def __str__(self) -> str:
        return self.value


def _object(
    value: Mapping[object, object], path: str, otherwise: Otherwise, inside: tuple[int, ...]
) -> JSON:
    converted: dict[str, JSON] = {}
    for name, part in value.items():
        key = name
        if not isinstance(key, str):
            text = f"{path} has {shown(key)} as a name, and JSON has texts only: use str(x)"
            key = str(otherwise(key, text))
        elif problem := problem_in(key, f"a name in {path}"):
            otherwise(key, problem)
        converted[key] = _converted(part, below(path, f"[{key!r:.60}]"), otherwise, inside)
    return converted


@singledispatch
def _plain(value: object) -> object:
    """``value`` as a type that JSON has, or itself where there is none that loses nothing."""
    if is_missing(value):
        return None
    if hasattr(value, "dtype"):
        return _plain_of_array(value)
    if callable(as_py := getattr(value, "as_py", None)):  # a scalar of Arrow
        return _plain(as_py())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


@_plain.register(type(None))
@_plain.register(bool)
@_plain.register(list)
@_plain.register(tuple)
@_plain.register(Mapping)
def _(value: object) -> object:
    return value


# Of these three, subclasses too: those of numpy, and enumerations of texts.
@_plain.register
def _(value: str) -> object:
    return str.__str__(value)


@_plain.register
def _(value: int) -> object:
    return int(value)


@_plain.register
def _(value: float) -> object:
    return float(value)


@_plain.register
def _(value: Enum) -> object:
    return _plain(value.value)


@_plain.register
def _(value: BaseModel) -> object:
    return value.model_dump()


@_plain.register(UUID)
@_plain.register(PurePath)
def _(value: UUID | PurePath) -> object:
    return str(value)


@_plain.register(date)
@_plain.register(time)
def _(value: date | datetime | time) -> object:
    # pandas' NaT is a datetime too.
    return None if is_missing(value) else value.isoformat()


@_plain.register
def _(value: timedelta) -> object:
    # Timedelta of pandas has nanoseconds, and its own way to write them.
    isoformat: Callable[[], str] | None = getattr(value, "isoformat", None)
    return duration(value) if isoformat is None else isoformat()


@_plain.register
def _(value: Decimal) -> object:
    if not value.is_finite():
        return math.nan if value.is_nan() else float(value)
    if value.adjusted() > _MOST_DIGITS:
        return value
    _, _, exponent = value.as_tuple()
    is_minus_zero = value.is_zero() and value.is_signed()
    if isinstance(exponent, int) and exponent >= 0 and not is_minus_zero:
        return int(value)
    nearest = float(value)
    return nearest if math.isfinite(nearest) and Decimal(repr(nearest)) == value else value


def _plain_of_array(value: Any) -> object:
    """Of arrays and scalars of numpy, and of what is made after them."""
    kind = getattr(value.dtype, "kind", "")
    if kind == "V":  # records: a list of their parts would lose the names
        return value
    if getattr(value, "shape", ()) != ():
        if kind in "mM" and kind:
            return [*value]  # `tolist` gives numbers without a unit
        to_list: Callable[[], object] | None = getattr(value, "tolist", None) or getattr(
            value, "to_list", None
        )
        return value if to_list is None else to_list()
    if kind == "M":
        text = str(value)
        return None if text == "NaT" else text
    item = value.item()
    if kind == "m":
        return _plain_of_span(value, item)
    if type(item) is type(value):  # a number of more digits than a float has
        nearest = float(value)
        return nearest if nearest == value else value
    return _plain(item)


def _plain_of_span(value: Any, item: object) -> object:
    if item is None:
        return None
    if not isinstance(item, timedelta) and "[ns]" in value.dtype.str:
        rounded = value.astype("timedelta64[us]")
        item = rounded.item() if rounded == value else item
    return duration(item) if isinstance(item, timedelta) else value


def duration(value: timedelta) -> str:
    """``value`` as ISO 8601 has it, in days and seconds: ``P1DT2.5S``."""
    span = abs(value)
    seconds = f"{span.seconds}.{span.microseconds:06}".rstrip("0").rstrip(".")
    return f"{'-' if value < timedelta(0) else ''}P{span.days}DT{seconds}S"
