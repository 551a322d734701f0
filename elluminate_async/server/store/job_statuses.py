"""The status documents of jobs, as they are polled and streamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from elluminate_async.schemas import JobStatusName
from elluminate_async.server.problems import not_found
from elluminate_async.server.store import documents, sizes
from elluminate_async.server.store.jobs import ENDED, JobKind, progress_of, run_by
from elluminate_async.server.store.rows import chunks, fetch
from elluminate_async.server.store.wire_json import WireText, wire_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.jobs import JobProgress
    from elluminate_async.server.store.rows import AnyRow

_STATUS = "SELECT * FROM jobs WHERE task_id = ? AND project_id = ? AND kind = ?"
_ITEMS = """
SELECT position, response_id, failure_code, failure_message FROM job_items
WHERE job_id = ? ORDER BY position"""

RESULT_BYTES = 24 << 20
"""Of a job's results within its status: larger ones are left to the listing."""

_RESULTS_AT_ONCE = 500


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
    progress = progress_of(row)
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
    progress = progress_of(row)
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
    largest = sizes.largest_response(connection, job.project_id, run_by(job), ids)
    for some in chunks(ids, max(1, min(_RESULTS_AT_ONCE, RESULT_BYTES // (largest + 1)))):
        if job.kind == JobKind.RATINGS:
            texts = documents.ratings_of_job(connection, job, some)
        else:
            found = documents.responses(connection, job.project_id, some)
            texts = [found.get(response_id, "null") for response_id in some]
        size += sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        if size > RESULT_BYTES:
            return '"result_omitted":true'
        kept += texts
    of = f',"prompt_response_ids":{json.dumps(ids)}' if job.kind == JobKind.RATINGS else ""
    return f'"result":[{",".join(kept)}]{of}'
