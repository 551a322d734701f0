"""Shared by the statements of all nouns: ids, pages, digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import Column, Connection, Row, Select, Table, select

from elluminate_async.server.problems import not_found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")
# Columns are typed by their tables, not by the checker.
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"

_IDS_PER_STATEMENT = 5_000
_RESERVE = """
INSERT INTO sequences (name, next_id) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET next_id = next_id + ? RETURNING next_id"""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a listing is asked for; ``number`` counts from 1."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """Place of the first item, from 0."""
        return (self.number - 1) * self.size

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this page."""
        return items[self.start : self.start + self.size]


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


def digest(*parts: object) -> str:
    """SHA-256 of JSON values, the order of keys left out of account."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def reserve_ids(connection: Connection, table: Table, count: int = 1) -> range:
    """Take ``count`` ids of the table, ascending and never given out before."""
    ((next_id,),) = fetch(connection, _RESERVE, table.name, 1 + count, count)
    return range(next_id - count, next_id)


def chunks(values: Iterable[T], size: int = _IDS_PER_STATEMENT) -> Iterator[list[T]]:
    """The values in lists short enough for one statement."""
    values = list(values)
    for start in range(0, len(values), size):
        yield values[start : start + size]


def rows_by_id(
    connection: Connection, table: Table, project_id: int, ids: Iterable[int]
) -> dict[int, AnyRow]:
    """The project's rows of these ids; unknown ones are left out."""
    found: dict[int, AnyRow] = {}
    for some in chunks(set(ids)):
        query = select(table).where(table.c.project_id == project_id, table.c.id.in_(some))
        found.update((row.id, row) for row in connection.execute(query))
    return found


def row_by_id(
    connection: Connection, table: Table, project_id: int, noun: str, row_id: int
) -> AnyRow:
    """The project's row of this id.

    Raises:
        Problem: 404 when there is none, also when another project has it.
    """
    query = select(table).where(table.c.project_id == project_id, table.c.id == row_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(noun, row_id)
    return row


def fetch(connection: Connection, statement: str, *parameters: object) -> Sequence[AnyRow]:
    """The rows of a statement in SQLite's own words, its values as the driver has them.

    For what is done for every item: what SQLAlchemy makes of each value takes longer than
    the database does.
    """
    return connection.exec_driver_sql(statement, parameters).all()


def run_many(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement in SQLite's own words, once for each row of parameters."""
    if rows:
        connection.exec_driver_sql(statement, list(rows))


def select_in(
    connection: Connection, query: AnySelect, column: Column[Any], values: Iterable[object]
) -> Iterator[AnyRow]:
    """The rows of ``query`` whose ``column`` is one of ``values``, in unspecified order."""
    for some in chunks(set(values)):
        yield from connection.execute(query.where(column.in_(some)))
