"""Encryption, at the opening of a database, of keys that earlier versions stored as they were."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from elluminate_async.server.store import tables
from elluminate_async.server.vault import UnreadableKeyError, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.server.store.database import Database

_LOG = logging.getLogger(__name__)
_TABLE = tables.llm_configs


async def seal_stored(database: Database, vault: Vault) -> None:
    """Encrypt the keys that are not, and tell of those that cannot be decrypted.

    Raises:
        ConfigurationError: The key file can be neither read nor made.
    """
    if await database.write(_seal, vault):
        await asyncio.to_thread(_empty_log, database.path)
    for name, error in await database.read(_unreadable, vault):
        _LOG.warning("the api_key of the configuration %r cannot be decrypted: %s", name, error)


def _seal(connection: Connection, vault: Vault) -> int:
    query = select(_TABLE.c.id, _TABLE.c.api_key).where(_TABLE.c.api_key.is_not(None))
    plain = [row for row in connection.execute(query).all() if not vault.is_sealed(row.api_key)]
    if not plain:
        return 0
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar()
    # What they leave behind in the file is overwritten.
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    for row in plain:
        sealed = vault.seal(row.api_key) if row.api_key else None
        connection.execute(update(_TABLE).where(_TABLE.c.id == row.id).values(api_key=sealed))
    connection.exec_driver_sql(f"PRAGMA secure_delete={before}")
    return len(plain)


def _empty_log(path: Path) -> None:
    """Have nothing left of earlier transactions beside the database, those of a crash neither."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _unreadable(connection: Connection, vault: Vault) -> list[tuple[str, str]]:
    query = select(_TABLE.c.name, _TABLE.c.api_key).where(_TABLE.c.api_key.is_not(None))
    found: list[tuple[str, str]] = []
    for row in connection.execute(query).all():
        try:
            vault.open(row.api_key)
        except UnreadableKeyError as error:
            found.append((row.name, str(error)))
    return found
