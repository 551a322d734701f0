"""Responses that a job or a single call is at work on: nobody else touches them meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.server.problems import Problem
from elluminate_async.server.store.rows import fetch
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection

    from elluminate_async.server.store.in_flight import Calls

_OPEN = """
SELECT r.id, j.task_id FROM json_each(?) AS wanted
CROSS JOIN job_items AS i ON i.response_id = wanted.value
CROSS JOIN jobs AS j ON j.id = i.job_id
CROSS JOIN responses AS r ON r.id = wanted.value
WHERE NOT i.is_done AND j.finished_at IS NULL"""
_IN_EXPERIMENT = f"{_OPEN} AND j.kind = 'experiment' LIMIT 1"
_FAILED_BEFORE = f"{_OPEN} AND r.is_ready AND r.error IS NOT NULL LIMIT 1"


def require_none(connection: Connection, response_ids: Collection[int], calls: Calls) -> None:
    """Return when no job has yet to do anything of these responses, and no single call rates one.

    Raises:
        Problem: 409 with the task of the job, or with the response that is being rated.
    """
    for response_id in calls.rated().intersection(response_ids):
        raise Problem(409, f"response {response_id} is being rated by a single call: wait for it")
    for row in fetch(connection, f"{_OPEN} LIMIT 1", ids_text(response_ids)):
        raise busy("one of the responses to be retried", row.task_id)


def require_unjudged(connection: Connection, response_ids: Iterable[int]) -> None:
    """Return when no run, retry or evaluation of an experiment has yet to rate these responses.

    Raises:
        Problem: 409 with the task of one that has: both would pay for the same verdicts.
    """
    for row in fetch(connection, _IN_EXPERIMENT, ids_text(response_ids)):
        raise busy(f"response {row.id}", row.task_id)


def require_unreplaced(connection: Connection, response_id: int) -> None:
    """Return unless a response has failed, and another is made in its place.

    Raises:
        Problem: 409 with the task that makes it.
    """
    # An item that fails ends with that, so that an open one has failed before its job.
    for row in fetch(connection, _FAILED_BEFORE, ids_text([response_id])):
        raise Problem(
            409,
            f"response {response_id} failed, and is being replaced by the retry {row.task_id}: "
            "wait for its end, as an annotation of it is not about its successor",
        )


def busy(what: str, task_id: str) -> Problem:
    """409 for what a job is at work on."""
    return Problem(
        409, f"{what} is being worked on by the task {task_id}: wait for its end, or cancel it"
    )
