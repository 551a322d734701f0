"""Conversations: cells that hold messages, and what goes with them to a model.

The format is ``elluminate.uce/1``, as the official 1.5.2 writes it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final, NamedTuple, Self, cast

from pydantic import ValidationError, field_validator, model_validator

from elluminate_async.errors.base import InputError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.schemas.base import ListOf, WireModel
from elluminate_async.schemas.collections import Column
from elluminate_async.schemas.messages import problem_of_messages, problem_of_tools

SCHEMA_VERSION: Final = "elluminate.uce/1"
"""The one format that there is."""

_FORM: Final = (
    f"a conversation is {{'schema_version': '{SCHEMA_VERSION}', 'input': {{'messages': [...]}}}}, "
    "which Conversation(messages=[...]).cell() makes"
)
_HINTS: Final = ("json_object", "text")
_INSTRUCTING: Final = ("system", "developer")
_MOST_LEVELS: Final = 60


class Conversation(WireModel):
    """The value of a cell in a column of the type ``conversation``.

    Attributes:
        messages: Chat messages, oldest first; of a cell that only changes what a template gives
            besides its messages there are none.
        tools: Tools that the model may call, in place of the template's.
        tool_choice: Which of them it must call.
        response_format: The form of the answer as OpenAI has it, in place of the template's:
            ``{"type": "text"}``, ``{"type": "json_object"}``, or ``{"type": "json_schema",
            "json_schema": {"name": ..., "schema": ...}}``.
        attachments: Kept with it; no model is given them.
        metadata: The same.
    """

    messages: ListOf[dict[str, Any]] = []
    tools: ListOf[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    attachments: ListOf[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None

    def __new__(cls, **fields: Any) -> Self:
        """A conversation of these fields.

        Raises:
            InputError: There is no such field, or its value cannot be one.
        """
        # Reading a document and copying give no fields here: what is read may have more of them.
        if fields and (problem := _problem_of_fields(cls, fields)):
            raise InputError(f"Conversation: {problem}")
        return super().__new__(cls)

    @field_validator("response_format", mode="before")
    @classmethod
    def _as_openai_has_it(cls, value: object) -> object:
        return _format_of(cast("dict[str, Any]", value)) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        if problem := problem_of_messages(self.messages):
            raise ValueError(problem)
        return self

    def cell(self) -> dict[str, Any]:
        """The cell's value, as rows are stored with it."""
        told = self.model_dump(exclude_none=True, exclude={"response_format"})
        if self.response_format is not None:
            wrapped: dict[str, Any] = self.response_format.get("json_schema", {})
            told["response_format"] = (
                {"json_schema": wrapped["schema"]}
                if "schema" in wrapped
                else {"hint": self.response_format["type"]}
            )
        return {"schema_version": SCHEMA_VERSION, "input": told}

    @classmethod
    def of_cell(cls, cell: object) -> Self:
        """The conversation that a cell holds.

        Args:
            cell: In the format above; a list of messages, or an object that has them as
                ``messages``; JSON of one of these as a text; or a text, which is a user's message.

        Raises:
            ValueError: It holds none.
        """
        if isinstance(cell, str):
            cell = _parsed(cell)
        if isinstance(cell, str):
            return cls(messages=[{"role": "user", "content": cell}])
        try:
            return cls.model_validate(_input_of(cell))
        except ValidationError as error:
            raise ValueError(_first_of(error)) from None


def _problem_of_fields(kind: type[Conversation], fields: dict[str, Any]) -> str | None:
    """Why no conversation can be made of these fields; None where one can."""
    if unknown := [name for name in fields if name not in kind.model_fields]:
        meant = did_you_mean(unknown[0], kind.model_fields) or ";"
        known = ", ".join(kind.model_fields)
        return f"there is no field {unknown[0]!r:.60}{meant} the fields are {known}"
    try:
        made = kind.model_validate(fields)
    except ValidationError as error:
        return _first_of(error)
    return problem_of_tools(made.tools, made.tool_choice)


