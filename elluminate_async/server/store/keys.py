"""API keys: only their SHA-256 is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select

from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_TABLE = tables.api_keys
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is known without being known.

    Attributes:
        id: The first digits of its SHA-256.
        project: Name of the project that it opens; None for all.
        created_at: When it was added.
    """

    id: str
    project: str | None
    created_at: datetime


def load(connection: Connection) -> dict[str, int | None]:
    """SHA-256 of each key to the project it is for; None means all projects."""
    rows = connection.execute(select(_TABLE.c.sha256, _TABLE.c.project_id))
    return {row.sha256: row.project_id for row in rows}


def project_ids(connection: Connection) -> set[int]:
    """The ids of all projects."""
    return set(connection.scalars(select(tables.projects.c.id)))


def add(connection: Connection, sha256: str, project_id: int | None) -> str:
    """Keep a key, for one project or for all; its id. One that is kept stays as it is."""
    same = select(_TABLE.c.sha256).where(_TABLE.c.sha256 == sha256)
    if connection.execute(same).first() is None:
        row = {"sha256": sha256, "project_id": project_id, "created_at": now()}
        connection.execute(insert(_TABLE), row)
    return sha256[:_SHOWN_DIGITS]


def list_all(connection: Connection) -> Sequence[StoredKey]:
    """All keys, oldest first."""
    query = (
        select(_TABLE.c.sha256, _TABLE.c.created_at, tables.projects.c.name)
        .outerjoin(tables.projects, tables.projects.c.id == _TABLE.c.project_id)
        .order_by(_TABLE.c.created_at, _TABLE.c.sha256)
    )
    return [
        StoredKey(row.sha256[:_SHOWN_DIGITS], row.name, row.created_at)
        for row in connection.execute(query)
    ]


def matching(connection: Connection, key_id: str) -> Sequence[str]:
    """The SHA-256 of each key whose id begins so."""
    query = select(_TABLE.c.sha256).where(_TABLE.c.sha256.startswith(key_id, autoescape=True))
    return list(connection.scalars(query))


def remove(connection: Connection, sha256: str) -> None:
    """Let a key open nothing any more."""
    connection.execute(delete(_TABLE).where(_TABLE.c.sha256 == sha256))
