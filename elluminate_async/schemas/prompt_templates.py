"""Prompt templates: messages with ``{{placeholders}}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, cast

from elluminate_async.schemas.base import ListOf, WireModel
from elluminate_async.schemas.collections import Column
from elluminate_async.schemas.conversations import (
    PromptColumn,
    claims_to_be_one,
    conversation_in,
    joined,
    prompt_column,
)
from elluminate_async.schemas.template_variables import TemplateVariables, prompt_values

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
"""``{{ name }}``: word characters, optional inner spaces."""


# Short, so that a text without an end to its braces is read in time.
_BRACED = re.compile(r"\{\{([^{}\n]{1,100})\}\}")
_LOOKALIKE = re.compile(r"\s*\w[\w .\-|\[\]]*")


def placeholders_in(messages: list[dict[str, Any]]) -> list[str]:
    """The placeholder names of a template's messages, in order of first appearance."""
    found: dict[str, None] = {}
    for message in messages:
        for text in texts_in(message.get("content")):
            found.update(dict.fromkeys(PLACEHOLDER.findall(text)))
    return list(found)


def lookalikes_in(messages: list[dict[str, Any]]) -> list[str]:
    """Texts in double braces that look like placeholders and are none, as ``{{first name}}``.

    Such a thing begins like a name; of JSON, formulas and the like in braces nothing is said.
    """
    found: dict[str, None] = {}
    for message in messages:
        for text in texts_in(message.get("content")):
            for braced in _BRACED.finditer(text):
                if _LOOKALIKE.fullmatch(braced[1]) and not PLACEHOLDER.fullmatch(braced[0]):
                    found[braced[0]] = None
    return list(found)


def filled_length(messages: list[dict[str, Any]], values: Mapping[str, Any]) -> int:
    """Characters that the texts of `render` have, told without making them."""
    length = 0
    written: dict[str, int] = {}
    for message in messages:
        for text in texts_in(message.get("content")):
            length += len(text)
            for found in PLACEHOLDER.finditer(text):
                name = found[1]
                if name in values:
                    if name not in written:
                        written[name] = len(str(values[name]))
                    length += written[name] - len(found[0])
    return length


def texts_in(content: object) -> list[str]:
    """The texts of a message's content, in order."""
    if isinstance(content, str):
        return [content]
    # Of what a caller passes, not all parts need be mappings.
    parts: list[object] = [*_parts(content)]
    mappings = [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]
    return [str(part["text"]) for part in mappings if "text" in part]


def _parts(content: Any) -> list[dict[str, Any]]:
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]


def filled_texts(messages: list[dict[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """The texts of `render`, in order."""
    return [
        text for message in render(messages, values) for text in texts_in(message.get("content"))
    ]


def render(messages: list[dict[str, Any]], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages with every placeholder replaced once, literally.

    A value that itself contains ``{{...}}`` stays as it is. Values that are not strings
    are written with `str`. A name without a value is left in place.
    """

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(
            lambda found: str(values[found[1]]) if found[1] in values else found[0], text
        )

    def fill_content(content: Any) -> Any:
        if isinstance(content, str):
            return fill(content)
        if isinstance(content, list):
            return [
                {**part, "text": fill(str(part["text"]))} if "text" in part else part
                for part in _parts(content)
            ]
        return content

    return [
        {**message, "content": fill_content(message["content"])}
        if "content" in message
        else dict(message)
        for message in messages
    ]


class Prepared(NamedTuple):
    """The prompt of one row, or a template, with all that goes to a model beside it.

    Attributes:
        messages: The prompt.
        tools: Tools that the model may call.
        tool_choice: Which of them it must call.
        response_format: The form of its answer.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


def fill_in(
    template: Prepared | None, column: PromptColumn | None, values: Mapping[str, Any]
) -> Prepared:
    """A row's prompt, of a template, of a conversation, or of both.

    A conversation's texts stay as they are, whatever is in braces there. Its tools, with their
    choice, and its form of the answer stand in place of the template's.

    Args:
        template: None for a prompt that is the cell of ``column`` alone.
        column: As `prompt_column` finds it.
        values: Of the row.

    Raises:
        ValueError: The cell is no conversation, or there is nothing to ask.
    """
    given = template or Prepared([])
    filled = given._replace(messages=render(given.messages, values))
    if column is None:
        return filled
    conversation = conversation_in(column, values)
    if conversation is None or not (conversation.messages or filled.messages):
        if template is not None:
            return filled
        lacking = "nothing" if conversation is None else "no messages"
        raise ValueError(f"the row has {lacking} in the column {column.name!r:.60}")
    tools, choice = conversation.tools, conversation.tool_choice
    if tools is None:
        # A choice goes with the tools that it is made among.
        tools, choice = filled.tools, choice or filled.tool_choice
    messages = joined(filled.messages, conversation.messages)
    response_format = conversation.response_format or filled.response_format
    return Prepared(messages, tools, choice, response_format)


class PromptTemplate(WireModel):
    """One version of a named template.

    Attributes:
        messages: Chat messages as the service stores them, ``content`` with placeholders.
        placeholders: Names that an entry of template variables must give.
        criterion_set_id: The set whose criteria rate this template's responses.
    """

    id: int
    name: str
    version: int
    messages: ListOf[dict[str, Any]] = []
    placeholders: ListOf[str] = []
    response_format_json_schema: dict[str, Any] | None = None
    tools: ListOf[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    criterion_set_id: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def render_messages(self, **values: Any) -> list[dict[str, Any]]:
        """The messages with the placeholders filled in, without a request.

        A value of the format ``elluminate.uce/1`` that no placeholder names is a conversation,
        whose messages are added as the embedded server adds those of a column of that type.

        Raises:
            ValueError: Such a value is no conversation.
        """
        found = [
            Column(name=name, column_type="conversation")
            for name, value in values.items()
            if claims_to_be_one(value)
        ]
        return self._filled(found, values)

    def render_row(self, row: TemplateVariables) -> list[dict[str, Any]]:
        """The prompt that the embedded server makes of a row, without a request.

        With what the row has in a column of conversations or of raw inputs, as its collection
        says of the columns, and their defaults; a row without a collection has neither.

        Raises:
            ValueError: Its cell is no conversation.
        """
        columns = [] if row.collection is None else row.collection.columns
        return self._filled(columns, prompt_values(row))

    def _filled(self, columns: list[Column], values: Mapping[str, Any]) -> list[dict[str, Any]]:
        column = prompt_column(columns, placeholders_in(self.messages))
        return fill_in(Prepared(self.messages), column, values).messages


class CreatePromptTemplateRequest(WireModel):
    """Body of ``POST prompt_templates``; every key is always sent."""

    name: str | None
    messages: ListOf[dict[str, Any]]
    response_format_json_schema: dict[str, Any] | None = None
    tools: ListOf[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parent_prompt_template_id: int | None = None
