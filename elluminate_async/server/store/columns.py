"""Columns that many tables have, and the tables that belong to a project."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from elluminate_async.server.store.utc import UtcDateTime

metadata = MetaData()
"""Of all tables."""


def json_column(name: str) -> Column[Any]:
    """A column of JSON; None is its null."""
    return Column(name, JSON(none_as_null=True))


def time_column(name: str) -> Column[Any]:
    """A column of times."""
    return Column(name, UtcDateTime, nullable=False)


def parent(name: str, target: str, *, nullable: bool = False, index: bool = True) -> Column[Any]:
    """The id of what a row belongs to, and goes with when that is deleted."""
    return Column(
        name, ForeignKey(f"{target}.id", ondelete="CASCADE"), nullable=nullable, index=index
    )


def optional(name: str, target: str) -> Column[Any]:
    """The id of what a row refers to; null once that is deleted."""
    return Column(name, ForeignKey(f"{target}.id", ondelete="SET NULL"), index=True)


def table_of_project(name: str, *columns: Column[Any] | UniqueConstraint | Index) -> Table:
    """A table of what projects have, each row with an id of its own."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        parent("project_id", "projects"),
        *columns,
    )


def partial_index(name: str, where: str, *columns: Column[Any], unique: bool = False) -> None:
    """Give the table of these columns an index of the rows of which ``where`` is true."""
    condition = text(where)
    Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
