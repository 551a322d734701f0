"""Retries of an experiment: of failed responses, and of good ones without a verdict.

A failed response stays as it is until its successor is there, and then gives it its place: its id,
its epoch and its prompt, or its row's where it had none to ask. So there is one response to each at
any time, whatever ends the job.

Good responses that have all the verdicts that they were asked for stay as they are, whatever has
become of the criteria since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elluminate_async.server.problems import Problem
from elluminate_async.server.store import (
    accepting,
    at_work,
    experiments,
    llm_configs,
    new_responses,
    ratings,
    running,
)
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.rows import fetch, run_many
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from elluminate_async.schemas import RetryFailedRequest
    from elluminate_async.server.store.in_flight import Calls
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.jobs import JobKind, JobReport
    from elluminate_async.server.store.rows import AnyRow

_SHOWN = 10

_MISSING = """
c.criterion_set_id = ?2 AND c.retired_at IS NULL AND NOT EXISTS
 (SELECT 1 FROM ratings AS g
  WHERE g.response_id = r.id AND g.criterion_id = c.id AND g.is_current)"""
# Of the ratings that a response has: by which jobs they are, and when the criteria were read. They
# may have been replaced while the judge was at work, and single calls leave no job.
_RATED_BY = """
SELECT j.id AS job_id,
 max(coalesce(j.created_at, min(g.created_at, coalesce(k.retired_at, g.created_at)))) AS read_at
FROM ratings AS g JOIN criteria AS k ON k.id = g.criterion_id
LEFT JOIN jobs AS j ON j.task_id = g.job_id WHERE g.response_id = r.id AND g.is_current
GROUP BY j.id"""
# Jobs tell what they asked. Where there is none, as those of ratings are forgotten with the time,
# and for those of earlier versions it is by the time, which is as near as is known.
_WAS_ASKED = """
CASE WHEN EXISTS (SELECT 1 FROM job_criteria AS a WHERE a.job_id = o.job_id)
THEN EXISTS (SELECT 1 FROM job_criteria AS a WHERE a.job_id = o.job_id AND a.criterion_id = c.id)
ELSE c.created_at <= o.read_at END"""
_TODO = f"""
SELECT r.id, r.error IS NOT NULL AS is_failed, r.annotation <> '' AS is_annotated,
 r.trajectory IS NOT NULL OR r.messages <> '[]' AS has_text,
 EXISTS (SELECT 1 FROM ratings AS o WHERE o.response_id = r.id AND o.job_id IS NULL
  AND o.llm_model_name IS NULL) AS is_rated_elsewhere
FROM responses AS r WHERE r.experiment_id = ?1 AND r.is_ready AND (r.error IS NOT NULL
 OR EXISTS (SELECT 1 FROM criteria AS c WHERE {_MISSING}) AND
  (NOT EXISTS (SELECT 1 FROM ratings AS g WHERE g.response_id = r.id AND g.is_current)
  OR EXISTS (SELECT 1 FROM ({_RATED_BY}) AS o CROSS JOIN criteria AS c
   WHERE {_MISSING} AND {_WAS_ASKED})))
