"""Jobs: a batch accepted, its items, and how far it got."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from elluminate_async.schemas import JobStatusName, RatingMode
from elluminate_async.server.store import (
    accepting,
    experiments,
    job_inputs,
    rating_runs,
    ratings,
    responses,
    retrying,
    tables,
)
from elluminate_async.server.store.rows import AnyRow, fetch, now, run_many
from elluminate_async.server.store.wire_json import time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.ratings import JudgeVerdict
    from elluminate_async.server.store.responses import GeneratedResponse

table = tables.jobs
items = tables.job_items

ENDED = (JobStatusName.SUCCESS, JobStatusName.FAILURE, JobStatusName.REVOKED)

_JOB = "SELECT * FROM jobs WHERE task_id = ?"
_END = "UPDATE jobs SET status = ?, error_msg = ?, finished_at = ? WHERE id = ?"
_FIRST_FAILURE = """
SELECT failure_message FROM job_items WHERE job_id = ? AND failure_code IS NOT NULL
ORDER BY position LIMIT 1"""
_OPEN_ITEMS = """
SELECT response_id, count(*) FROM job_items WHERE job_id = ? AND NOT is_done GROUP BY response_id"""
_STILL_THERE = """
SELECT id FROM responses
WHERE id IN (SELECT response_id FROM job_items WHERE job_id = ?)"""
_END_ITEM = """
UPDATE job_items SET is_done = 1, failure_code = ?, failure_message = ?
WHERE +job_id = ? AND response_id = ?"""
_PROGRESS = f"""
UPDATE jobs SET status = '{JobStatusName.STARTED}', generated = ?, rated = ?, processed = ?,
 failed = ? WHERE id = ?"""


class JobKind(StrEnum):
    """The kind of work that is done for each item."""

    RESPONSES = "responses"
    RATINGS = "ratings"
    EXPERIMENT = "experiment"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is, in items.

    Attributes:
        processed: Those that have ended, well or not.
    """

    total: int
    generated: int
    rated: int
    processed: int
    failed: int

    @property
    def is_complete(self) -> bool:
        """Whether all items have ended."""
        return self.processed == self.total


