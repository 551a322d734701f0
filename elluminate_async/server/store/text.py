"""Values as the text that columns hold and that the wire gets, without a detour over objects."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from elluminate_async.schemas import LLMConfig

if TYPE_CHECKING:
    from collections.abc import Iterable


class WireText(str):
    """JSON as the wire gets it."""

    __slots__ = ()


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_MESSAGE: dict[str, Any] = {"role": None, "content": None, "tool_calls": None}


def read_json(column: str) -> Any:
    """The value of a column's JSON, however deep: pydantic's parser ends at 200 levels."""
    return json.loads(column)


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
    return "null" if column is None else column


def wire_number(column: float | None) -> str:
    """A column's number, or null."""
    return "null" if column is None else repr(column)


def wire_messages(column: str | None) -> str:
    """A column's messages, each with the keys that every message has on the wire."""
    if column is None:
        return "[]"
    messages: list[dict[str, Any]] = read_json(column)
    if all(message.keys() >= _MESSAGE.keys() for message in messages):
        return column
    return _encode([_MESSAGE | message for message in messages])


@lru_cache(maxsize=256)
def wire_config(column: str | None) -> str:
    """A column's model configuration with all keys of the wire."""
    # Clients up to 0.7 want one wherever there is metadata.
    config = column or '{"llm_model_name":"unknown"}'
    return LLMConfig.model_validate(read_json(config)).model_dump_json()
