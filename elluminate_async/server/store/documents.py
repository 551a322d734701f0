"""Responses as JSON, straight from their columns: pages and results are made of many."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from elluminate_async.schemas import ItemFailure
from elluminate_async.server.store import collections, criteria, prompt_templates
from elluminate_async.server.store.rows import AnyRow, fetch
from elluminate_async.server.store.wire_json import (
    dump,
    ids_text,
    read_json,
    wire_config,
    wire_count,
    wire_json,
    wire_judge,
    wire_messages,
    wire_number,
    wire_prompt,
    wire_text,
    wire_time,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

# Of a prompt without a template: an agent's task, or a conversation.
_NOTHING_RESOLVED = (
    '"resolved_tools":null,"resolved_tool_choice":null,"resolved_response_format":null'
)
# Cross joins keep the order of the tables, and a plus keeps an index from being used: without
# statistics the planner takes one that all rows of a project share for as good as any.
_RESPONSES = """
SELECT r.id, r.epoch, r.messages, r.llm_model_config, r.duration_seconds, r.input_tokens,
 r.output_tokens, r.reasoning_tokens, r.cached_tokens, r.custom_api_info, r.trajectory,
 r.trajectory_ingest_error, r.termination_reason, r.error, r.annotation, r.created_at,
 p.id AS prompt_id, p.prompt_template_id, p.messages AS prompt, p.created_at AS prompt_created_at,
 p.resolved, p.entry_digest <> e.digest AS is_stale, e.id AS entry_id, e.input_values,
 e.collection_id, e.environment_config, e.created_at AS entry_created_at
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN prompts AS p ON p.id = r.prompt_id
CROSS JOIN entries AS e ON e.id = p.template_variables_id
WHERE +r.project_id = ?"""
_RATINGS = """
SELECT r.response_id, r.id, r.criterion_id, r.rating, r.reasoning, r.llm_model_name,
 r.duration_seconds, r.input_tokens, r.output_tokens, r.reasoning_tokens, r.cached_tokens,
 r.created_at
FROM json_each(?) AS wanted CROSS JOIN ratings AS r ON r.response_id = wanted.value
WHERE {which} AND +r.project_id = ? ORDER BY r.criterion_id, r.id"""
_CURRENT_RATINGS = _RATINGS.format(which="r.is_current")
_RATINGS_OF_JOB = _RATINGS.format(which="+r.job_id = ?")
_RATINGS_OF_RUN = _RATINGS.format(
    which="+r.run_id = ? AND r.criterion_id IN "
    "(SELECT criterion_id FROM job_criteria WHERE job_id = ?)"
)


def responses(connection: Connection, project_id: int, ids: Collection[int]) -> dict[int, str]:
    """The responses of these ids, with prompts and current ratings."""
    wanted = ids_text(ids)
    rows = fetch(connection, _RESPONSES, wanted, project_id)
    template_ids = {row.prompt_template_id for row in rows} - {None}
    templates = prompt_templates.texts(connection, project_id, template_ids)
    resolved = prompt_templates.resolved_texts(connection, project_id, template_ids)
    collection_of = collections.texts(connection, project_id, {row.collection_id for row in rows})
    rated = _grouped(
        connection, project_id, fetch(connection, _CURRENT_RATINGS, wanted, project_id)
    )
    odd = prompt_templates.odd_ones(connection, project_id, templates)
    return {
        row.id: _response(
            row,
            templates.get(row.prompt_template_id, "null"),
            _resolved(row.resolved) or resolved.get(row.prompt_template_id, _NOTHING_RESOLVED),
            collection_of[row.collection_id],
            rated,
            wire_prompt(row.prompt) if row.prompt_template_id in odd else wire_json(row.prompt),
        )
        for row in rows
    }


def ratings_of_job(connection: Connection, job: AnyRow, response_ids: Sequence[int]) -> list[str]:
    """The ratings that one job made, also where newer ones exist: a list for each id.

    Of one that is of a run, those that the run has by the criteria of the job, whoever made them.
    """
    wanted, project_id = ids_text(set(response_ids)), job.project_id
    if job.run_id is None:
        rows = fetch(connection, _RATINGS_OF_JOB, wanted, job.task_id, project_id)
    else:
        rows = fetch(connection, _RATINGS_OF_RUN, wanted, job.run_id, job.id, project_id)
    rated = _grouped(connection, project_id, rows)
    return [f"[{','.join(rated.get(response_id, ()))}]" for response_id in response_ids]


def failures(items: Sequence[AnyRow]) -> str:
    """The items of a job that have failed."""
    return to_json(
        [
            ItemFailure(index=row.position, code=row.failure_code, message=row.failure_message)
            for row in items
            if row.failure_code is not None
        ]
    ).decode()


def _response(
    row: AnyRow,
    template: str,
    resolved: str,
    collection: str,
    rated: Mapping[int, Sequence[str]],
    prompt: str,
) -> str:
    return (
        f'{{"id":{row.id},"prompt":{{"id":{row.prompt_id},"prompt_template":{template},'
        f'"template_variables":{{"id":{row.entry_id},"input_values":{wire_json(row.input_values)},'
        f'"collection":{collection},"environment_config":{wire_json(row.environment_config)},'
        f'"created_at":{wire_time(row.entry_created_at)}}},"messages":{prompt},'
        f'"created_at":{wire_time(row.prompt_created_at)},{resolved},'
        f'"is_stale":{"true" if row.is_stale else "false"}}},'
        f'"messages":{wire_messages(row.messages)},"generation_metadata":{_metadata(row)},'
        f'"error":{wire_text(row.error)},"epoch":{row.epoch},'
        f'"termination_reason":{wire_text(row.termination_reason)},'
        f'"trajectory":{wire_json(row.trajectory)},'
        f'"ratings":[{",".join(rated.get(row.id, ()))}],"annotation":{wire_text(row.annotation)},'
        f'"created_at":{wire_time(row.created_at)}}}'
    )


@lru_cache(maxsize=256)
def _resolved(column: str | None) -> str | None:
    """The parts that a conversation has put in place of the template's; None for none."""
    told: dict[str, Any] = {} if column is None else read_json(column)
    if "tools" not in told:
        return None
    return (
        f'"resolved_tools":{dump(told["tools"])},"resolved_tool_choice":{dump(told["tool_choice"])}'
        f',"resolved_response_format":{dump(told["response_format"])}'
    )


