"""Responses and the prompts they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import (
    GenerationMetadata,
    LLMConfig,
    Message,
    Prompt,
    PromptResponse,
)
from elluminate_async.server.store import prompt_templates, ratings, tables, template_variables
from elluminate_async.server.store.rows import (
    AnyRow,
    AnySelect,
    now,
    row_by_id,
    rows_by_id,
    select_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import PromptTemplate, TemplateVariables

table = tables.responses
prompts = tables.prompts

_METADATA = ("duration_seconds", "input_tokens", "output_tokens", "reasoning_tokens")
_BOUNDED = ("duration_seconds", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class ResponseFilter:
    """What a listing is limited to; None does not limit.

    Attributes:
        bounds: ``<column>_min`` and ``<column>_max`` of durations and token counts.
    """

    experiment_id: int | None = None
    prompt_template_id: int | None = None
    template_variables_id: int | None = None
    collection_id: int | None = None
    prompt_id: int | None = None
    llm_model_name: str | None = None
    epoch: int | None = None
    response_ids: tuple[int, ...] | None = None
    bounds: tuple[tuple[str, float], ...] = ()


def find_ids(connection: Connection, project_id: int, wanted: ResponseFilter) -> list[int]:
    """Ids of finished responses in the order their jobs were accepted: the inputs' order."""
    query = select(table.c.id).where(table.c.project_id == project_id, table.c.is_ready)
    query = _limit(query, wanted)
    if wanted.response_ids is None:
        return list(connection.scalars(query.order_by(table.c.id)))
    return sorted(row.id for row in select_in(connection, query, table.c.id, wanted.response_ids))


def _limit(query: AnySelect, wanted: ResponseFilter) -> AnySelect:
    entries = tables.entries
    through_prompt = (
        (prompts.c.id, wanted.prompt_id),
        (prompts.c.prompt_template_id, wanted.prompt_template_id),
        (prompts.c.template_variables_id, wanted.template_variables_id),
        (entries.c.collection_id, wanted.collection_id),
    )
    if any(value is not None for _, value in through_prompt):
        query = query.join(prompts, prompts.c.id == table.c.prompt_id)
        query = query.join(entries, entries.c.id == prompts.c.template_variables_id)
    own = (
        (table.c.experiment_id, wanted.experiment_id),
        (table.c.llm_model_name, wanted.llm_model_name),
        (table.c.epoch, wanted.epoch),
    )
    for column, value in (*through_prompt, *own):
        if value is not None:
            query = query.where(column == value)
    bounds = dict(wanted.bounds)
    for name in _BOUNDED:
        if (low := bounds.get(f"{name}_min")) is not None:
            query = query.where(table.c[name] >= low)
        if (high := bounds.get(f"{name}_max")) is not None:
            query = query.where(table.c[name] <= high)
    return query


def get(connection: Connection, project_id: int, response_id: int) -> PromptResponse:
    """One response with its ratings."""
    row_by_id(connection, table, project_id, "response", response_id)
    return documents(connection, project_id, [response_id])[response_id]


def documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, PromptResponse]:
    """The responses of these ids, with prompts and current ratings."""
    rows = rows_by_id(connection, table, project_id, ids)
    made_from = prompt_documents(connection, project_id, {row.prompt_id for row in rows.values()})
    rated = ratings.of_responses(connection, project_id, rows)
    return {
        response_id: PromptResponse(
            id=response_id,
            prompt=made_from[row.prompt_id],
            messages=[Message.model_validate(message) for message in row.messages or ()],
            generation_metadata=_metadata(row),
            error=row.error,
            epoch=row.epoch,
            ratings=rated[response_id],
            annotation=row.annotation,
            created_at=row.created_at,
        )
        for response_id, row in rows.items()
    }


def prompt_documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, Prompt]:
    """The prompts of these ids; documents they have in common are shared."""
    rows = rows_by_id(connection, prompts, project_id, ids)
    templates: dict[int, PromptTemplate] = prompt_templates.documents(
        connection, project_id, {row.prompt_template_id for row in rows.values()}
    )
    variables: dict[int, TemplateVariables] = template_variables.documents(
        connection, project_id, {row.template_variables_id for row in rows.values()}
    )
    return {
        prompt_id: Prompt(
            id=prompt_id,
            prompt_template=templates[row.prompt_template_id],
            template_variables=variables[row.template_variables_id],
            messages=row.messages,
            created_at=row.created_at,
        )
        for prompt_id, row in rows.items()
    }


def annotate(
    connection: Connection, project_id: int, response_id: int, annotation: str
) -> PromptResponse:
    """Set a response's annotation."""
    get(connection, project_id, response_id)
    connection.execute(update(table).where(table.c.id == response_id).values(annotation=annotation))
    return get(connection, project_id, response_id)


def remove(connection: Connection, project_id: int, response_id: int) -> None:
    """Delete one, with its ratings."""
    row_by_id(connection, table, project_id, "response", response_id)
    connection.execute(delete(table).where(table.c.id == response_id))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one generation: messages, or the error why there are none.

    Attributes:
        messages: The output.
        error: Why there is none.
        config: The configuration that was used.
        duration_seconds: Of the model's call.
    """

    messages: list[dict[str, Any]]
    error: str | None
    config: LLMConfig | None
    duration_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    def columns(self) -> dict[str, Any]:
        """The row's columns."""
        config = self.config
        return {
            "is_ready": True,
            "messages": self.messages,
            "error": self.error,
            "llm_model_config": None if config is None else config.model_dump(mode="json"),
            "llm_model_name": None if config is None else config.llm_model_name,
            "duration_seconds": self.duration_seconds,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cached_tokens": self.cached_tokens,
            "created_at": now(),
        }


def uploaded(messages: list[dict[str, Any]], metadata: GenerationMetadata | None) -> Answer:
    """A response that is stored as given."""
    known = metadata or GenerationMetadata()
    return Answer(
        messages=messages,
        error=None,
        config=known.llm_model_config,
        duration_seconds=known.duration_seconds,
        input_tokens=known.input_tokens,
        output_tokens=known.output_tokens,
        reasoning_tokens=known.reasoning_tokens,
        cached_tokens=known.cached_tokens,
    )


def complete(connection: Connection, response_id: int, answer: Answer) -> None:
    """Give a waiting row its answer."""
    connection.execute(update(table).where(table.c.id == response_id).values(**answer.columns()))


def insert_all(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows in one statement."""
    if rows:
        connection.execute(insert(table), rows)


def _metadata(row: AnyRow) -> GenerationMetadata | None:
    if row.llm_model_config is None and all(getattr(row, name) is None for name in _METADATA):
        return None
    config = row.llm_model_config
    return GenerationMetadata(
        # Clients up to 0.7 want a configuration wherever there is metadata.
        llm_model_config=LLMConfig.model_validate(config or {"llm_model_name": "unknown"}),
        duration_seconds=row.duration_seconds,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cached_tokens=row.cached_tokens,
    )
