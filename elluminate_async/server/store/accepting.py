"""Taking jobs: with all their rows at once, or with rows that are made before in slices."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elluminate_async.schemas import JobStatusName, RatingMode
from elluminate_async.server.store import tables
from elluminate_async.server.store.item_keys import WANTED_BY_ANOTHER
from elluminate_async.server.store.rows import fetch, now, reserve_ids, run_many
from elluminate_async.server.store.wire_json import ids_text, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.jobs import JobKind

table = tables.jobs

_PLACING = "PLACING"
_NEW_EXPERIMENT = "of an experiment that is made with it"

_INSERT = f"""
INSERT INTO jobs (id, project_id, task_id, kind, experiment_id, rating_mode, run_id, total,
 created_at, error_msg, status, generated, rated, processed, failed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{_PLACING}', 0, 0, 0, 0)"""
_ACCEPT = f"""
UPDATE jobs SET status = '{JobStatusName.PENDING}', error_msg = NULL,
 experiment_id = coalesce(experiment_id, ?) WHERE id = ?"""
_KEEP_CRITERIA = """
WITH asking (job_id, experiment_id) AS
 (SELECT j.id, j.experiment_id FROM jobs AS j
  WHERE {which} AND j.kind <> 'responses' AND j.experiment_id IS NOT NULL
 UNION SELECT j.id, r.experiment_id FROM jobs AS j
  CROSS JOIN job_items AS i ON i.job_id = j.id CROSS JOIN responses AS r ON r.id = i.response_id
  WHERE {which} AND j.kind <> 'responses' AND j.experiment_id IS NULL)
INSERT INTO job_criteria (job_id, criterion_id)
SELECT DISTINCT a.job_id, c.id FROM asking AS a
CROSS JOIN experiments AS e ON e.id = a.experiment_id
CROSS JOIN criteria AS c ON c.criterion_set_id = e.criterion_set_id
WHERE c.retired_at IS NULL"""
_OF_ACCEPTED = _KEEP_CRITERIA.format(which="j.id = ?1")
OF_UNFINISHED: Final = _KEEP_CRITERIA.format(which="j.finished_at IS NULL")
"""Has all jobs in flight judge by what is asked at present; for those that have nothing kept."""
_EXPERIMENTS = """
SELECT DISTINCT experiment_id FROM responses
WHERE id IN (SELECT value FROM json_each(?)) LIMIT 2"""
_OF_JOB = "SELECT experiment_id FROM jobs WHERE task_id = ?"
_PLACED = f"SELECT id, task_id, error_msg FROM jobs WHERE status = '{_PLACING}'"
_DISCARD_ROWS = f"""
DELETE FROM responses AS r WHERE NOT is_ready
AND id IN (SELECT response_id FROM job_items WHERE job_id = ?) AND NOT ({WANTED_BY_ANOTHER})"""
_DISCARD_EXPERIMENT = """
DELETE FROM experiments WHERE id = (SELECT experiment_id FROM jobs WHERE id = ?)"""
_DISCARD = "DELETE FROM jobs WHERE id = ?"
_INSERT_ITEM = "INSERT INTO job_items (job_id, position, response_id, is_done) VALUES (?, ?, ?, 0)"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to accept: one response for each item of the request, in its order.

    Attributes:
        run_id: Of `rating_runs`; None where every job rates anew.
    """

    kind: JobKind
    response_ids: Sequence[int]
    rating_mode: RatingMode | None = None
    experiment_id: int | None = None
    run_id: int | None = None


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
    row = (job_id, project_id, task_id, job.kind, job.experiment_id, job.rating_mode, job.run_id)
    note = _NEW_EXPERIMENT if is_new else None
    run_many(connection, _INSERT, [(*row, total, time_text(now()), note)])
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

    The criteria that are asked at this moment are those that it judges by.

    Args:
        connection: Where it is.
        job: The job, with all its items.
        experiment_id: What it goes with, where it was begun without.
    """
    run_many(connection, _ACCEPT, [(experiment_id, job.id)])
    run_many(connection, _OF_ACCEPTED, [(job.id,)])
    return job.task_id


def experiment_of_responses(connection: Connection, response_ids: Sequence[int]) -> int | None:
    """The experiment that all these belong to; None where there are several."""
    found = fetch(connection, _EXPERIMENTS, ids_text(response_ids))
    return found[0].experiment_id if len(found) == 1 else None


def experiment_of(connection: Connection, task_id: str | None) -> int | None:
    """The experiment that a job goes with."""
    found = fetch(connection, _OF_JOB, task_id)
    return found[0].experiment_id if found else None


def discard(connection: Connection, job: PlacedJob) -> None:
    """Take back a job that was not accepted, with the rows that were made for it."""
    run_many(connection, _DISCARD_ROWS, [(job.id, job.id)])
    if job.is_new:
        run_many(connection, _DISCARD_EXPERIMENT, [(job.id,)])
    run_many(connection, _DISCARD, [(job.id,)])


def discard_all(connection: Connection) -> None:
    """Take back all jobs that were cut off before they were accepted."""
    for row in fetch(connection, _PLACED):
        discard(connection, PlacedJob(row.id, row.task_id, row.error_msg == _NEW_EXPERIMENT))
