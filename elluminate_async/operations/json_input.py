"""Checks of a caller's arguments that go out as JSON; `json_checks` looks at the values."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import (
    AsyncIterable,
    Collection,
    Container,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from elluminate_async.errors import ElluminateError, InputError, PlaceholderWarning
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.schemas.collections import Column
from elluminate_async.schemas.conversations import (
    Conversation,
    claims_to_be_one,
    problem_of_cell,
)
from elluminate_async.schemas.generation_params import GenerationParams, problem_of_params
from elluminate_async.tables.json_checks import problem_in
from elluminate_async.tables.reading import check_awaited
from elluminate_async.tables.values import JSON, json_cell

M = TypeVar("M", bound=BaseModel)

QueryValue = str | int | float | bool | None | Sequence[int]


def problem_of(error: ValidationError | ValueError) -> str:
    """The first thing that is wrong, and where; pydantic's own text is several lines and a link."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    problem: str = first["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}" if where else problem


def several(value: object, name: str, what: str, *one: type) -> Iterable[object]:
    """``value`` as the list of ``what`` that the argument ``name`` takes.

    A text, a mapping or ``one`` by itself is none; nor is a listing, which could be read, but not
    by what only makes a request's body.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, (str, Mapping, *one)):
        raise InputError(f"{name} must be a list of {what}: pass [x] for one")
    if not isinstance(value, Iterable) or isinstance(value, AsyncIterable):
        check_awaited(value, name)
        raise InputError(f"{name} must be a list of {what}, not {value!r:.60}")
    return cast("Iterable[object]", value)


def check_json(value: object, path: str) -> None:
    """Raise `InputError` when ``value`` cannot be written as JSON as it is."""
    if problem := problem_in(value, path):
        raise InputError(problem)


def checked_row(row: object, where: str) -> Mapping[str, object]:
    """``row``, a mapping of column names to values, or `InputError`."""
    if not isinstance(row, Mapping):
        raise InputError(
            f"{where} must be a mapping of column names to values, such as "
            f"{{'language': 'Python'}}, not {row!r:.80}"
        )
    found = cast("Mapping[object, object]", row)
    for name in found:
        if not isinstance(name, str) or not name:
            kind = "string that is not empty" if name == "" else "string"
            raise InputError(f"{where}: a column name must be a {kind}, not {name!r:.60}")
    return cast("Mapping[str, object]", found)


def json_row(row: object, where: str, conversations: Collection[str] = ()) -> dict[str, JSON]:
    """A row as JSON has it: what tables hold is converted where that loses nothing.

    Raises:
        InputError: It is no mapping of names, or a cell cannot be converted so, or as of
            `stored_cells`.
    """
    cells = stored_cells(checked_row(row, where), where, conversations).items()
    return {name: json_cell(cell, f"{where}[{name!r:.60}]") for name, cell in cells}


def conversations_of(columns: Iterable[Column] | None) -> frozenset[str]:
    """Names of those columns that hold conversations."""
    found = (one.name for one in columns or () if one.column_type == "conversation")
    return frozenset(name for name in found if name)


def stored_cells(
    row: Mapping[str, object], where: str, conversations: Collection[str]
) -> dict[str, object]:
    """A row's cells, a `Conversation` as it is stored.

    Args:
        row: Column name to cell.
        where: Its name in errors.
        conversations: The columns that hold them, where that is known.

    Raises:
        InputError: A cell of such a column, or one that names their format, is none.
    """
    cells = dict(row)
    for name, cell in row.items():
        if isinstance(cell, Conversation):
            cells[name] = cell.cell()
        elif (name in conversations or claims_to_be_one(cell)) and (
            problem := problem_of_cell(cell)
        ):
            raise InputError(f"{where}[{name!r:.60}] is no conversation: {problem}")
    return cells


def check_name(name: object, what: str) -> None:
    """Raise `InputError` when ``name`` is no text, or an empty one."""
    if not isinstance(name, str) or not name:
        raise InputError(f"the name of {what} must be a text that is not empty, not {name!r:.60}")
    check_json(name, f"the name of {what}")


def optional_text(value: object, what: str, *, may_be_empty: bool = True) -> str | None:
    """``value``, a text or None.

    Raises:
        InputError: It is neither, or has half a character, or is an empty text that may be none.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not (value or may_be_empty):
        raise InputError(f"{what} must be a text or None, not {value!r:.60}")
    check_json(value, what)
    return value