@dataclass(frozen=True, slots=True)
class Plan:
    """The rest of a job that is left to do.

    Attributes:
        gone: Responses that were deleted and are still waited for.
        places: Response id to the number of items that wait for it.
        before: How far it was.
        replaced: Responses that failed before, and get another answer.
        experiment_id: The experiment that is run, if one is.
        run_id: Of the run of ratings that it is of, if it is of one.
        rated: Responses that have all their ratings, by earlier jobs of the run.
    """

    job_id: int
    task_id: str
    project_id: int
    kind: JobKind
    experiment_id: int | None
    rating_mode: RatingMode
    todo: list[Work]
    gone: list[int]
    places: dict[int, int]
    before: JobProgress
    replaced: frozenset[int] = frozenset()
    run_id: int | None = None
    rated: Sequence[int] = ()

    @property
    def shared(self) -> list[tuple[int | None, int]]:
        """The keys of what other jobs may ask a model or the judge for too."""
        todo = self.todo
        if self.run_id is None:
            todo = [one for one in todo if one.is_keyed and one.messages is None]
        return [self.key(one.response_id) for one in todo]

    def key(self, response_id: int) -> tuple[int | None, int]:
        """Equal for the same response of jobs that want the same of it."""
        return self.run_id, response_id

    def progress(self, before: JobProgress, steps: Sequence[Step]) -> JobProgress:
        """How far the job is after some more steps."""
        generated, rated, processed, failed = (
            before.generated, before.rated, before.processed, before.failed
        )  # fmt: skip
        for step in steps:
            places = self.places.get(step.response_id, 0)
            generated += places if step.answer is not None else 0
            if step.is_last:
                processed += places
                rated += places if step.verdicts else 0
                failed += places if step.failure else 0
        return JobProgress(before.total, generated, rated, processed, failed)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of work on a response: generated, rated, or given up.

    Attributes:
        is_last: Whether nothing more is to be done for it.
        failure: Code and text, when it ends without a full result.
    """

    response_id: int
    answer: GeneratedResponse | None = None
    verdicts: list[JudgeVerdict] = field(default_factory=list["JudgeVerdict"])
    is_last: bool = False
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobReport:
    """Progress of a job since the report before, with the total so far."""

    plan: Plan
    steps: Sequence[Step]
    progress: JobProgress


def take_up(connection: Connection) -> list[tuple[str, int]]:
    """Task and project ids of the jobs that have not ended, oldest first; all are started now."""
    accepting.discard_all(connection)
    unfinished = table.c.status.not_in(ENDED)
    # One that told so before a restart must not tell that it is pending again.
    connection.execute(update(table).where(unfinished).values(status=JobStatusName.STARTED))
    found = select(table.c.task_id, table.c.project_id).where(unfinished).order_by(table.c.id)
    return [(row.task_id, row.project_id) for row in connection.execute(found)]


def plan(connection: Connection, task_id: str) -> Plan | None:
    """The rest of a job that is left to do; None when it is gone or has ended."""
    rows = fetch(connection, _JOB, task_id)
    if not rows or rows[0].status in ENDED:
        return None
    row = rows[0]
    counted = fetch(connection, _OPEN_ITEMS, row.id)
    places = {response_id: count for response_id, count in counted}
    todo = job_inputs.load(connection, row.project_id, places, row.id)
    gone = sorted(places.keys() - {one.response_id for one in todo})
    replaced, rated = frozenset[int](), list[int]()
    if row.kind == JobKind.EXPERIMENT:
        left = retrying.open_work(connection, todo)
        todo, replaced = left.todo, left.replaced
    elif row.run_id is not None:
        open_ratings = rating_runs.open_work(connection, row.run_id, todo)
        todo, rated = open_ratings.todo, open_ratings.rated
    return Plan(
        job_id=row.id,
        task_id=task_id,
        project_id=row.project_id,
        kind=JobKind(row.kind),
        experiment_id=run_by(row),
        rating_mode=RatingMode(row.rating_mode or RatingMode.DETAILED),
        todo=todo,
        gone=gone,
        places=places,
        before=progress_of(row),
        replaced=replaced,
        run_id=row.run_id,
        rated=rated,
    )


def still_there(connection: Connection, job_id: int) -> set[int]:
    """The responses of a job that were not deleted."""
    return {response_id for (response_id,) in fetch(connection, _STILL_THERE, job_id)}


def record(connection: Connection, reports: Sequence[JobReport]) -> None:
    """Keep what was done for any number of jobs."""
    steps = [step for report in reports for step in report.steps]
    responses.complete(
        connection, [(step.response_id, step.answer) for step in steps if step.answer is not None]
    )
    retrying.supersede(connection, reports)
    for project_id in {report.plan.project_id for report in reports}:
        ratings.record(
            connection,
            project_id,
            [
                verdict
                for report in reports
                if report.plan.project_id == project_id
                for step in report.steps
                for verdict in step.verdicts
            ],
        )
    run_many(
        connection,
        _END_ITEM,
        [
            (*(step.failure or (None, None)), report.plan.job_id, step.response_id)
            for report in reports
            for step in report.steps
            if step.is_last
        ],
    )
    run_many(
        connection,
        _PROGRESS,
        [
            (now.generated, now.rated, now.processed, now.failed, report.plan.job_id)
            for report in reports
            for now in [report.progress]
        ],
    )
    for report in reports:
        if report.progress.is_complete:
            _finish(connection, report)


def _finish(connection: Connection, report: JobReport) -> None:
    """Mark a job as ended: a success as long as one item is fine or it has none."""
    plan, progress = report.plan, report.progress
    status, error_msg = JobStatusName.SUCCESS, None
    if progress.failed:
        first = fetch(connection, _FIRST_FAILURE, plan.job_id)
        if not first:  # deleted meanwhile
            return
        message = first[0].failure_message
        error_msg = f"{progress.failed} of {progress.total} items failed, the first: {message}"
        if progress.failed == progress.total:
            status = JobStatusName.FAILURE
    end(connection, plan.job_id, status, error_msg, plan.experiment_id, _line(progress, status))


def fail(connection: Connection, task_id: str, error_msg: str) -> None:
    """Mark a job as ended by a fault of the server."""
    row = connection.execute(select(table).where(table.c.task_id == task_id)).one_or_none()
    if row is not None and row.status not in ENDED:
        status = JobStatusName.FAILURE
        end(connection, row.id, status, error_msg, run_by(row), _line(progress_of(row), status))


def end(
    connection: Connection,
    job_id: int,
    status: str,
    error_msg: str | None,
    experiment_id: int | None,
    line: str,
) -> None:
    """Mark a job as ended, and note ``line`` in the log of the experiment that it ran, if any."""
    run_many(connection, _END, [(status, error_msg, time_text(now()), job_id)])
    if experiment_id is not None:
        experiments.ended(connection, experiment_id, line)


def run_by(row: AnyRow) -> int | None:
    """The experiment that a job runs; None for a batch, whose responses may all be of one too."""
    return row.experiment_id if row.kind == JobKind.EXPERIMENT else None


def _line(progress: JobProgress, status: str) -> str:
    done = f"{progress.processed} of {progress.total} responses done"
    return f"{done}, {progress.failed} failed: {status}"


def progress_of(row: AnyRow) -> JobProgress:
    """How far the job of a row is."""
    return JobProgress(row.total, row.generated, row.rated, row.processed, row.failed)
