"""Experiments: what is tried with what, and how it turned out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import Experiment, JobStatusName
from elluminate_async.server.problems import Problem, taken
from elluminate_async.server.store import (
    agent_tasks,
    collections,
    counts,
    criterion_sets,
    llm_configs,
    nearest,
    prompt_templates,
    result_counts,
    results,
    running,
    scenario_sets,
    tables,
)
from elluminate_async.server.store.rows import (
    AnyRow,
    fetch,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
)
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elluminate_async.schemas import CreateExperimentRequest
    from elluminate_async.server.store.cells import CellFilter

_LOG = logging.getLogger(__name__)

table = tables.experiments

_LAST_RUNS = """
SELECT experiment_id, status, processed, total FROM jobs WHERE id IN
 (SELECT max(id) FROM jobs WHERE kind = 'experiment'
  AND experiment_id IN (SELECT value FROM json_each(?)) GROUP BY experiment_id)"""


def create(connection: Connection, project_id: int, body: CreateExperimentRequest) -> int:
    """A new experiment; nothing is generated yet.

    Returns:
        Its id.

    Raises:
        Problem: 409 when the name is taken, 404 for what it refers to and is not there.
    """
    same_name = select(table.c.id).where(
        table.c.project_id == project_id, table.c.name == body.name
    )
    if connection.execute(same_name).first() is not None:
        raise taken("an experiment", body.name)
    if body.scenario_set_id is not None:
        scenario_sets.require(connection, project_id, body.scenario_set_id)
    elif body.collection_id is None:
        # Official clients cannot read an experiment that has none.
        raise Problem(422, "collection_id: an experiment needs a collection, or a scenario set")
    has_responses = _has_response_column(connection, project_id, body)
    if body.llm_config_id is not None:
        llm_configs.get(connection, project_id, body.llm_config_id)
    criterion_set_id = _criterion_set(connection, project_id, body)
    (experiment_id,) = reserve_ids(connection, table)
    time = now()
    connection.execute(
        insert(table),
        {
            "id": experiment_id,
            "project_id": project_id,
            "name": body.name,
            "description": body.description,
            "prompt_template_id": body.prompt_template_id,
            "collection_id": body.collection_id,
            "criterion_set_id": criterion_set_id,
            "llm_config_id": body.llm_config_id,
            "generation_task_id": None,
            "generation_params": body.generation_params,
            "rating_mode": body.rating_mode,
            # A column has one response for each row.
            "n_epochs": 1 if has_responses else body.n_epochs,
            "logs": None,
            "rating_version": _rating_version(body),
            "response_column_id": body.response_column_id,
            "evaluation_mode": body.evaluation_mode,
            "agent_config": body.agent_config,
            "evaluation_agent_config": body.evaluation_agent_config,
            "persona_group_id": body.persona_group_id,
            "scenario_set_id": body.scenario_set_id,
            "created_at": time,
            "updated_at": time,
        },
    )
    if body.evaluation_mode == "AGENTIC":
        agent_tasks.freeze(connection, experiment_id, body.collection_id)
    return experiment_id


def _has_response_column(
    connection: Connection, project_id: int, body: CreateExperimentRequest
) -> bool:
    columns: list[dict[str, Any]] = []
    if body.collection_id is not None:
        columns = collections.row(connection, project_id, body.collection_id).columns
    if body.response_column_id is None:
        return False
    if not running.column_of(columns, body.response_column_id):
        where = f"collection {body.collection_id}"
        if body.collection_id is None:
            where = "a scenario set"
        raise Problem(422, f"response_column_id: {where} has no column {body.response_column_id}")
    return True


def _rating_version(body: CreateExperimentRequest) -> str:
    wanted, found = body.rating_version, running.DEFAULT_RATING_VERSION
    if wanted not in (None, "latest", found):
        _LOG.info("experiment %r is rated by %s: there is no %.80r", body.name, found, wanted)
    return found


def _criterion_set(connection: Connection, project_id: int, body: CreateExperimentRequest) -> int:
    if body.prompt_template_id is not None:
        prompt_templates.get(connection, project_id, body.prompt_template_id)
    if body.criterion_set_id is not None:
        criterion_sets.require(connection, project_id, body.criterion_set_id)
        return body.criterion_set_id
    if body.prompt_template_id is not None:
        return criterion_sets.of_template(connection, project_id, body.prompt_template_id)
    # Official clients cannot read an experiment that has none.
    return criterion_sets.create_empty(connection, project_id, f"{body.name} criteria")


def get(
    connection: Connection,
    project_id: int,
    experiment_id: int,
    *,
    legacy: bool,
    official: bool,
    cells: CellFilter | None = None,
) -> Experiment:
    """One experiment with its results; what they are for is as in `results.of_experiments`."""
    row(connection, project_id, experiment_id)
    if cells is not None:
        cells.require(connection, [experiment_id])
    found = documents(
        connection, project_id, [experiment_id], legacy=legacy, official=official, cells=cells
    )
    return found[experiment_id]


def row(connection: Connection, project_id: int, experiment_id: int) -> AnyRow:
    """The stored row; 404 when there is none."""
    return row_by_id(connection, table, project_id, "experiment", experiment_id)


def find_ids(
    connection: Connection,
    project_id: int,
    name: str | None = None,
    prompt_template_id: int | None = None,
    collection_id: int | None = None,
    llm_config_id: int | None = None,
) -> list[int]:
    """Ids in order of creation."""
    query = select(table.c.id).where(table.c.project_id == project_id)
    for column, value in (
        (table.c.name, name),
        (table.c.prompt_template_id, prompt_template_id),
        (table.c.collection_id, collection_id),
        (table.c.llm_config_id, llm_config_id),
    ):
        if value is not None:
            query = query.where(column == value)
    return list(connection.scalars(query.order_by(table.c.id)))


def documents(
    connection: Connection,
    project_id: int,
    ids: Iterable[int],
    *,
    legacy: bool,
    official: bool,
    cells: CellFilter | None = None,
) -> dict[int, Experiment]:
    """The experiments of these ids, with their results, or those ``among`` some responses."""
    rows = rows_by_id(connection, table, project_id, ids)
    templates = prompt_templates.documents(connection, project_id, _ids(rows, "prompt_template_id"))
    parents = collections.documents(connection, project_id, _ids(rows, "collection_id"))
    scenarios = scenario_sets.documents(connection, project_id, _ids(rows, "scenario_set_id"))
    sets = criterion_sets.documents(connection, project_id, _ids(rows, "criterion_set_id"))
    default = llm_configs.default_id(connection, project_id)
    configs = llm_configs.documents(connection, project_id, {default, *_ids(rows, "llm_config_id")})
    failed = _failed_by_server(connection, rows)
    dropped = result_counts.dropped(connection, rows)
    found = results.of_experiments(
        connection, rows.values(), legacy=legacy, official=official, cells=cells
    )
    return {
        experiment_id: Experiment(
            id=experiment_id,
            name=row.name,
            description=row.description,
            prompt_template=templates.get(row.prompt_template_id),
            collection=parents.get(row.collection_id)
            or scenario_sets.as_collection(scenarios.get(row.scenario_set_id))
            or nearest.no_collection(experiment_id, row.created_at),
            criterion_set=sets[row.criterion_set_id],
            llm_config=configs[row.llm_config_id or default],
            generation_task_id=row.generation_task_id,
            has_internal_error=experiment_id in failed,
            dropped_trajectories=dropped.get(experiment_id, 0),
            results=found.get(experiment_id),
            logs=row.logs,
            generation_params=nearest.params(row.generation_params, experiment_id, whole=official),
            rating_version=row.rating_version or running.DEFAULT_RATING_VERSION,
            n_epochs=row.n_epochs,
            response_column_id=row.response_column_id,
            evaluation_mode=nearest.evaluation_mode(row.evaluation_mode, experiment_id),
            agent_config=row.agent_config,
            evaluation_agent_config=row.evaluation_agent_config,
            persona_group_id=row.persona_group_id,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for experiment_id, row in rows.items()
    }


def _failed_by_server(connection: Connection, rows: dict[int, AnyRow]) -> set[int]:
    """Ids of those whose last run was ended by a fault of the server, with items left to do.

    Of agents the server does nothing but judge: a judgement that failed is such a fault, too.
    """
    return {
        job.experiment_id
        for job in fetch(connection, _LAST_RUNS, ids_text(rows))
        if job.status == JobStatusName.FAILURE
        and (rows[job.experiment_id].evaluation_mode == "AGENTIC" or job.processed < job.total)
    }


def _ids(rows: dict[int, AnyRow], column: str) -> set[int]:
    found: set[Any] = {getattr(row, column) for row in rows.values()}
    return found - {None}


def edit(
    connection: Connection, project_id: int, experiment_id: int, values: dict[str, Any]
) -> None:
    """Change columns."""
    row(connection, project_id, experiment_id)
    connection.execute(
        update(table).where(table.c.id == experiment_id).values(**values, updated_at=now())
    )


def started(connection: Connection, experiment_id: int, task_id: str) -> None:
    """Note the job that generates and rates."""
    connection.execute(
        update(table).where(table.c.id == experiment_id).values(generation_task_id=task_id)
    )


def logs(connection: Connection, project_id: int, experiment_id: int) -> str:
    """The log lines that were written while it ran."""
    return row(connection, project_id, experiment_id).logs or ""


def log(connection: Connection, experiment_id: int, line: str, **changes: object) -> None:
    """Add a line to the log, and change columns with it."""
    before = connection.execute(
        select(table.c.logs).where(table.c.id == experiment_id)
    ).scalar_one_or_none()
    connection.execute(
        update(table)
        .where(table.c.id == experiment_id)
        .values(logs=f"{before or ''}{line}\n", updated_at=now(), **changes)
    )


def ended(connection: Connection, experiment_id: int, line: str) -> None:
    """Note the end of the job, as a line of the log, and how long it has taken.

    Another that still goes on is the experiment's then.
    """
    jobs = tables.jobs
    begun = connection.execute(
        select(table.c.run_seconds, jobs.c.created_at)
        .join(jobs, jobs.c.task_id == table.c.generation_task_id)
        .where(table.c.id == experiment_id)
    ).one_or_none()
    going_on = (
        select(jobs.c.task_id)
        .where(
            jobs.c.experiment_id == experiment_id,
            jobs.c.kind == "experiment",
            jobs.c.finished_at.is_(None),
        )
        .order_by(jobs.c.id.desc())
        .limit(1)
    )
    changes: dict[str, object] = {"generation_task_id": going_on.scalar_subquery()}
    if begun is not None:
        seconds = (now() - begun.created_at).total_seconds()
        changes["run_seconds"] = (begun.run_seconds or 0.0) + seconds
    log(connection, experiment_id, line, **changes)


def remove(connection: Connection, project_id: int, experiment_id: int) -> None:
    """Delete one, with its responses, ratings and jobs."""
    row(connection, project_id, experiment_id)
    connection.execute(delete(table).where(table.c.id == experiment_id))


def count_in(connection: Connection, project_id: int, collection_id: int | None) -> int:
    """Rows of a collection; 0 where there is none."""
    del project_id
    if collection_id is None:
        return 0
    return counts.entries_of(connection, [collection_id]).get(collection_id, 0)


def count_to_run(connection: Connection, project_id: int, experiment_id: int) -> int:
    """Rows of an experiment's collection."""
    one = row(connection, project_id, experiment_id)
    return count_in(connection, project_id, one.collection_id)


def entries_to_run(connection: Connection, project_id: int, experiment_id: int) -> list[int]:
    """Ids of the entries that the experiment is to have responses to, in order.

    Raises:
        Problem: 400 when it has run before, or cannot run.
    """
    one = row(connection, project_id, experiment_id)
    running.require_mode(one)
    if one.collection_id is None:
        raise Problem(400, f"experiment {experiment_id} needs a collection to run")
    columns = collections.get(connection, project_id, one.collection_id).columns
    has_column = running.prompts_column(columns, one.response_column_id, ()) is not None
    if one.prompt_template_id is None and not has_column:
        raise running.no_prompt(experiment_id)
    jobs = tables.jobs
    before = (
        select(jobs.c.id)
        .where(jobs.c.experiment_id == experiment_id, jobs.c.kind == "experiment")
        .limit(1)
    )
    if connection.execute(before).first() is not None:
        raise Problem(400, f"experiment {experiment_id} has been run already")
    entries = tables.entries
    query = select(entries.c.id).where(entries.c.collection_id == one.collection_id)
    return list(connection.scalars(query.order_by(entries.c.id)))