def _metadata(row: AnyRow) -> str:
    config = row.llm_model_config
    others = (row.custom_api_info, row.trajectory_ingest_error)
    if (config, *figures_of(row), *others) == (None,) * 8:
        return "null"
    return metadata_text(wire_config(config), row, *others)


def figures_of(row: AnyRow) -> tuple[Any, ...]:
    """The figures of a model's call, as the columns of a response or of a rating have them."""
    tokens = (row.input_tokens, row.output_tokens, row.reasoning_tokens, row.cached_tokens)
    return row.duration_seconds, *tokens


def metadata_text(
    config: str, row: AnyRow, custom_api_info: str | None = None, ingest_error: str | None = None
) -> str:
    """How a model's answer came about, with the configuration as the wire has it."""
    duration, *tokens = figures_of(row)
    shown = [*map(wire_count, tokens)]
    return (
        f'{{"llm_model_config":{config},"duration_seconds":{wire_number(duration)},'
        f'"input_tokens":{shown[0]},"output_tokens":{shown[1]},"reasoning_tokens":{shown[2]},'
        f'"cached_tokens":{shown[3]},"custom_api_info":{wire_json(custom_api_info)},'
        f'"trajectory_ingest_error":{wire_text(ingest_error)}}}'
    )


def judging_text(row: AnyRow) -> str:
    """How a rating came about; null where an earlier version made it."""
    if row.llm_model_name is None:
        return "null"
    return metadata_text(wire_judge(row.llm_model_name), row)


def _grouped(
    connection: Connection, project_id: int, rows: Sequence[AnyRow]
) -> dict[int, list[str]]:
    asked = criteria.texts(connection, project_id, {row.criterion_id for row in rows})
    grouped: dict[int, list[str]] = {}
    for row in rows:
        grouped.setdefault(row.response_id, []).append(
            f'{{"id":{row.id},"criterion":{asked[row.criterion_id]},'
            f'"rating":{wire_text(row.rating)},"reasoning":{wire_text(row.reasoning)},'
            f'"generation_metadata":{judging_text(row)},'
            f'"created_at":{wire_time(row.created_at)}}}'
        )
    return grouped
