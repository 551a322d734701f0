"""Maps of experiments: a page of samples, with what there is to each response but its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from elluminate_async.schemas import (
    ExperimentMap,
    ExperimentMapResponse,
    ExperimentMapSample,
    RatingValue,
)
from elluminate_async.server.store import counts, experiments, paging, tables
from elluminate_async.server.store.rows import rows_by_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import AnyRow, PageRequest

table = tables.responses
ratings = tables.ratings

TASK_COLUMN = "task"
"""Of collections for agents, the column of a task's name."""


def page(
    connection: Connection, project_id: int, experiment_id: int, request: PageRequest
) -> ExperimentMap:
    """One page of an experiment's samples, in the order of the collection's rows."""
    experiment = experiments.row(connection, project_id, experiment_id)
    place = (request.start, request.size)
    entry_ids, total = paging.samples(connection, project_id, experiment_id, *place)
    _, responses = counts.finished_ids(connection, project_id, experiment_id, 0, 0)
    tasks = _tasks(connection, project_id, experiment, entry_ids)
    by_entry: dict[int, list[ExperimentMapResponse]] = {entry_id: [] for entry_id in entry_ids}
    for row in _responses(connection, experiment_id, entry_ids):
        costs = (row.input_cost_usd, row.output_cost_usd)
        by_entry[row.template_variables_id].append(
            ExperimentMapResponse(
                response_id=row.id,
                epoch=row.epoch,
                task_name=tasks.get(row.template_variables_id),
                has_trajectory=row.has_trajectory,
                total_steps=row.steps,
                total_cost_usd=None if None in costs else sum(costs),
                has_error=row.has_error,
                num_criteria_passed=row.passed if row.rated else None,
                num_criteria_failed=row.rated - row.passed if row.rated else None,
            )
        )
    return ExperimentMap(
        experiment_id=experiment_id,
        name=experiment.name,
        num_samples=total,
        num_responses=responses,
        samples=[
            ExperimentMapSample(template_variables_id=entry_id, responses=found)
            for entry_id, found in by_entry.items()
        ],
    )


def _responses(
    connection: Connection, experiment_id: int, entry_ids: Sequence[int]
) -> Sequence[AnyRow]:
    current = (ratings.c.response_id == table.c.id, ratings.c.is_current)
    is_yes = case((ratings.c.rating == RatingValue.YES, 1), else_=0)
    rated = select(func.count()).where(*current).scalar_subquery()
    passed = select(func.coalesce(func.sum(is_yes), 0)).where(*current).scalar_subquery()
    query = select(
        table.c.id,
        table.c.template_variables_id,
        table.c.epoch,
        table.c.input_cost_usd,
        table.c.output_cost_usd,
        table.c.trajectory.is_not(None).label("has_trajectory"),
        func.json_array_length(table.c.trajectory["steps"]).label("steps"),
        table.c.error.is_not(None).label("has_error"),
        rated.label("rated"),
        passed.label("passed"),
    ).where(
        table.c.experiment_id == experiment_id,
        paging.READY,
        table.c.template_variables_id.in_(entry_ids),
    )
    return connection.execute(query.order_by(table.c.template_variables_id, table.c.id)).all()


def _tasks(
    connection: Connection, project_id: int, experiment: AnyRow, entry_ids: Sequence[int]
) -> dict[int, str]:
    """Names of agents' tasks, by row."""
    parents = rows_by_id(connection, tables.collections, project_id, [experiment.collection_id])
    if not any(one.collection_type == "AGENTIC" for one in parents.values()):
        return {}
    rows = rows_by_id(connection, tables.entries, project_id, entry_ids)
    named = {entry_id: row.input_values.get(TASK_COLUMN) for entry_id, row in rows.items()}
    return {entry_id: name for entry_id, name in named.items() if isinstance(name, str)}
