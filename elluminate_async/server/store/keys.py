"""API keys: only their SHA-256 is kept."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import now


def load(connection: Connection) -> dict[str, int | None]:
    """SHA-256 of each key to the project it is for; None means all projects."""
    rows = connection.execute(select(tables.api_keys.c.sha256, tables.api_keys.c.project_id))
    return {row.sha256: row.project_id for row in rows}


def add(connection: Connection, sha256: str) -> None:
    """Keep a key for all projects."""
    row = {"sha256": sha256, "project_id": None, "created_at": now()}
    connection.execute(insert(tables.api_keys), row)
