"""Jobs that are ended before they are done: what is done stays, and nothing more is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.schemas.jobs import REVOKED, JobStatusName
from elluminate_async.server.problems import not_found
from elluminate_async.server.store import jobs
from elluminate_async.server.store.item_keys import WANTED_BY_ANOTHER
from elluminate_async.server.store.jobs import ENDED, JobKind
from elluminate_async.server.store.rows import fetch, now, run_many
from elluminate_async.server.store.wire_json import time_text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_JOB = "SELECT * FROM jobs WHERE task_id = ?"
# A row that has no answer is shown nowhere, and would wait for one for ever.
_REMOVE_ROWS = f"""
DELETE FROM responses AS r WHERE NOT is_ready AND id IN
 (SELECT response_id FROM job_items WHERE job_id = ? AND NOT is_done)
 AND NOT ({WANTED_BY_ANOTHER})"""
# One of an experiment is a failed one instead: a retry of what failed then makes it.
_FAIL_ROWS = """
UPDATE responses SET is_ready = 1, created_at = ?,
 error = 'the run was cancelled before this response was generated'
WHERE NOT is_ready AND id IN
 (SELECT response_id FROM job_items WHERE job_id = ? AND NOT is_done)"""
_END_ITEMS = f"""
UPDATE job_items SET is_done = 1, failure_code = '{REVOKED}',
 failure_message = 'the job was cancelled before this item was done'
WHERE job_id = ? AND NOT is_done"""
_COUNT = "SELECT count(*) FROM job_items WHERE job_id = ? AND NOT is_done"
_FAIL_LEFT = "UPDATE jobs SET processed = total, failed = failed + ? WHERE id = ?"


def require(
    connection: Connection,
    project_id: int,
    kind: JobKind,
    task_id: str,
    experiment_id: int | None = None,
) -> None:
    """404 where a project has no such job, or not of this experiment."""
    for row in fetch(connection, _JOB, task_id):
        is_own = row.project_id == project_id and row.kind == kind
        if is_own and experiment_id in (None, row.experiment_id):
            return
    raise not_found("task", task_id)


def revoke(connection: Connection, task_id: str) -> None:
    """End a job as it is; of one that has ended, or is gone, nothing changes."""
    rows = fetch(connection, _JOB, task_id)
    if not rows or rows[0].status in ENDED:
        return
    (job,) = rows
    ((left,),) = fetch(connection, _COUNT, job.id)
    if job.kind == JobKind.EXPERIMENT:
        run_many(connection, _FAIL_ROWS, [(time_text(now()), job.id)])
    else:
        run_many(connection, _REMOVE_ROWS, [(job.id, job.id)])
    run_many(connection, _END_ITEMS, [(job.id,)])
    message = f"cancelled, with {job.total - left} of {job.total} items done"
    run_many(connection, _FAIL_LEFT, [(left, job.id)])
    jobs.end(connection, job.id, JobStatusName.REVOKED, message, jobs.run_by(job), message)