def _first_of(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    problem: str = first["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}" if where else problem


def problem_of_cell(cell: object) -> str | None:
    """Why a cell of a conversation column is none; None for one that is, and for an empty one."""
    if cell is None or isinstance(cell, str):
        return None
    try:
        Conversation.of_cell(cell)
    except ValueError as error:
        return str(error)
    return None


def claims_to_be_one(cell: object) -> bool:
    """Whether a value names the format, and so is a conversation in whatever column it is."""
    if not isinstance(cell, Mapping):
        return False
    return cast("Mapping[object, object]", cell).get("schema_version") == SCHEMA_VERSION


class PromptColumn(NamedTuple):
    """The column whose cells are prompts, or parts of them."""

    name: str
    column_type: str
    default_value: str | None


def prompt_column(columns: Iterable[Column], named: Container[str]) -> PromptColumn | None:
    """The first of conversations among a collection's columns, else the first of raw inputs.

    Args:
        columns: Those of the collection.
        named: Placeholders of the template: a column that it names is filled in there.
    """
    left = [column for column in columns if column.name and column.name not in named]
    for kind in ("conversation", "raw_input"):
        for column in left:
            if column.column_type == kind:
                return PromptColumn(column.name or "", kind, column.default_value)
    return None


def conversation_in(column: PromptColumn, values: Mapping[str, Any]) -> Conversation | None:
    """The conversation that a row has in its prompt column; None for none.

    Raises:
        ValueError: It is no conversation.
    """
    cell = values.get(column.name)
    if cell is None or cell == "":
        cell = column.default_value or None
    if cell is None:
        return None
    try:
        return _raw_input(cell) if column.column_type == "raw_input" else Conversation.of_cell(cell)
    except ValueError as error:
        raise ValueError(
            f"the row has no conversation in the column {column.name!r:.60}: {error}"
        ) from None


def joined(
    template: list[dict[str, Any]], conversation: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The messages of a filled-in template and of a conversation as one prompt.

    The instructions that both begin with come first, the template's before the conversation's;
    then the template's other messages, and the conversation's last.
    """
    first, second = _instructions(template), _instructions(conversation)
    return [*template[:first], *conversation[:second], *template[first:], *conversation[second:]]


def _instructions(messages: list[dict[str, Any]]) -> int:
    """How many messages of instructions they begin with."""
    for count, message in enumerate(messages):
        if message.get("role") not in _INSTRUCTING:
            return count
    return len(messages)


def _raw_input(cell: object) -> Conversation:
    if _are_messages(cell):
        return Conversation.of_cell(cell)
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    return Conversation(messages=[{"role": "user", "content": text}])


def _are_messages(value: object) -> bool:
    parts = cast("list[object]", value) if isinstance(value, list) else []
    return bool(parts) and all(isinstance(part, dict) and "role" in part for part in parts)


def _parsed(text: str) -> object:
    """The value of a text that is JSON and a conversation; else the text."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        value: object = json.loads(text, parse_constant=_no_json)
        # Written once more: a half of a character cannot be stored.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    if not _are_messages(value) and not any(_has(value, k) for k in ("schema_version", "messages")):
        return text
    if _is_deeper(value, _MOST_LEVELS):
        raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
    return value


def _has(value: object, key: str) -> bool:
    return isinstance(value, dict) and key in value


def _no_json(name: str) -> object:
    raise ValueError(name)


def _is_deeper(value: object, most: int) -> bool:
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if not isinstance(value, list):
        return False
    return most == 0 or any(_is_deeper(part, most - 1) for part in cast("list[object]", value))


def _input_of(cell: object) -> dict[str, Any]:
    """The part of a cell that has the messages."""
    if isinstance(cell, list):
        return {"messages": cast("object", cell)}
    if not isinstance(cell, dict):
        raise ValueError(f"{cell!r:.60} is none: {_FORM}")
    told = cast("dict[str, Any]", cell)
    version = told.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"its schema_version is {version!r:.60}, and only {SCHEMA_VERSION} is known"
        )
    inner = told.get("input")
    if isinstance(inner, dict):
        return cast("dict[str, Any]", inner)
    if "messages" in told and "schema_version" not in told:
        return told
    raise ValueError(f"it has no input: {_FORM}")


def _format_of(value: dict[str, Any]) -> dict[str, Any] | None:
    """A form of the answer as OpenAI has it, from that or from the format of cells."""
    schema, kind = value.get("json_schema"), value.get("type") or value.get("hint")
    if isinstance(schema, dict):
        if value.get("type") != "json_schema":
            schema = {"name": "answer", "schema": cast("object", schema)}
        elif not isinstance(schema.get("schema"), dict):  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("json_schema needs a schema, which is an object")
        return {"type": "json_schema", "json_schema": cast("object", schema)}
    if kind is None and schema is None:
        return None
    if kind not in _HINTS:
        raise ValueError(f"it must be of json_schema, json_object or text, not {value!r:.60}")
    return {"type": kind}