ORDER BY r.id"""
_RUNNING = """
SELECT task_id FROM jobs WHERE experiment_id = ? AND kind = ? AND finished_at IS NULL LIMIT 1"""
_CONFIGS = f"""
SELECT DISTINCT json_extract(c.document, '$.{llm_configs.DELETED_NAME}') AS deleted_name
FROM json_each(?) AS wanted CROSS JOIN responses AS r ON r.id = wanted.value
CROSS JOIN llm_configs AS c ON c.id = r.llm_config_id
WHERE json_extract(c.document, '$.{llm_configs.DELETED_NAME}') IS NOT NULL"""
_DISCARD = "UPDATE responses SET annotation = '' WHERE id IN (SELECT value FROM json_each(?))"
_GENERATED = "UPDATE jobs SET generated = ? WHERE task_id = ?"
_SUPERSEDE = "UPDATE ratings SET is_current = 0 WHERE is_current AND response_id = ?"


def begin(
    connection: Connection,
    project_id: int,
    experiment_id: int,
    kind: JobKind,
    body: RetryFailedRequest,
    calls: Calls,
) -> str | None:
    """Accept a job for what failed; its task id, None where there is nothing to do.

    Raises:
        Problem: 404 when there is no such experiment; 409 while a job or one of ``calls`` works on
            it, and where annotations would be lost; 400 where what is to be generated has no
            configuration any more.
    """
    experiment = experiments.row(connection, project_id, experiment_id)
    for job in fetch(connection, _RUNNING, experiment_id, kind):
        raise at_work.busy(f"experiment {experiment_id}", job.task_id)
    todo = fetch(connection, _TODO, experiment_id, experiment.criterion_set_id)
    if experiment.evaluation_mode == "AGENTIC":
        # No model answers in the place of an agent that failed, and none judges what came rated.
        todo = [
            row for row in todo if row.has_text and not row.is_failed and not row.is_rated_elsewhere
        ]
    if not todo:
        return None
    ids = [row.id for row in todo]
    at_work.require_none(connection, ids, calls)
    if experiment.response_column_id is None:
        failed_ids = ids_text(row.id for row in todo if row.is_failed)
        for config in fetch(connection, _CONFIGS, failed_ids):
            raise Problem(400, running.of_deleted(config.deleted_name))
    _discard(connection, todo, may_discard=body.discard_annotations)
    new_responses.ask_anew(connection, project_id, (row.id for row in todo if row.is_failed))
    new = NewJob(kind, ids, body.rating_mode, experiment_id)
    task_id = accepting.accept(connection, project_id, new)
    failed = sum(row.is_failed for row in todo)
    run_many(connection, _GENERATED, [(len(todo) - failed, task_id)])
    experiments.started(connection, experiment_id, task_id)
    line = f"retry: {failed} responses to be generated again, {len(todo) - failed} to be rated"
    experiments.log(connection, experiment_id, line)
    return task_id


def _discard(connection: Connection, todo: Iterable[AnyRow], *, may_discard: bool) -> None:
    """Remove what was written on responses that failed, as it is not about their successors."""
    annotated = [row.id for row in todo if row.is_failed and row.is_annotated]
    if not annotated:
        return
    if not may_discard:
        shown = ", ".join(map(str, annotated[:_SHOWN]))
        rest = f" and {len(annotated) - _SHOWN} more" if len(annotated) > _SHOWN else ""
        raise Problem(
            409,
            f"the annotations of the failed responses {shown}{rest} would be lost: keep them "
            "elsewhere, and retry with discard_annotations",
        )
    run_many(connection, _DISCARD, [(ids_text(annotated),)])


@dataclass(frozen=True, slots=True)
class OpenWork:
    """The part of an experiment's job that is left to do.

    Attributes:
        todo: Without a word of the failures that are to be replaced, and with the criteria that
            have no verdict.
        replaced: Responses that failed, and stay as they are until then.
    """

    todo: list[Work]
    replaced: frozenset[int]


def open_work(connection: Connection, works: Iterable[Work]) -> OpenWork:
    """The work that is left of items that are open: no part of them is done twice."""
    works = list(works)
    good = [one.response_id for one in works if one.messages is not None and one.error is None]
    rated = ratings.current_criteria(connection, good)
    todo: list[Work] = []
    replaced = set[int]()
    for one in works:
        if one.error is not None:
            # An item that failed in this job has ended with that: this failure is of before.
            replaced.add(one.response_id)
            todo.append(replace(one, messages=None, error=None))
        elif done := rated.get(one.response_id):
            left = [criterion for criterion in one.criteria if criterion.id not in done]
            todo.append(replace(one, criteria=left))
        else:
            todo.append(one)
    return OpenWork(todo, frozenset(replaced))


def supersede(connection: Connection, reports: Iterable[JobReport]) -> None:
    """Make the ratings of responses that get another answer those of before."""
    replaced = [
        (step.response_id,)
        for report in reports
        for step in report.steps
        if step.answer is not None and step.response_id in report.plan.replaced
    ]
    run_many(connection, _SUPERSEDE, replaced)
