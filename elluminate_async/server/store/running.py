"""Whether responses can be generated here; and those of a column, which need not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from elluminate_async.schemas.conversations import prompt_column
from elluminate_async.server.problems import Problem
from elluminate_async.server.store.responses import GeneratedResponse
from elluminate_async.server.store.wire_json import dump, read_json

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from elluminate_async.schemas import Column
    from elluminate_async.schemas.conversations import PromptColumn
    from elluminate_async.server.store.rows import AnyRow

DEFAULT_RATING_VERSION: Final = "local-1"
"""The key of this server's judge, the only one that it has."""

COLUMN: Final = """
CASE WHEN e.response_column_id IS NOT NULL THEN
 (SELECT k.value FROM collections AS o, json_each(o.columns) AS k
  WHERE o.id = e.collection_id AND json_extract(k.value, '$.id') = e.response_column_id) END"""
"""The column, as JSON, that has the responses of the experiment ``e``; null for none."""

_WITHOUT_MODEL: Final = {
    "MULTI_TURN": "its responses are conversations that a persona holds, and this server has no "
    "personas: store them with their messages, and have them rated",
    "AGENTIC": "its responses are an agent's work, and this server runs no agents: store what "
    "the agent has done, and have it rated",
}


def require_mode(experiment: AnyRow) -> None:
    """400 for an experiment whose responses no model gives.

    Args:
        experiment: With ``id``, ``evaluation_mode`` and ``response_column_id``.
    """
    reason = _WITHOUT_MODEL.get(experiment.evaluation_mode)
    if reason is not None and experiment.response_column_id is None:
        mode = experiment.evaluation_mode
        raise Problem(400, f"experiment {experiment.id} is {mode}: {reason}")


def require_callable(config: AnyRow) -> None:
    """400 for a configuration that this server cannot call as it says.

    Args:
        config: With ``name``, ``inference_type``, ``custom_api_config`` and ``response_parser``.
    """
    if config.response_parser:
        raise Problem(
            400,
            f"the LLM config {config.name!r} has a custom_response_parser, which is code that this "
            "server does not execute: generate with a configuration without one",
        )
    if config.inference_type in ("botario", "custom_api") or config.custom_api_config:
        raise Problem(
            400,
            f"the LLM config {config.name!r} is for another API than OpenAI's (inference_type "
            "or custom_api_config), which this server does not call: generate with an "
            "inference_type of openai",
        )


def column_of(columns: list[dict[str, Any]], column_id: int) -> dict[str, Any] | None:
    """The column of that id, among those of a collection."""
    return next((column for column in columns if column["id"] == column_id), None)


def prompts_column(
    columns: Iterable[Column], response_column_id: int | None, named: Container[str]
) -> PromptColumn | None:
    """The column whose cells are prompts, besides a template's; never that of the responses.

    Args:
        columns: Of the rows' collection.
        response_column_id: The experiment's.
        named: The template's placeholders.
    """
    return prompt_column((c for c in columns if c.id != response_column_id), named)


def no_prompt(experiment_id: int) -> Problem:
    """400 for an experiment without a template, and without a column that has prompts."""
    return Problem(
        400,
        f"experiment {experiment_id} has no prompt template, and its collection no column of the "
        "type conversation or raw_input: give it one of these",
    )


def require_column(experiment: AnyRow) -> None:
    """400 for an experiment whose response column is gone.

    Args:
        experiment: With ``id``, ``response_column_id`` and ``response_column``, which is `COLUMN`.
    """
    if experiment.response_column is None:
        gone = experiment.response_column_id
        raise Problem(400, f"experiment {experiment.id}: its response column {gone} is gone")


def of_column(column: str | None, values: str) -> GeneratedResponse:
    """The response that a row has in a column; a row without one has failed.

    Args:
        column: As `COLUMN` has it; None for one that is gone.
        values: Of the row, as JSON.
    """
    if column is None:
        return GeneratedResponse([], "the column that has the responses is gone", None)
    told = read_json(column)
    name = told["name"]
    value = read_json(values).get(name)
    if value is None or value == "":
        value = told.get("default_value") or None
    if value is None:
        return GeneratedResponse([], f"the row has no response in the column {name!r}", None)
    text = value if isinstance(value, str) else dump(value)
    message = {"role": "assistant", "content": text, "tool_calls": None}
    return GeneratedResponse([message], None, None)
