"""What must be known of a response to generate it or to rate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.store import criteria, llm_configs, tables
from elluminate_async.server.store.rows import fetch, rows_by_id
from elluminate_async.server.store.text import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import Criterion, LLMConfig
    from elluminate_async.server.store.llm_configs import StoredConfig


@dataclass(frozen=True, slots=True)
class Work:
    """One response and all that its generation and rating need.

    Attributes:
        prompt: The filled-in messages.
        messages: The output; None while it is not generated.
        error: Why it has no output.
        criteria: The questions of its experiment's criterion set.
        config: Which model answers.
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


_ROWS = """
SELECT r.id, r.is_ready, r.messages, r.error, r.llm_config_id, r.experiment_id,
 p.messages AS prompt, p.prompt_template_id
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN prompts AS p ON p.id = r.prompt_id
WHERE +r.project_id = ? ORDER BY r.id"""


_RATABLE = """
SELECT r.id, EXISTS (SELECT 1 FROM criteria AS c WHERE c.criterion_set_id = e.criterion_set_id)
 AS has_criteria
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN experiments AS e ON e.id = r.experiment_id
WHERE +r.project_id = ? AND r.is_ready"""


def require_ratable(connection: Connection, project_id: int, response_ids: Sequence[int]) -> None:
    """404 for a response that is not there or not finished, 400 for one without criteria."""
    wanted = dict.fromkeys(response_ids)
    found = dict(fetch(connection, _RATABLE, ids_text(wanted), project_id))
    for response_id in wanted:
        if response_id not in found:
            raise not_found("response", response_id)
        if not found[response_id]:
            raise Problem(400, f"there are no criteria to rate response {response_id} by")


def load(connection: Connection, project_id: int, response_ids: Iterable[int]) -> list[Work]:
    """The work of these responses, in order of id; deleted ones are left out."""
    rows = fetch(connection, _ROWS, ids_text(set(response_ids)), project_id)

    def of(table: Any, ids: Iterable[int]) -> dict[int, Any]:
        return rows_by_id(connection, table, project_id, ids)

    templates = of(tables.prompt_templates, {row.prompt_template_id for row in rows})
    experiments = of(tables.experiments, {row.experiment_id for row in rows})
    asked = criteria.of_sets(
        connection, project_id, {one.criterion_set_id for one in experiments.values()}
    )
    default = llm_configs.default_id(connection, project_id)
    configs = llm_configs.stored(
        connection, project_id, {default, *(row.llm_config_id or default for row in rows)}
    )
    samplings: dict[tuple[int, int], LLMConfig] = {}
    result: list[Work] = []
    for row in rows:
        template = templates[row.prompt_template_id]
        experiment = experiments[row.experiment_id]
        config_id = row.llm_config_id or default
        config = configs[config_id]
        kind = (config_id, experiment.id)
        if kind not in samplings:
            samplings[kind] = _sampling(config.config, experiment.generation_params)
        result.append(
            Work(
                response_id=row.id,
                prompt=from_json(row.prompt),
                messages=from_json(row.messages or "[]") if row.is_ready else None,
                error=row.error,
                criteria=asked[experiment.criterion_set_id],
                config=config,
                sampling=samplings[kind],
                response_format=template.response_format_json_schema,
                tools=template.tools,
                tool_choice=template.tool_choice,
            )
        )
    return result


def _sampling(config: LLMConfig, generation_params: dict[str, Any] | None) -> LLMConfig:
    known = type(config).model_fields.keys()
    own = {k: v for k, v in (generation_params or {}).items() if k in known and v is not None}
    return config.model_copy(update=own)
