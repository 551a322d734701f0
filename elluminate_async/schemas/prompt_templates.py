"""Prompt templates: messages with ``{{placeholders}}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from elluminate_async.schemas.base import ListOf, WireModel

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
        """The messages with the placeholders filled in, without a request."""
        return render(self.messages, values)


class CreatePromptTemplateRequest(WireModel):
    """Body of ``POST prompt_templates``; every key is always sent."""

    name: str | None
    messages: ListOf[dict[str, Any]]
    response_format_json_schema: dict[str, Any] | None = None
    tools: ListOf[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parent_prompt_template_id: int | None = None
