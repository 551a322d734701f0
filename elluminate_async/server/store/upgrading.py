"""Making the tables of a new file, and bringing those of earlier versions up to date."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, update
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateColumn

from elluminate_async.errors import ConfigurationError
from elluminate_async.server.store import (
    accepting,
    counts,
    result_counts,
    sizes,
    tables,
    usage_days,
)
from elluminate_async.server.store.inspection import APPLICATION_ID

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection

_INDEXES = "SELECT name FROM sqlite_master WHERE type = 'index'"
_EARLIER = ("1", "2", "3", "4", "5", "6")


def bring_up_to_date(connection: Connection) -> None:
    """Make the tables, or add to those of an earlier version what they lack.

    Raises:
        ConfigurationError: They are of a later version.
    """
    version = None
    with contextlib.suppress(DatabaseError):  # no such table: a new file
        version = connection.exec_driver_sql(
            "SELECT value FROM meta WHERE name='schema_version'"
        ).scalar()
    current = str(tables.SCHEMA_VERSION)
    if version is None:
        tables.metadata.create_all(connection, checkfirst=False)
        counts.create(connection)
        sizes.create(connection)
        usage_days.create(connection)
        result_counts.create(connection)
        connection.execute(insert(tables.meta), {"name": "schema_version", "value": current})
    elif version in _EARLIER:
        _upgrade(connection, version)
        of_schema = tables.meta.c.name == "schema_version"
        connection.execute(update(tables.meta).where(of_schema).values(value=current))
    elif version != current:
        raise ConfigurationError(
            f"the database has version {version}, this server works with {current}; "
            "use the release that made it"
        )


def _upgrade(connection: Connection, version: str) -> None:
    _add_missing(connection)
    if version != "6":
        _fill(connection)
    if version == "1":
        counts.create(connection)
    elif version in ("2", "3", "4"):
        counts.to_5(connection)
    if version in ("1", "2"):
        sizes.create(connection)
    if version == "6":
        usage_days.to_7(connection)
    else:
        usage_days.create(connection)
    result_counts.create(connection)
    _allow_null(connection, "prompts", "prompt_template_id INTEGER")
    # Those of the first three did not have it.
    connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _add_missing(connection: Connection) -> None:
    """Add the tables and columns that later versions have; such columns may be null."""
    tables.metadata.create_all(connection)
    # Read here, as SQLAlchemy warns of indexes of expressions.
    indexes = {row.name for row in connection.exec_driver_sql(_INDEXES)}
    for table in tables.metadata.sorted_tables:
        rows = connection.exec_driver_sql(f"PRAGMA table_info({table.name})")
        known = {row.name for row in rows}
        for column in table.columns:
            if column.name not in known:
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD {_definition(column)}")
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)


def _cost(kind: str) -> str:
    price = f"json_extract(llm_model_config, '$.{kind}_price_per_mtok')"
    is_known = (
        f"json_valid(llm_model_config) AND typeof({kind}_tokens) = 'integer' AND "
        f"typeof({price}) IN ('integer', 'real') AND {price} >= 0"
    )
    return f"{kind}_cost_usd = CASE WHEN {is_known} THEN {kind}_tokens * {price} / 1e6 END"


_FILLED = f"""
UPDATE responses SET {_cost("input")}, {_cost("output")},
 template_variables_id =
 (SELECT p.template_variables_id FROM prompts AS p WHERE p.id = responses.prompt_id)
WHERE template_variables_id IS NULL"""


def _fill(connection: Connection) -> None:
    """Give later columns and tables their values, and take away an index that another covers."""
    connection.exec_driver_sql(_FILLED)
    connection.exec_driver_sql("DROP INDEX IF EXISTS ix_ratings_response_id")
    connection.exec_driver_sql(accepting.OF_UNFINISHED)


def _definition(column: Column[Any]) -> str:
    text = str(CreateColumn(column).compile(dialect=dialect()))
    for key in column.foreign_keys:
        text += f" REFERENCES {key.column.table.name} (id) ON DELETE {key.ondelete}"
    return text


def _allow_null(connection: Connection, table: str, column: str) -> None:
    """Take a NOT NULL away, in the way that SQLite's manual names for what changes no row.

    A new table in its place would take along all that refers to the old one.
    """
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    connection.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        (f"{column} NOT NULL", column, table),
    )
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=OFF")
