"""Jobs: a batch accepted, its items, and how far it got."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from elluminate_async.schemas import JobStatusName, RatingMode
from elluminate_async.server.store import (
    experiments,
    ratings,
    responses,
    tables,
    work,
)
from elluminate_async.server.store.rows import AnyRow, fetch, now, reserve_ids, run_many
from elluminate_async.server.store.text import ids_text, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.ratings import Verdict
    from elluminate_async.server.store.responses import Answer
    from elluminate_async.server.store.work import Work

table = tables.jobs
items = tables.job_items

ENDED = (JobStatusName.SUCCESS, JobStatusName.FAILURE)

_PLACING = "PLACING"
_NEW_EXPERIMENT = "of an experiment that is made with it"

_INSERT = f"""
INSERT INTO jobs (id, project_id, task_id, kind, experiment_id, rating_mode, total, created_at,
 error_msg, status, generated, rated, processed, failed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '{_PLACING}', 0, 0, 0, 0)"""
_ACCEPT = f"""
UPDATE jobs SET status = '{JobStatusName.PENDING}', error_msg = NULL,
 experiment_id = coalesce(experiment_id, ?) WHERE id = ?"""
_PLACED = f"SELECT id, task_id, error_msg FROM jobs WHERE status = '{_PLACING}'"
_DISCARD_ROWS = """
DELETE FROM responses WHERE NOT is_ready
AND id IN (SELECT response_id FROM job_items WHERE job_id = ?)"""
_DISCARD_EXPERIMENT = """
DELETE FROM experiments WHERE id = (SELECT experiment_id FROM jobs WHERE id = ?)"""
_DISCARD = "DELETE FROM jobs WHERE id = ?"
_JOB = "SELECT * FROM jobs WHERE task_id = ?"
_END = "UPDATE jobs SET status = ?, error_msg = ?, finished_at = ? WHERE id = ?"
_FIRST_FAILURE = """
SELECT failure_message FROM job_items WHERE job_id = ? AND failure_code IS NOT NULL
ORDER BY position LIMIT 1"""
_INSERT_ITEM = "INSERT INTO job_items (job_id, position, response_id, is_done) VALUES (?, ?, ?, 0)"
_EXPERIMENTS = """
SELECT DISTINCT experiment_id FROM responses
WHERE id IN (SELECT value FROM json_each(?)) LIMIT 2"""
_OPEN_ITEMS = """
SELECT response_id, count(*) FROM job_items WHERE job_id = ? AND NOT is_done GROUP BY response_id"""
_END_ITEM = """
UPDATE job_items SET is_done = 1, failure_code = ?, failure_message = ?
WHERE +job_id = ? AND response_id = ?"""
_PROGRESS = f"""
UPDATE jobs SET status = '{JobStatusName.STARTED}', generated = ?, rated = ?, processed = ?,
 failed = ? WHERE id = ?"""


class JobKind(StrEnum):
    """What is done for each item."""

    RESPONSES = "responses"
    RATINGS = "ratings"
    EXPERIMENT = "experiment"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to accept: one response for each item of the request, in its order."""

    kind: JobKind
    response_ids: Sequence[int]
    rating_mode: RatingMode | None = None
    experiment_id: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
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
    """What is left to do of a job.

    Attributes:
        gone: Responses that were deleted and are still waited for.
        places: Response id to the number of items that wait for it.
        before: How far it was.
        experiment_id: The experiment that is run, if one is.
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
    before: Progress

    def progress(self, before: Progress, steps: Sequence[Step]) -> Progress:
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
        return Progress(before.total, generated, rated, processed, failed)


@dataclass(frozen=True, slots=True)
class Step:
    """What was done for one response: generated, rated, or given up.

    Attributes:
        is_last: Whether nothing more is to be done for it.
        failure: Code and text, when it ends without a full result.
    """

    response_id: int
    answer: Answer | None = None
    verdicts: list[Verdict] = field(default_factory=list["Verdict"])
    is_last: bool = False
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was done for a job since the report before, and how far it is with that."""

    plan: Plan
    steps: Sequence[Step]
    progress: Progress


def accept(connection: Connection, project_id: int, job: NewJob) -> str:
    """Keep a job, so that it will be done.

    Returns:
        Its task id.
    """
    placed = begin(connection, project_id, job, len(job.response_ids))
    add_items(connection, placed, 0, job.response_ids)
    return accept_placed(connection, placed, experiment_of_responses(connection, job.response_ids))


@dataclass(frozen=True, slots=True)
class PlacedJob:
    """A job that is not accepted yet, while its rows are made; nobody knows of it.

    Attributes:
        is_new: Whether its experiment was made by the same request, and goes with it.
    """

    id: int
    task_id: str
    is_new: bool = False


