"""Whose a database file is and whether it is whole, found out before anything is written."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import JSON, Boolean, Column, Float, Integer

from elluminate_async.errors import ConfigurationError
from elluminate_async.server.store import tables
from elluminate_async.server.store.trouble import WAY_OUT

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID: Final = 0x456C4153
"""In the header of each database of this server's: "ElAS"."""

LONGEST_CHECK_SECONDS: Final = 5.0
"""A large database is checked as far as this time goes."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_LEAST_ROOM = 1 << 16  # bytes: what SQLite maps beside a file in use
_STEPS_BETWEEN_LOOKS = 10_000
# Tables that all versions have, the first included, which gave their files no id.
_OWN_TABLES = frozenset({"meta", "sequences", "projects", "responses", "job_items"})
# Of documents that are taken apart whatever is in them.
_FORMS = {
    "messages": "array",
    "document": "object",
    "llm_model_config": "object",
    "input_values": "object",
    "generation_params": "object",
}


def prepare(path: Path) -> None:
    """See that a file is this server's or empty, and is not damaged; mark an empty one.

    Raises:
        ConfigurationError: It is another program's, no database, or damaged. It was not
            written.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        has_log = path.with_name(f"{path.name}-wal").exists()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}") from None
    if not header and not has_log:
        _mark(path)
        return
    if header and not header.startswith(_MAGIC):
        raise ConfigurationError(
            f"{path} cannot be used: it is no database; choose another file, or restore a backup"
        )
    try:
        if not _is_own(path, header, has_log=has_log):
            raise ConfigurationError(
                f"{path} is the database of another program, and was left as it is; choose "
                "another file"
            )
        _check(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise ConfigurationError(
                f"{path} is locked by another program; start again when that has ended"
            ) from None
        if no_room(path):
            raise ConfigurationError(
                f"{path} cannot be opened ({error}): there is no room on its disk. Make some and "
                "start again: nothing is lost"
            ) from None
        raise damaged(path, str(error)) from None


def no_room(path: Path) -> bool:
    """Whether the disk of a file is full."""
    return shutil.disk_usage(path.parent).free < _LEAST_ROOM


def damaged(path: Path, how: str) -> ConfigurationError:
    """The refusal of a database that is not whole."""
    return ConfigurationError(f"{path} is damaged and cannot be used ({how}): {WAY_OUT}")


def _mark(path: Path) -> None:
    # In the file itself, before there is a write-ahead log that would have it first.
    try:
        with closing(_connect(path, "mode=rw")) as connection:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from None


def _is_own(path: Path, header: bytes, *, has_log: bool) -> bool:
    if len(header) == _HEADER_BYTES:
        (application_id,) = struct.unpack_from(">I", header, 68)
        if application_id:
            return application_id == APPLICATION_ID
        # Of the file alone, which makes no other file beside it.
        if _table_names(path, "immutable=1") >= _OWN_TABLES:
            return True
    return has_log and _table_names(path, "mode=ro") >= _OWN_TABLES


def _table_names(path: Path, options: str) -> set[str]:
    with closing(_connect(path, options)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, isolation_level=None)


def _check(path: Path) -> None:
    with closing(_connect(path, "mode=ro")) as connection:
        until = time.perf_counter() + LONGEST_CHECK_SECONDS
        connection.set_progress_handler(lambda: time.perf_counter() > until, _STEPS_BETWEEN_LOOKS)
        try:
            for find in (_pages, _references, _contents, _indexes):
                if (found := find(connection)) is not None:
                    raise damaged(path, found)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                raise


def _pages(connection: sqlite3.Connection) -> str | None:
    return _found(connection, "quick_check")


def _indexes(connection: sqlite3.Connection) -> str | None:
    return _found(connection, "integrity_check")


def _found(connection: sqlite3.Connection, check: str) -> str | None:
    (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    return None if found == "ok" else str(found).replace("\n", " ")


def _references(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("PRAGMA foreign_key_check").fetchone()
    return None if row is None else f"a row of {row[0]} belongs to none of {row[2]}"


def _contents(connection: sqlite3.Connection) -> str | None:
    """Values of another type than their column's, text that is none, JSON that is none."""
    connection.create_function("is_deep_json", 1, _is_deep_json, deterministic=True)
    present = {name for (name,) in connection.execute("SELECT name FROM pragma_table_list")}
    for table in tables.metadata.sorted_tables:
        if table.name not in present:
            continue
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        columns = [column for column in table.columns if column.name in known]
        is_whole = " AND ".join(map(_is_whole, columns))
        try:
            rows = connection.execute(f"SELECT ({is_whole}), * FROM {table.name}")
            if not all(row[0] for row in rows):
                return f"a value in {table.name} cannot be read"
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
            return f"a text in {table.name} is none"
    return None


def _is_deep_json(text: Any) -> bool:
    """Whether it is JSON beyond SQLite's depth, which the server shows as it can."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except (TypeError, ValueError):
        return False
    return True


def _is_whole(column: Column[Any]) -> str:
    name, kind = f'"{column.name}"', column.type
    if isinstance(kind, JSON):
        form = _FORMS.get(column.name)
        type_is = "1" if form is None else f"json_type({name}) = '{form}'"
        test = (
            f"typeof({name}) = 'text' AND "
            f"CASE WHEN json_valid({name}) THEN {type_is} ELSE is_deep_json({name}) END"
        )
    elif isinstance(kind, Integer | Float) and column.nullable:
        # Figures that a model said. What is none is shown as not known.
        return "1"
    elif isinstance(kind, Boolean):
        test = f"{name} IN (0, 1)"
    elif isinstance(kind, tables.UtcDateTime):
        test = f"typeof({name}) = 'text' AND datetime({name}) IS NOT NULL"
    elif isinstance(kind, Integer):
        test = f"typeof({name}) = 'integer'"
    elif isinstance(kind, Float):
        test = f"typeof({name}) IN ('real', 'integer')"
    else:
        test = f"typeof({name}) = 'text'"
    return f"coalesce(({test}), 0)" if not column.nullable else f"({name} IS NULL OR {test})"
