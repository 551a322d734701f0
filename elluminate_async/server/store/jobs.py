"""Jobs: a batch accepted, its items, and how far it got."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, update

from elluminate_async.schemas import JobStatusName, RatingMode
from elluminate_async.server.problems import not_found
from elluminate_async.server.store import (
    accepting,
    documents,
    experiments,
    job_inputs,
    ratings,
    responses,
    retrying,
    sizes,
    tables,
)
from elluminate_async.server.store.rows import AnyRow, chunks, fetch, now, run_many
from elluminate_async.server.store.wire_json import WireText, time_text, wire_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.ratings import JudgeVerdict
    from elluminate_async.server.store.responses import GeneratedResponse

table = tables.jobs
items = tables.job_items

ENDED = (JobStatusName.SUCCESS, JobStatusName.FAILURE, JobStatusName.REVOKED)

_JOB = "SELECT * FROM jobs WHERE task_id = ?"
_STATUS = f"{_JOB} AND project_id = ? AND kind = ?"
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
_ITEMS = """
SELECT position, response_id, failure_code, failure_message FROM job_items
WHERE job_id = ? ORDER BY position"""


RESULT_BYTES = 24 << 20
"""Of a job's results within its status: larger ones are left to the listing."""

_RESULTS_AT_ONCE = 500


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
    todo = job_inputs.load(connection, row.project_id, places, row.created_at)
    replaced = frozenset[int]()
    if row.kind == JobKind.EXPERIMENT:
        left = retrying.open_work(connection, todo)
        todo, replaced = left.todo, left.replaced
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
        before=_progress(row),
        replaced=replaced,
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
            experiments.ended(connection, row.experiment_id, _line(_progress(row), status))


def _end(connection: Connection, job_id: int, status: str, error_msg: str | None) -> None:
    run_many(connection, _END, [(status, error_msg, time_text(now()), job_id)])


def _line(progress: JobProgress, status: str) -> str:
    done = f"{progress.processed} of {progress.total} responses done"
    return f"{done}, {progress.failed} failed: {status}"


def _progress(row: AnyRow) -> JobProgress:
    return JobProgress(row.total, row.generated, row.rated, row.processed, row.failed)


def batch_status(
    connection: Connection,
    project_id: int,
    kind: JobKind,
    task_id: str,
    *,
    full: bool,
    most_rows: int | None = None,
    revoked_as: str = JobStatusName.REVOKED,
) -> tuple[str, WireText | None]:
    """The status of a batch, and its status document; None where that has over ``most_rows``.

    Args:
        connection: Where from.
        project_id: Of the job.
        kind: What kind of batch the route is for.
        task_id: Which job.
        full: With progress and, at the end, results and failures.
        most_rows: Of results; None for any number.
        revoked_as: The status that is told of one that was cancelled.

    Raises:
        Problem: 404 when there is no such job of this kind.
    """
    row = _row(connection, project_id, kind, task_id)
    status = _told(row, revoked_as)
    if most_rows is not None and full and row.status in ENDED and row.total > most_rows:
        return status, None
    more = ""
    if row.status in ENDED and full:
        rows = fetch(connection, _ITEMS, row.id)
        more = f',{_results(connection, row, rows)},"item_failures":{documents.failures(rows)}'
    progress = _progress(row)
    return status, batch_document(status, row.error_msg, progress if full else None, more)


def batch_document(
    status: str, error_msg: str | None, progress: JobProgress | None, more: str = ""
) -> WireText:
    """A batch's status document, with ``more`` keys at its end."""
    shown = ""
    if progress is not None:
        shown = (
            f',"progress":{{"processed":{progress.processed},"total":{progress.total},'
            f'"failed":{progress.failed}}}'
        )
    return WireText(f'{{"status":"{status}","error_msg":{wire_text(error_msg)}{shown}{more}}}')


def generation_status(
    connection: Connection,
    project_id: int,
    experiment_id: int,
    task_id: str,
    *,
    revoked_as: str = JobStatusName.REVOKED,
) -> dict[str, Any]:
    """The status document of an experiment's job; ``revoked_as`` as in `batch_status`."""
    row = _row(connection, project_id, JobKind.EXPERIMENT, task_id)
    if row.experiment_id != experiment_id:
        raise not_found("task", task_id)
    progress = _progress(row)
    return generation_document(task_id, _told(row, revoked_as), row.error_msg, progress)


def _told(row: AnyRow, revoked_as: str) -> str:
    return revoked_as if row.status == JobStatusName.REVOKED else row.status


def generation_document(
    task_id: str, status: str, error_msg: str | None, progress: JobProgress
) -> dict[str, Any]:
    """The status document of an experiment's job."""
    return {
        "status": status,
        "error_msg": error_msg,
        "completed_responses": progress.generated,
        "completed_ratings": progress.rated,
        "total_responses": progress.total,
        "logs_delta": None,
        "generation_task_id": task_id,
        "has_internal_error": status == JobStatusName.FAILURE,
    }


def _row(connection: Connection, project_id: int, kind: JobKind, task_id: str) -> AnyRow:
    rows = fetch(connection, _STATUS, task_id, project_id, kind)
    if not rows:
        raise not_found("task", task_id)
    return rows[0]


def _results(connection: Connection, job: AnyRow, rows: Sequence[AnyRow]) -> str:
    """The key of the results, in the order of the request; or that they are too large for it.

    They are made some at a time, and no more than can be told.
    """
    kept: list[str] = []
    size = 0
    ids = [row.response_id for row in rows]
    experiment_id = job.experiment_id if job.kind == JobKind.EXPERIMENT else None
    largest = sizes.largest_response(connection, job.project_id, experiment_id, ids)
    for some in chunks(ids, max(1, min(_RESULTS_AT_ONCE, RESULT_BYTES // (largest + 1)))):
        if job.kind == JobKind.RATINGS:
            texts = documents.ratings_of_job(connection, job.project_id, job.task_id, some)
        else:
            found = documents.responses(connection, job.project_id, some)
            texts = [found.get(response_id, "null") for response_id in some]
        size += sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        if size > RESULT_BYTES:
            return '"result_omitted":true'
        kept += texts
    of = f',"prompt_response_ids":{json.dumps(ids)}' if job.kind == JobKind.RATINGS else ""
    return f'"result":[{",".join(kept)}]{of}'
