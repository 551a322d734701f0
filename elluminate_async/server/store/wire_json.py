"""Values as the text that columns hold and that the wire gets, without a detour over objects."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import ValidationError

from elluminate_async.schemas import LLMConfig
from elluminate_async.schemas.weight import beside_texts
from elluminate_async.server.store import nearest, nearest_messages

if TYPE_CHECKING:
    from collections.abc import Iterable


MOST_LEVELS: Final = 100
"""Levels of JSON that a request may have. Readers of answers, which have some more, end at 200."""

TOO_DEEP: Final = "nested too deeply to be shown"

_BRACKETS: Final = b"[]{}"
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


class WireText(str):
    """JSON as the wire gets it."""

    __slots__ = ()


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_MESSAGE: dict[str, Any] = {"role": None, "content": None, "tool_calls": None}


def levels_exceed(body: bytes, most: int) -> bool:
    """Whether JSON has more levels than ``most``."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    brackets = b"".join(beside_texts(body, _BRACKETS)).translate(_ONE_KIND)
    too_deep = b"[" * (most + 1)
    for _ in range(most):
        if too_deep in brackets:
            return True
        # Each time the innermost level goes; what is left of JSON that is none has no pair.
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets


def shallow(column: str) -> str:
    """A column's JSON, with a text in place of what is deeper than `MOST_LEVELS`.

    Columns of now are not; a database of before this was bounded may have some.
    """
    if len(column) <= 2 * MOST_LEVELS or column.count("[") + column.count("{") <= MOST_LEVELS:
        return column
    kept: list[str] = []
    depth = start = 0
    for token in _TOKENS.finditer(column):
        sign = token[0]
        if sign in ("[", "{"):
            depth += 1
            if depth == MOST_LEVELS + 1:
                kept += (column[start : token.start()], f'"{TOO_DEEP}"')
        elif sign in ("]", "}"):
            if depth == MOST_LEVELS + 1:
                start = token.end()
            depth -= 1
    return "".join((*kept, column[start:]))


def read_json(column: str) -> Any:
    """The value of a column's JSON."""
    return json.loads(shallow(column))


def dump(value: object) -> str:
    """A value as JSON.

    Raises:
        ValueError: It holds a number that is none, which JSON cannot say.
    """
    return _encode(value)


def dump_or_none(value: object) -> str | None:
    """A value as JSON; None stays None."""
    return None if value is None else _encode(value)


def ids_text(ids: Iterable[int]) -> str:
    """Ids as JSON, for ``json_each``: one parameter, so that the statement stays the same."""
    return f"[{','.join(map(str, ids))}]"


def time_text(time: datetime) -> str:
    """A time as its column holds it."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def read_time(column: str) -> datetime:
    """The time that a column holds."""
    return datetime.fromisoformat(column).replace(tzinfo=UTC)


def wire_time(column: str) -> str:
    """A column's time as a JSON string of the wire."""
    return f'"{column[:10]}T{column[11:].removesuffix(".000000")}Z"'


def wire_text(column: str | None) -> str:
    """A column's text as a JSON string, or null."""
    return "null" if column is None else _encode(column)


def wire_json(column: str | None) -> str:
    """A column's JSON, which is written as the wire has it."""
    return "null" if column is None else shallow(column)


def wire_count(column: object) -> str:
    """A column's whole number, or null."""
    return wire_number(column) if isinstance(column, int) else "null"


def wire_number(column: object) -> str:
    """A column's number, or null."""
    # Not a number: of a database of before figures were looked at.
    is_known = isinstance(column, int | float) and math.isfinite(column)
    return repr(column) if is_known else "null"


def wire_prompt(column: str) -> str:
    """A column's filled-in messages."""
    return _encode(nearest_messages.of_template(read_messages(column)))


def read_messages(column: str) -> list[dict[str, Any]]:
    """A column's messages, without what is none."""
    return _objects_in(read_json(column))


def _objects_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        parts = cast("list[dict[str, Any]]", value)
        objects = [part for part in parts if isinstance(part, dict)]  # pyright: ignore[reportUnnecessaryIsInstance]
        return parts if len(objects) == len(parts) else objects
    return []


def wire_messages(column: str | None) -> str:
    """A column's messages, each with the keys that every message has on the wire."""
    if column is None:
        return "[]"
    whole = read_json(column)
    messages = nearest_messages.of_output(_objects_in(whole))
    if messages is whole and all(message.keys() >= _MESSAGE.keys() for message in messages):
        return shallow(column)
    return _encode([_MESSAGE | message for message in messages])


def readable(document: dict[str, Any]) -> LLMConfig:
    """A model configuration, without values of the wrong type, and with words that are known."""
    try:
        config = LLMConfig.model_validate(document)
    except ValidationError as error:
        wrong = {part["loc"][0] for part in error.errors()}
        config = LLMConfig.model_validate({k: v for k, v in document.items() if k not in wrong})
    return nearest.config(config)


@lru_cache(maxsize=64)
def wire_judge(name: str) -> str:
    """The configuration of a judge of that name, which is the server's own."""
    return LLMConfig(llm_model_name=name).model_dump_json()


@lru_cache(maxsize=256)
def wire_config(column: str | None) -> str:
    """A column's model configuration with all keys of the wire."""
    # Clients up to 0.7 want one wherever there is metadata.
    config = column or '{"llm_model_name":"unknown"}'
    return readable(read_json(config)).model_dump_json()
