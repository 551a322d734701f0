"""Checks of values that are to be JSON: the problem, its place, and the way out.

Values from tables hold what JSON does not have: NaN, numbers of numpy, dates. Each is named with
its place, as in ``values[3]['price'] is nan, which JSON does not have: use None``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from typing import Final, cast

from pydantic import BaseModel, SecretStr

MAX_DEPTH: Final = 150
"""Levels of lists and mappings; an answer that holds more than about 200 cannot be read."""

_MAX_BITS = 14_000  # of an integer: Python writes 4,300 decimal digits at most
_WITH_PARTS: Final = (dict, list, tuple, BaseModel)
FLAT: Final = frozenset({str, int, float, bool, type(None)})
"""The types of most values of rows: nothing can be inside of them."""

# What to pass instead of ``x``, by the name of its type: most are of libraries not installed.
_INSTEAD: Final = {
    "Decimal": "float(x) or str(x)",
    "Fraction": "float(x)",
    "complex": "str(x)",
    "datetime": "x.isoformat()",
    "date": "x.isoformat()",
    "time": "x.isoformat()",
    "Timestamp": "x.isoformat()",
    "timedelta": "x.total_seconds()",
    "Timedelta": "x.total_seconds()",
    "NaTType": "None",
    "NAType": "None",
    "bytes": "x.decode(), or base64 of it",
    "bytearray": "x.decode(), or base64 of it",
    "set": "sorted(x)",
    "frozenset": "sorted(x)",
    "UUID": "str(x)",
    "longdouble": "float(x) or str(x)",
    "timedelta64": "str(x)",
    "ndarray": "x.tolist()",
    "Series": "x.tolist()",
}


def is_missing(cell: object) -> bool:
    """Whether it is a cell without a value: None, or pandas' NA or NaT."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")


def problem_in(
    value: object, path: str, *, texts: bool = True, above: tuple[int, ...] = ()
) -> str | None:
    """The first thing in ``value`` that JSON does not have, with its path; None for nothing.

    Args:
        value: What is to be written as JSON; a pydantic model counts as its fields.
        path: What ``value`` is called.
        texts: Look at texts too, whether they are any.
        above: The ids of what ``value`` stands in.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _problem_of_text(value, path) if texts else None
    if isinstance(value, int):
        is_long = value.bit_length() > _MAX_BITS
        return f"{path} is an integer of over 4,000 digits: use str(x)" if is_long else None
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return f"{path} is {float(value)}, which JSON does not have: use None"
    if not isinstance(value, _WITH_PARTS):
        return f"{path} is {shown(value)}, which JSON does not have: use {_instead_of(value)}"
    return _problem_of_parts(cast("object", value), path, texts, above)


def _problem_of_parts(value: object, path: str, texts: bool, above: tuple[int, ...]) -> str | None:
    if id(value) in above:
        return f"{path} is a part of itself, which JSON cannot write: pass a copy without it"
    if len(above) >= MAX_DEPTH:
        return f"{path} is over {MAX_DEPTH} levels deep: pass it flatter, or as one text"
    inside = (*above, id(value))
    for name, where, part in _parts_of(value, path):
        if not isinstance(name, str):
            return f"{path} has {shown(name)} as a name, and JSON has texts only: use str(x)"
        found = (texts and _problem_of_text(name, f"a name in {path}")) or problem_in(
            part, where, texts=texts, above=inside
        )
        if found:
            return found
    return None


def _parts_of(value: object, path: str) -> Iterable[tuple[object, str, object]]:
    if isinstance(value, BaseModel):
        for name, part in value:
            # Fields of these types are written as texts.
            if isinstance(part, SecretStr):
                yield name, f"{path}.{name}" if path else name, part.get_secret_value()
            elif not isinstance(part, Enum | date):
                yield name, f"{path}.{name}" if path else name, part
    elif isinstance(value, dict):
        for name, part in cast("dict[object, object]", value).items():
            yield name, below(path, f"[{name!r:.60}]"), part
    else:
        for index, part in enumerate(cast("Iterable[object]", value)):
            yield "", below(path, f"[{index}]"), part


def below(path: str, part: str) -> str:
    """The name of a part of what is called ``path``."""
    # Of a place far down its beginning and its end.
    return f"{path[:80]}…{path[-80:]}{part}" if len(path) > 240 else path + part


def _problem_of_text(text: str, path: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        return (
            f"{path} has half a character ({half}) at index {error.start}, which is no text: "
            "use x.encode(errors='replace').decode()"
        )
    return None


def shown(value: object) -> str:
    """The beginning of ``value``, and its type, for a line of error text."""
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        return f"{value!r:.60} of the type {name}"
    except Exception:  # a caller's own `__repr__` may raise anything
        return f"of the type {name}"


def _instead_of(value: object) -> str:
    if (known := _INSTEAD.get(type(value).__name__)) is not None:
        return known
    if hasattr(value, "dtype") and hasattr(value, "item"):
        return "x.item()"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "dataclasses.asdict(x)"
    if isinstance(value, Mapping):
        return "dict(x)"
    return "list(x)" if isinstance(value, Iterable) else "str(x)"
