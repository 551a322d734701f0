"""How an endpoint is asked for JSON: what it takes is learned once and remembered."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elluminate_async.server.llms.base import JsonSchema

_LOG = logging.getLogger(__name__)
# What endpoints say of a form that they do not know.
_OF_THE_FORM = re.compile(
    r"response_format|json_schema|json_object|structured output|guided|grammar|"
    r"\btools?\b|tool_choice|function.?call",
    re.IGNORECASE,
)
_UNKNOWN_PARAMETER = (400, 422, 501)
_THINKING_ROOM = 8192


class Form(Enum):
    """A way to ask for JSON, the strictest first."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    TEXT = "text"
    TOOL = "tool call"

    @property
    def next(self) -> Form | None:
        """The way to try after this one."""
        forms = list(Form)
        place = forms.index(self) + 1
        return forms[place] if place < len(forms) else None


@dataclass
class Traits:
    """The traits of one model at one endpoint, as learned so far.

    Attributes:
        form: How it is asked for JSON.
        proven: The ways that it has answered in.
        streams: Whether it is asked to answer in pieces.
        tells_usage: Whether it is asked for its usage while it does.
        counts_thinking: Whether it wants its bound as ``max_completion_tokens``, which counts
            what it thinks.
        thinks: Whether it spends tokens before it answers.
        was_cut: Whether the log was told that an answer ended at the bound on its tokens.
        calls_tools: Whether it may call a tool that takes the answer; False once it did not.
    """

    form: Form = Form.SCHEMA
    proven: set[Form] = field(default_factory=set[Form])
    streams: bool = True
    tells_usage: bool = True
    counts_thinking: bool = False
    thinks: bool = False
    was_cut: bool = False
    calls_tools: bool = True

    def first_for(self, schema: JsonSchema) -> Form:
        """The way to begin with: of any object there is no schema to be held to."""
        return Form.OBJECT if schema.is_any and self.form is Form.SCHEMA else self.form

    def settle(self, form: Form, name: str, schema: JsonSchema) -> None:
        """Remember that it answers in this way; said once in the log.

        Of one for any object this says nothing about schemas.
        """
        if schema.is_any or (form in self.proven and form is self.form):
            return
        self.proven.add(form)
        self.form = form
        level = logging.INFO if form is Form.SCHEMA else logging.WARNING
        _LOG.log(level, "%s is asked for JSON by %s", name, form.value)

    def refuses(self, form: Form, status: int, text: str) -> bool:
        """Whether an answer means that this way of asking is not known there."""
        if form is Form.TEXT or status in (401, 403, 429):
            return False
        if _OF_THE_FORM.search(text):
            return True
        return form not in self.proven and status in _UNKNOWN_PARAMETER

    def adapts(self, status: int, text: str, arguments: Mapping[str, Any]) -> bool:
        """Learn from a refusal of something else than the form; whether to ask again."""
        if status not in _UNKNOWN_PARAMETER:
            return False
        if "max_completion_tokens" in text and "max_tokens" in arguments:
            self.counts_thinking = self.thinks = True
        elif "stream_options" in text and "stream_options" in arguments:
            self.tells_usage = False
        elif _is_streamed(arguments) and re.search(r"\bstream(?:ing)?\b", text):
            # Of several calls at once each was sent so, whoever learns it first.
            self.streams = False
        else:
            return False
        return True

    def bound(self, arguments: dict[str, Any], max_tokens: int | None) -> None:
        """Put the bound on the answer's tokens in, where the arguments have none."""
        name = "max_completion_tokens" if self.counts_thinking else "max_tokens"
        own = arguments.pop("max_tokens", None)
        if own is None and max_tokens is not None:
            own = max_tokens + (_THINKING_ROOM if self.thinks else 0)
        if own is not None:
            arguments[name] = own

    def tell_of_cut(self, name: str) -> None:
        """Say once in the log that an answer is not whole."""
        if not self.was_cut:
            self.was_cut = True
            _LOG.warning(
                "an answer of %s ended at the server's bound on tokens: set max_tokens in its "
                "configuration for longer ones",
                name,
            )

    def stream(self, arguments: dict[str, Any]) -> None:
        """Ask for the answer in pieces, where the endpoint gives it so."""
        if not self.streams:
            arguments["extra_body"] = {**arguments.get("extra_body", {}), "stream": False}
        elif self.tells_usage:
            arguments["stream_options"] = {"include_usage": True}


def _is_streamed(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("extra_body", {}).get("stream") is not False


# For the life of the process, so that each server does not find it out anew. A template's own
# schema may be one that the endpoint refuses while it takes others: it is known apart.
_TRAITS: dict[tuple[str | None, str, bool], Traits] = {}


def traits_of(base_url: str | None, model: str, *, own_schema: bool) -> Traits:
    """The traits of that model there."""
    return _TRAITS.setdefault((base_url, model, own_schema), Traits())


def forget_endpoints() -> None:
    """Know nothing of any endpoint, as at the start."""
    _TRAITS.clear()


def shaped(arguments: dict[str, Any], form: Form, schema: JsonSchema) -> dict[str, Any]:
    """``arguments`` that ask for an answer of that schema in that way."""
    asked = dict(arguments)
    if form is Form.SCHEMA:
        described = {"name": schema.name, "schema": schema.schema, "strict": True}
        asked["response_format"] = {"type": "json_schema", "json_schema": described}
        return asked
    if form is Form.TOOL:
        function = {
            "name": schema.name,
            "description": "Takes the answer.",
            "parameters": schema.schema,
        }
        asked["tools"] = [{"type": "function", "function": function}]
        asked["tool_choice"] = {"type": "function", "function": {"name": schema.name}}
        return asked
    if form is Form.OBJECT:
        asked["response_format"] = {"type": "json_object"}
    if not schema.is_told:
        told = {
            "role": "system",
            "content": "Answer with one JSON object and nothing else. It keeps to this JSON "
            f"schema: {json.dumps(schema.schema, ensure_ascii=False)}",
        }
        asked["messages"] = [told, *asked["messages"]]
    return asked
