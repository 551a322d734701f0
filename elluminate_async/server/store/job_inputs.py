"""The inputs that it takes to generate a response, or to rate it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from elluminate_async.schemas.collections import with_defaults
from elluminate_async.schemas.prompt_templates import placeholders_in
from elluminate_async.schemas.trajectories import Trajectory, messages_of, read_trajectory
from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.store import (
    agent_tasks,
    at_work,
    criteria,
    llm_configs,
    responses,
    running,
)
from elluminate_async.server.store.prompts import columns_of, excess_of, lacking
from elluminate_async.server.store.rows import AnyRow, fetch
from elluminate_async.server.store.wire_json import ids_text, read_json, read_messages, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import Criterion, LLMConfig
    from elluminate_async.server.store.llm_configs import StoredConfig
    from elluminate_async.server.store.responses import GeneratedResponse
    from elluminate_async.server.store.rows import AnyRow


@dataclass(frozen=True, slots=True)
class Work:
    """One response and all that its generation and rating need.

    Attributes:
        prompt: The filled-in messages.
        messages: The output; None while it is not generated.
        error: Why it has no output.
        criteria: The questions of its experiment's criterion set.
        lacking: By criterion, why it cannot be asked: the task's row lacks what it names.
        config: Which model answers.
        given: The answer that it has in a column of its row, or that nothing can be asked; None
            for one that a model gives.
        is_keyed: Whether other jobs may want it too, by the key that it has.
        sampling: The configuration with the experiment's own parameters over it; works
            with the same share it.
    """

    response_id: int
    prompt: list[dict[str, Any]]
    messages: list[dict[str, Any]] | None
    error: str | None
    criteria: Sequence[Criterion]
    config: StoredConfig
    sampling: LLMConfig
    response_format: dict[str, Any] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    given: GeneratedResponse | None = None
    is_keyed: bool = False
    lacking: Mapping[int, str] = field(default_factory=dict[int, str])

    @property
    def obstacle(self) -> str | None:
        """Why no judge can be asked by all criteria; None where one can."""
        for id in (one.id for one in self.criteria if one.id in self.lacking):
            return f"the criterion {id} cannot be asked: {self.lacking[id]}"
        return None


_ROWS = f"""
SELECT r.id, r.is_ready, r.messages, r.error, r.item_key IS NOT NULL AS is_keyed,
 p.id AS prompt_id, p.messages AS prompt, p.resolved, t.response_format_json_schema, t.tools,
 t.tool_choice, r.trajectory,
 d.experiment_id IS NOT NULL AS is_task, v.collection_id,
 CASE WHEN d.experiment_id IS NOT NULL THEN v.input_values END AS task_values,
 e.id AS experiment_id, e.criterion_set_id, e.generation_params, e.response_column_id,
 {running.COLUMN} AS response_column,
 CASE WHEN e.response_column_id IS NOT NULL THEN v.input_values END AS row_values,
 c.id AS config_id, c.name AS config_name, c.document, c.api_key, c.is_default
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN prompts AS p ON p.id = r.prompt_id
LEFT JOIN prompt_templates AS t ON t.id = p.prompt_template_id
CROSS JOIN experiments AS e ON e.id = r.experiment_id
LEFT JOIN agent_definitions AS d ON d.experiment_id = e.id
CROSS JOIN entries AS v ON v.id = p.template_variables_id
CROSS JOIN llm_configs AS c ON c.id = coalesce(r.llm_config_id, ?)
WHERE +r.project_id = ? ORDER BY r.id"""
_RATABLE = """
SELECT r.id, EXISTS (SELECT 1 FROM criteria AS c WHERE c.criterion_set_id = e.criterion_set_id
 AND c.retired_at IS NULL) AS has_criteria
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN experiments AS e ON e.id = r.experiment_id
WHERE +r.project_id = ? AND r.is_ready"""


def require_ratable(connection: Connection, project_id: int, response_ids: Sequence[int]) -> None:
    """Return when these responses can be rated.

    Raises:
        Problem: 404 for one that is not there or not finished, 400 for one without criteria, 409
            for one that the job of its experiment is about to rate.
    """
    wanted = dict.fromkeys(response_ids)
    found = dict(fetch(connection, _RATABLE, ids_text(wanted), project_id))
    for response_id in wanted:
        if response_id not in found:
            raise not_found("response", response_id)
        if not found[response_id]:
            raise Problem(400, f"there are no criteria to rate response {response_id} by")
    at_work.require_unjudged(connection, wanted)


def load(
    connection: Connection,
    project_id: int,
    response_ids: Iterable[int],
    job_id: int | None = None,
) -> list[Work]:
    """The work of these responses, in order of id; deleted ones are left out.

    Args:
        connection: Where from.
        project_id: Of the responses.
        response_ids: Which ones.
        job_id: Their job: what it began with is to be asked. None for what is asked at present.
    """
    default = llm_configs.default_id(connection, project_id)
    rows = fetch(connection, _ROWS, ids_text(set(response_ids)), default, project_id)
    sets = {row.criterion_set_id for row in rows}
    if job_id is None:
        asked = criteria.of_sets(connection, project_id, sets)
    else:
        asked = criteria.of_job(connection, project_id, sets, job_id)
    # What comes from a template, an experiment or a configuration is read once and shared.
    configs: dict[int, StoredConfig] = {}
    samplings: dict[tuple[int, int], LLMConfig] = {}
    parse = cache(_parse)
    columns = columns_of(connection, (row for row in rows if row.is_task))
    prompts: dict[int, list[dict[str, Any]]] = {}
    result: list[Work] = []
    for row in rows:
        config_id, kind = row.config_id, (row.config_id, row.experiment_id)
        if config_id not in configs:
            configs[config_id] = llm_configs.stored(
                config_id, row.config_name, row.document, row.api_key, row.is_default
            )
        if kind not in samplings:
            params = parse(row.generation_params)
            samplings[kind] = _sampling(configs[config_id].config, params)
        if row.prompt_id not in prompts:
            prompts[row.prompt_id] = read_messages(row.prompt)
        asks, unfilled = asked[row.criterion_set_id], dict[int, str]()
        if row.is_task:
            values = with_defaults(columns[row.collection_id], read_json(row.task_values))
            asks, unfilled = _applied(asks, values)
        resolved = parse(row.resolved)
        if resolved is None or "problem" in resolved:
            tools, tool_choice = parse(row.tools), parse(row.tool_choice)
            response_format = parse(row.response_format_json_schema)
        else:
            tools, tool_choice = resolved["tools"], resolved["tool_choice"]
            response_format = resolved["response_format"]
        result.append(
            Work(
                response_id=row.id,
                prompt=prompts[row.prompt_id],
                messages=_messages(row) if row.is_ready else None,
                error=row.error,
                criteria=asks,
                lacking=unfilled,
                config=configs[config_id],
                sampling=samplings[kind],
                response_format=response_format,
                tools=tools,
                tool_choice=tool_choice,
                given=_given(row, resolved, configs[config_id].deleted_name),
                is_keyed=row.is_keyed == 1,
            )
        )
    return result


def _messages(row: AnyRow) -> list[dict[str, Any]]:
    """The output; of an agent that has a trajectory, all that it tells."""
    trajectory = None if row.trajectory is None else read_trajectory(read_json(row.trajectory))
    if isinstance(trajectory, Trajectory):
        return messages_of(trajectory)
    return read_messages(row.messages or "[]")


def _applied(
    criteria: list[Criterion], values: Mapping[str, Any]
) -> tuple[list[Criterion], dict[int, str]]:
    """The criteria with the values of a task for an agent, and why some cannot be asked."""
    applied = [
        one.model_copy(
            update={"criterion_str": agent_tasks.applied(one, values).rendered_criterion_str}
        )
        for one in criteria
    ]
    named = {one.id: placeholders_in([{"content": one.criterion_str}]) for one in criteria}
    problems = {id: lacking(names, values) for id, names in named.items()}
    return applied, {id: problem for id, problem in problems.items() if problem is not None}


def _given(
    row: AnyRow, resolved: dict[str, Any] | None, deleted_name: str | None
) -> GeneratedResponse | None:
    """The response that needs no model: of a column, or the reason why none can be asked."""
    if resolved is not None and (excess := excess_of(resolved)):
        # Also of one that a column answers: there is no prompt to judge it by.
        return responses.GeneratedResponse([], excess, None)
    if row.response_column_id is not None:
        return running.of_column(row.response_column, row.row_values)
    if resolved is not None and "problem" in resolved:
        return responses.GeneratedResponse([], resolved["problem"], None)
    if deleted_name is not None:
        return responses.GeneratedResponse([], running.of_deleted(deleted_name), None)
    return None


def _parse(column: str | None) -> Any:
    return None if column is None else read_json(column)


def _sampling(config: LLMConfig, generation_params: dict[str, Any] | None) -> LLMConfig:
    known = type(config).model_fields.keys()
    own = {k: v for k, v in (generation_params or {}).items() if k in known and v is not None}
    # Of a database of before they were checked, those of the wrong type are left out.
    over = readable(own).model_dump(include=set(own))
    # These two exclude each other, also where the configuration has the other one.
    if over.get("reasoning_effort") is not None:
        over["temperature"] = None
    elif over.get("temperature") is not None:
        over["reasoning_effort"] = None
    return config.model_copy(update=over)
