"""Removing records of keys and jobs by their age."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.server.store.rows import fetch, run_many
from elluminate_async.server.store.wire_json import time_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_SLICE = 500
_OLD_KEYS = f"""
DELETE FROM idempotency WHERE rowid IN
 (SELECT rowid FROM idempotency WHERE created_at < ? ORDER BY created_at LIMIT {_SLICE})
RETURNING 1"""
# That an experiment was run is told by its job, which goes with the experiment only.
_OLD_JOB = """
SELECT id, task_id, kind = 'experiment' AS stays FROM jobs AS j WHERE finished_at < ?
 AND (kind <> 'experiment' OR EXISTS (SELECT 1 FROM job_items WHERE job_id = j.id))
ORDER BY finished_at LIMIT 1"""
_ITEMS = f"""
DELETE FROM job_items WHERE rowid IN
 (SELECT rowid FROM job_items WHERE job_id = ? ORDER BY position DESC LIMIT {_SLICE})
RETURNING 1"""
_OLD_RATINGS = f"""
DELETE FROM ratings WHERE rowid IN
 (SELECT rowid FROM ratings WHERE job_id = ? AND NOT is_current LIMIT {_SLICE}) RETURNING 1"""
_HIDE = "UPDATE jobs SET task_id = 'expired ' || id WHERE id = ?"


def remove(connection: Connection, keys_before: datetime, jobs_before: datetime) -> bool:
    """Remove a slice of what is older; whether there may be more."""
    if fetch(connection, _OLD_KEYS, time_text(keys_before)):
        return True
    found = fetch(connection, _OLD_JOB, time_text(jobs_before))
    if not found:
        return False
    job = found[0]
    if not job.stays:
        if fetch(connection, _OLD_RATINGS, job.task_id):
            return True
        # From the first slice on nobody is told of a part of the items.
        run_many(connection, _HIDE, [(job.id,)])
    if not fetch(connection, _ITEMS, job.id) and not job.stays:
        run_many(connection, "DELETE FROM jobs WHERE id = ?", [(job.id,)])
    return True