def begin(
    connection: Connection, project_id: int, job: NewJob, total: int, *, is_new: bool = False
) -> PlacedJob:
    """Make a job of ``total`` items that are still to be added."""
    (job_id,) = reserve_ids(connection, table)
    task_id = str(uuid.uuid4())
    row = (job_id, project_id, task_id, job.kind, job.experiment_id, job.rating_mode, total)
    note = _NEW_EXPERIMENT if is_new else None
    run_many(connection, _INSERT, [(*row, time_text(now()), note)])
    return PlacedJob(job_id, task_id, is_new)


def add_items(
    connection: Connection, job: PlacedJob, start: int, response_ids: Sequence[int]
) -> None:
    """Add items from that position on."""
    run_many(
        connection,
        _INSERT_ITEM,
        [(job.id, position, one) for position, one in enumerate(response_ids, start)],
    )


def accept_placed(connection: Connection, job: PlacedJob, experiment_id: int | None = None) -> str:
    """From now on it will be done, whatever happens; its task id.

    Args:
        connection: Where it is.
        job: The job, with all its items.
        experiment_id: What it goes with, where it was begun without.
    """
    run_many(connection, _ACCEPT, [(experiment_id, job.id)])
    return job.task_id


def discard(connection: Connection, job: PlacedJob) -> None:
    """Take back a job that was not accepted, with the rows that were made for it."""
    run_many(connection, _DISCARD_ROWS, [(job.id,)])
    if job.is_new:
        run_many(connection, _DISCARD_EXPERIMENT, [(job.id,)])
    run_many(connection, _DISCARD, [(job.id,)])


def experiment_of_responses(connection: Connection, response_ids: Sequence[int]) -> int | None:
    """The experiment that all these belong to; None where there are several."""
    found = fetch(connection, _EXPERIMENTS, ids_text(response_ids))
    return found[0].experiment_id if len(found) == 1 else None


def experiment_of(connection: Connection, task_id: str | None) -> int | None:
    """The experiment that a job goes with."""
    query = select(table.c.experiment_id).where(table.c.task_id == task_id)
    return connection.execute(query).scalar()


def take_up(connection: Connection) -> list[str]:
    """Task ids of the jobs that have not ended, oldest first; from now on all are started."""
    for row in fetch(connection, _PLACED):  # cut off before they were accepted
        discard(connection, PlacedJob(row.id, row.task_id, row.error_msg == _NEW_EXPERIMENT))
    unfinished = table.c.status.not_in(ENDED)
    # One that told so before a restart must not tell that it is pending again.
    connection.execute(update(table).where(unfinished).values(status=JobStatusName.STARTED))
    return list(connection.scalars(select(table.c.task_id).where(unfinished).order_by(table.c.id)))


def plan(connection: Connection, task_id: str) -> Plan | None:
    """What is left to do of a job; None when it is gone or has ended."""
    rows = fetch(connection, _JOB, task_id)
    if not rows or rows[0].status in ENDED:
        return None
    row = rows[0]
    counted = fetch(connection, _OPEN_ITEMS, row.id)
    places = {response_id: count for response_id, count in counted}
    todo = work.load(connection, row.project_id, places)
    return Plan(
        job_id=row.id,
        task_id=task_id,
        project_id=row.project_id,
        kind=JobKind(row.kind),
        experiment_id=row.experiment_id if row.kind == JobKind.EXPERIMENT else None,
        rating_mode=RatingMode(row.rating_mode or RatingMode.DETAILED),
        todo=todo,
        gone=sorted(places.keys() - {one.response_id for one in todo}),
        places=places,
        before=progress_of(row),
    )


def record(connection: Connection, reports: Sequence[Report]) -> None:
    """Keep what was done for any number of jobs."""
    steps = [step for report in reports for step in report.steps]
    responses.complete(
        connection, [(step.response_id, step.answer) for step in steps if step.answer is not None]
    )
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


def _finish(connection: Connection, report: Report) -> None:
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
    _end(connection, plan.job_id, status, error_msg)
    if plan.experiment_id is not None:
        experiments.ended(connection, plan.experiment_id, _line(progress, status))


def fail(connection: Connection, task_id: str, error_msg: str) -> None:
    """Mark a job as ended by a fault of the server."""
    row = connection.execute(select(table).where(table.c.task_id == task_id)).one_or_none()
    if row is not None and row.status not in ENDED:
        status = JobStatusName.FAILURE
        _end(connection, row.id, status, error_msg)
        if row.kind == JobKind.EXPERIMENT:
            experiments.ended(connection, row.experiment_id, _line(progress_of(row), status))


def _end(connection: Connection, job_id: int, status: str, error_msg: str | None) -> None:
    run_many(connection, _END, [(status, error_msg, time_text(now()), job_id)])


def _line(progress: Progress, status: str) -> str:
    done = f"{progress.processed} of {progress.total} responses done"
    return f"{done}, {progress.failed} failed: {status}"


def progress_of(row: AnyRow) -> Progress:
    """How far a job is."""
    return Progress(row.total, row.generated, row.rated, row.processed, row.failed)