def check_lookup(name: object, id: object, what: str) -> None:
    """Raise `InputError` unless either a name or an id says which ``what`` is meant."""
    if (name is None) == (id is None):
        raise InputError(f"pass the name of {what}, or id=, and not both")
    if name is not None and not isinstance(name, str):
        raise InputError(f"{name!r:.60} is no name of {what}: pass id= for an id")
    check_json(name, f"the name of {what}")


def json_object(value: object, what: str) -> dict[str, Any] | None:
    """A mapping that goes out as a JSON object; None for nothing.

    Raises:
        InputError: It is no mapping.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"{what} must be a mapping of names to values, not {value!r:.80}")
    return dict(cast("Mapping[str, Any]", value))


def checked_params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Generation parameters as they are sent; `InputError` for those that cannot work.

    What is not known would be kept by the service, and have no effect.
    """
    given = json_object(params, "generation_params")
    if given is not None:
        check_json(given, "generation_params")
        known = GenerationParams.model_fields
        if unknown := [name for name in given if name not in known]:
            meant = did_you_mean(unknown[0], known) or ";"
            raise InputError(
                f"generation_params: no field {unknown[0]!r:.60}{meant} the fields are "
                f"{', '.join(sorted(known))}"
            )
        if problem := problem_of_params(given):
            raise InputError(problem)
    return given


@contextmanager
def checked_input(what: str) -> Generator[None]:
    """Have what is wrong with an argument raised as `InputError`, named ``what``."""
    try:
        yield
        return
    except ElluminateError:
        raise
    except ValidationError as error:
        problem = problem_of(error)
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    raise InputError(f"{what} cannot be sent: {problem}")


def made_of(
    kind: type[M], fields: Mapping[Any, Any], where: str, hint: str, known: Container[object] = ()
) -> M:
    """A ``kind`` of a mapping of its fields.

    Args:
        kind: What is made.
        fields: What a caller gave in its place.
        where: Its name in errors.
        hint: Where else a key that it does not have may go.
        known: Keys that do no harm, besides its fields.

    Raises:
        InputError: It has another key, or a value that is none of its field's.
    """
    for name in fields:
        if name not in kind.model_fields and name not in known:
            raise InputError(f"{where} has no key {name!r:.60}: {hint}")
    with checked_input(where):
        return kind.model_validate(dict(fields))
    raise AssertionError("unreachable")


def warn_of_lookalikes(found: Collection[str]) -> None:
    """Tell of ``found``, which looks like placeholders of a template and is none.

    It is told of the line that called into this package.
    """
    if not found:
        return
    named = ", ".join([*found][:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    warnings.warn(
        f"the prompt template has {named}, which the service takes for text: the name of a "
        "placeholder is of letters, digits and underscores, such as {{first_name}}",
        PlaceholderWarning,
        stacklevel=_frames_within() + 1,
    )


def _frames_within() -> int:
    """How many frames of this package called each other until here, the caller's among them."""
    frames, frame = 0, inspect.currentframe()
    package = __name__.partition(".")[0]
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] == package:
        frames, frame = frames + 1, frame.f_back
    return frames - 1


def encode_query(query: Mapping[str, QueryValue]) -> list[tuple[str, str]]:
    """Query pairs: None left out, lists as a repeated key, booleans as true and false."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if value is None:
            continue
        if isinstance(value, bool):
            pairs.append((name, "true" if value else "false"))
        elif isinstance(value, str):
            check_json(value, name)
            pairs.append((name, value))
        elif isinstance(value, int | float):
            pairs.append((name, str(value)))
        elif isinstance(value, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            pairs.extend((name, str(member)) for member in value)
        else:
            raise InputError(f"{name} cannot be asked for: {value!r:.60}")
    return pairs


def encode(body: BaseModel, *, omit_nulls: bool = False) -> bytes:
    """A request's JSON body."""
    with checked_input("the request"):
        return body.model_dump_json(exclude_none=omit_nulls).encode()
