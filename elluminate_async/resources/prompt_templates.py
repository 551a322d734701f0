"""``client.prompt_templates``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from elluminate_async.errors import ConflictError, InputError
from elluminate_async.errors.arguments import shown
from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import (
    check_json,
    check_lookup,
    check_name,
    checked_input,
    optional_text,
    warn_of_lookalikes,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import MAX_ID, id_of, optional_id
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading, got_or_created
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.messages import problem_of_choice, problem_of_messages
from elluminate_async.schemas.prompt_templates import (
    PLACEHOLDER,
    CreatePromptTemplateRequest,
    PromptTemplate,
    lookalikes_in,
)

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
"""One user message as a string, or chat messages."""

ResponseFormat: TypeAlias = type[BaseModel] | Mapping[str, Any]
"""A pydantic class, or a ``response_format`` object as chat completions take it."""


class PromptTemplatesResource(Resource):
    """Prompt templates: named, with versions that never change.

    ``Messages`` is one user message as a string, or a sequence of chat messages, which are
    mappings. ``ResponseFormat`` is a pydantic class, or a mapping as chat completions take it.
    """

    def list(
        self,
        name: str | None = None,
        *,
        criterion_set: CriterionSet | int | None = None,
        compatible_collection: Collection | int | None = None,
        strict: bool = False,
    ) -> Listing[PromptTemplate]:
        """Templates, all versions: ``async for`` over it, or ``await`` it.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {
            "name": optional_text(name, "name"),
            "criterion_set_id": optional_id(criterion_set, CriterionSet, "criterion_set"),
            "compatible_collection_id": optional_id(
                compatible_collection, Collection, "compatible_collection"
            ),
        }
        return Listing(
            self._connection, PromptTemplate, "prompt_templates", query=query, strict=strict
        )

    async def get(
        self,
        name: str | None = None,
        *,
        id: int | None = None,
        version: int | Literal["latest"] | None = None,
    ) -> PromptTemplate:
        """The template of that id, or of that name: the latest version unless one is named.

        Raises:
            NotFoundError: There is none.
            InputError: Neither is given, or both, or the name is no text; or the version is no
                number of at least 1, nor "latest".
        """
        check_lookup(name, id, "a prompt template")
        number = _version(version)
        if id is not None:
            return decode(
                PromptTemplate,
                await self._connection.call(
                    "GET", "prompt_templates", id_of(id, PromptTemplate, "id")
                ),
            )
        query = {"name": name, "version": number}
        listing = Listing(self._connection, PromptTemplate, "prompt_templates", query=query)
        return await listing.named("prompt template", name, version=number)

    async def create(
        self,
        messages: Messages,
        name: str,
        *,
        parent_prompt_template: PromptTemplate | int | None = None,
        response_format: ResponseFormat | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> PromptTemplate:
        """Create a template, or the next version of the name.

        A placeholder's name is of letters, digits and underscores; of what only looks like one,
        as ``{{first name}}``, a `PlaceholderWarning` tells, as the service takes it for text.

        Raises:
            ConflictError: This name has a version with exactly this content.
            OutcomeUnknownError: It was sent, and whether it was created is not known. Where the
                service has idempotency keys it is sent again instead.
            InputError: A message has a role that there is not, or lacks what its role needs; or
                a tool is none, or the choice among them; or the prompt and the name are swapped,
                so that the name has a placeholder and the prompt none.
        """
        body = _creation(
            messages, name, parent_prompt_template, response_format, tools, tool_choice
        )
        return await self._created(body)

    async def _created(
        self, body: CreatePromptTemplateRequest, *, harmless: bool = False
    ) -> PromptTemplate:
        warn_of_lookalikes(lookalikes_in(body.messages))
        post = Post(("prompt_templates",), body, harmless=harmless)
        read = partial(decode, PromptTemplate)
        return await make(self._connection, "create a prompt template", post, read)

    async def get_or_create(
        self,
        messages: Messages,
        name: str,
        *,
        parent_prompt_template: PromptTemplate | int | None = None,
        response_format: ResponseFormat | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> tuple[PromptTemplate, bool]:
        """The version of ``name`` with exactly this content, and whether it was created now.

        Args:
            messages: The prompt with ``{{placeholders}}``: a string for one user message,
                or chat messages. Their names are of letters, digits and underscores; of what
                only looks like one, as ``{{first name}}``, a `PlaceholderWarning` tells.
            name: Other content under a known name becomes its next version.
            parent_prompt_template: The version this one was made from.
            response_format: Structured output: a pydantic class, or the object itself.
            tools: Tools as chat completions take them.
            tool_choice: As chat completions take it.
        """
        body = _creation(
            messages, name, parent_prompt_template, response_format, tools, tool_choice
        )
        return await got_or_created(self._created(body, harmless=True), self._named_by)

    async def _named_by(self, conflict: ConflictError) -> PromptTemplate:
        """The version that stands in the way of a new one."""
        existing = (conflict.body or {}).get("prompt_template_id")
        if not isinstance(existing, int):
            raise conflict
        return await self.get(id=existing)

    async def delete(self, prompt_template: PromptTemplate | int, *, cascade: bool = False) -> None:
        """Delete one version, and its experiments without responses.

        Args:
            prompt_template: Which one.
            cascade: Delete also the responses to it, their ratings, and the experiments that have
                them.

        Raises:
            ConflictError: There are such responses, or work in flight refers to it; the embedded
                server tells how much, and in which experiments.
        """
        id = id_of(prompt_template, PromptTemplate, "prompt_template")
        await self._delete("prompt_templates", id, query=cascading(cascade))


def _version(version: object) -> int | None:
    if version is None or version == "latest":
        return None
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_ID:
        raise InputError(
            f"version must be a whole number of at least 1, or 'latest', not {shown(version)}"
        )
    return version


def _creation(
    messages: Messages,
    name: str,
    parent_prompt_template: PromptTemplate | int | None,
    response_format: ResponseFormat | None,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None,
) -> CreatePromptTemplateRequest:
    check_name(name, "a prompt template")
    # `client.create_prompt_template` of the official client has them so.
    if isinstance(messages, str) and PLACEHOLDER.search(name) and not PLACEHOLDER.search(messages):
        raise InputError(
            f"the name {name!r:.60} has a placeholder, and the prompt {messages!r:.60} has none: "
            "the messages come first, then the name"
        )
    parent_id = optional_id(parent_prompt_template, PromptTemplate, "parent_prompt_template")
    with checked_input("the prompt template"):
        body = CreatePromptTemplateRequest(
            name=name,
            messages=_messages(messages),
            response_format_json_schema=_response_format(response_format),
            tools=None if tools is None else [dict(tool) for tool in tools],
            tool_choice=dict(tool_choice) if isinstance(tool_choice, Mapping) else tool_choice,
            parent_prompt_template_id=parent_id,
        )
    check_json(body, "")
    problem = problem_of_messages(body.messages) or problem_of_choice(body.tools, body.tool_choice)
    if problem:
        raise InputError(f"the prompt template cannot be sent: {problem}")
    return body


def _messages(messages: Messages) -> list[dict[str, Any]]:
    chat: list[dict[str, Any]] = []
    if isinstance(messages, str):
        chat = [{"role": "user", "content": messages}]
    elif isinstance(messages, Iterable) and not isinstance(messages, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        given = [*messages]
        if all(isinstance(message, Mapping) for message in given):  # pyright: ignore[reportUnnecessaryIsInstance]
            chat = [dict(message) for message in given]
    if not chat or not all(message.get("role") and "content" in message for message in chat):
        raise InputError(
            "a prompt template is a string, or a list of messages such as "
            "{'role': 'user', 'content': 'Explain {{topic}}.'}, and not empty"
        )
    return chat


def _response_format(response_format: ResponseFormat | None) -> dict[str, Any] | None:
    if response_format is None or isinstance(response_format, Mapping):
        return None if response_format is None else dict(response_format)
    if not hasattr(response_format, "model_json_schema"):
        raise InputError(
            "response_format must be a pydantic class, or a mapping such as "
            f"{{'type': 'json_schema', ...}}, not {response_format!r:.80}"
        )
    schema = {**response_format.model_json_schema(), "additionalProperties": False}
    name = response_format.__name__.lower()
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": True},
    }
