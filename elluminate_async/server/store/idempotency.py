"""Stored answers of requests that carried an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from elluminate_async.server.problems import Problem
from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import now

table = tables.idempotency


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes two requests the same one.

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
    row = connection.execute(
        select(table).where(
            table.c.project_id == request.project_id,
            table.c.route == request.route,
            table.c.key == request.key,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != request.body_sha256:
        raise Problem(422, "this idempotency key was used before, with another body")
    return StoredAnswer(row.status, row.answer)


def keep(connection: Connection, request: RequestKey, answer: StoredAnswer) -> None:
    """Store an answer, in the transaction that did the work."""
    connection.execute(
        insert(table),
        {
            "project_id": request.project_id,
            "route": request.route,
            "key": request.key,
            "body_sha256": request.body_sha256,
            "status": answer.status,
            "answer": answer.text,
            "created_at": now(),
        },
    )
