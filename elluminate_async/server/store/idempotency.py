"""Stored answers of requests that carried an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elluminate_async.server.problems import Problem
from elluminate_async.server.store.rows import fetch, now, run_many
from elluminate_async.server.store.wire_json import time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_FIND = """
SELECT body_sha256, status, answer FROM idempotency
WHERE project_id = ? AND route = ? AND key = ?"""
_ANSWER = "SELECT answer FROM idempotency WHERE project_id = ? AND route = ? AND key = ?"
_KEEP = """
INSERT INTO idempotency (project_id, route, key, body_sha256, status, answer, created_at,
 experiment_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


_BRIEF = "ids "


def written_ids(ids: Sequence[int]) -> str:
    """Ids in few bytes, to be kept in the place of an answer that tells of their objects."""
    runs: list[tuple[int, int]] = []
    for one in ids:
        if runs and one == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((one, 1))
    return _BRIEF + ",".join(f"{first}+{count}" for first, count in runs)


def is_brief(kept: str) -> bool:
    """Whether it is of `written_ids`, and no answer."""
    return kept.startswith(_BRIEF)


def read_ids(kept: str) -> list[int]:
    """The ids of `written_ids`."""
    runs = [run.split("+") for run in kept.removeprefix(_BRIEF).split(",") if run]
    return [int(first) + place for first, count in runs for place in range(int(count))]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The identity of a request: equal for two that are the same one.

    Attributes:
        route: The path below the project.
        key: The header's value.
        body_sha256: Digest of the body, which must be the same too.
    """

    project_id: int
    route: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was sent."""

    status: int
    text: str


def find(connection: Connection, request: RequestKey) -> StoredAnswer | None:
    """The answer to an earlier request with this key.

    Raises:
        Problem: 422 when that request had another body.
    """
    rows = fetch(connection, _FIND, request.project_id, request.route, request.key)
    if not rows:
        return None
    (row,) = rows
    if row.body_sha256 != request.body_sha256:
        raise Problem(422, "this idempotency key was used before, with another body")
    return StoredAnswer(row.status, row.answer)


def answer_under(connection: Connection, project_id: int, route: str, key: str) -> str | None:
    """The answer that a key got, whatever was asked."""
    rows = fetch(connection, _ANSWER, project_id, route, key)
    return rows[0].answer if rows else None


def keep(
    connection: Connection, request: RequestKey, answer: StoredAnswer, experiment_id: int | None
) -> None:
    """Store an answer, in the transaction that did the work.

    Args:
        connection: Where to.
        request: What it answers.
        answer: The answer.
        experiment_id: What it is about, and goes with; None keeps it for its time.
    """
    row = (
        request.project_id,
        request.route,
        request.key,
        request.body_sha256,
        answer.status,
        answer.text,
        time_text(now()),
        experiment_id,
    )
    run_many(connection, _KEEP, [row])
