"""What must be known of a response to generate it or to rate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elluminate_async.server.store import criteria, llm_configs, tables
from elluminate_async.server.store.rows import rows_by_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from elluminate_async.schemas import Criterion
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
        generation_params: The experiment's own sampling, over the configuration's.
    """

    response_id: int
    prompt: list[dict[str, Any]]
    messages: list[dict[str, Any]] | None
    error: str | None
    criteria: tuple[Criterion, ...]
    config: StoredConfig
    generation_params: dict[str, Any]
    response_format: dict[str, Any] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None


def load(connection: Connection, project_id: int, response_ids: Iterable[int]) -> list[Work]:
    """The work of these responses, in order of id; deleted ones are left out."""
    rows = rows_by_id(connection, tables.responses, project_id, response_ids)

    def of(table: Any, ids: Iterable[int]) -> dict[int, Any]:
        return rows_by_id(connection, table, project_id, ids)

    prompts = of(tables.prompts, {row.prompt_id for row in rows.values()})
    templates = of(
        tables.prompt_templates, {prompt.prompt_template_id for prompt in prompts.values()}
    )
    experiments = of(tables.experiments, {row.experiment_id for row in rows.values()})
    asked = criteria.of_sets(
        connection, project_id, {one.criterion_set_id for one in experiments.values()}
    )
    default = llm_configs.default_id(connection, project_id)
    configs = llm_configs.stored(
        connection, project_id, {default, *(row.llm_config_id or default for row in rows.values())}
    )
    result: list[Work] = []
    for response_id, row in sorted(rows.items()):
        prompt = prompts[row.prompt_id]
        template = templates[prompt.prompt_template_id]
        experiment = experiments[row.experiment_id]
        result.append(
            Work(
                response_id=response_id,
                prompt=prompt.messages,
                messages=row.messages if row.is_ready else None,
                error=row.error,
                criteria=tuple(asked[experiment.criterion_set_id]),
                config=configs[row.llm_config_id or default],
                generation_params=experiment.generation_params or {},
                response_format=template.response_format_json_schema,
                tools=template.tools,
                tool_choice=template.tool_choice,
            )
        )
    return result
