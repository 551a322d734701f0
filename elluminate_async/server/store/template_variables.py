"""Template variables: the rows of collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import CollectionWithEntries, TemplateVariables
from elluminate_async.server.problems import not_found
from elluminate_async.server.store import collections, sizes, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    digest,
    now,
    reserve_ids,
    rows_by_id,
    select_in,
)
from elluminate_async.server.store.text import dump

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import Collection, CreateCollectionRequest

table = tables.entries


def create_collection(
    connection: Connection, project_id: int, body: CreateCollectionRequest
) -> CollectionWithEntries:
    """A new collection with its rows; columns not given follow from their keys."""
    collection_id = collections.create(connection, project_id, body)
    _insert(connection, project_id, collection_id, body.variables or [])
    return whole_collection(connection, project_id, collection_id)


def whole_collection(
    connection: Connection, project_id: int, collection_id: int
) -> CollectionWithEntries:
    """A collection with all its rows."""
    collection = collections.get(connection, project_id, collection_id)
    ids = find_ids(connection, project_id, collection_id)
    rows = rows_by_id(connection, table, project_id, ids)
    variables = [_document(rows[entry_id], collection) for entry_id in ids]
    return CollectionWithEntries(**dict(collection), variables=variables)


def add(
    connection: Connection, project_id: int, collection_id: int, values: dict[str, Any]
) -> TemplateVariables:
    """Add a row; an equal one is returned instead of a second."""
    collections.require_writable(connection, project_id, collection_id)
    query = select(table.c.id).where(
        table.c.collection_id == collection_id, table.c.digest == digest(values, None)
    )
    entry_id = connection.execute(query.order_by(table.c.id).limit(1)).scalar()
    if entry_id is None:
        (entry_id,) = _insert(connection, project_id, collection_id, [values])
    return get(connection, project_id, collection_id, entry_id)


def add_many(
    connection: Connection,
    project_id: int,
    collection_id: int,
    values: Sequence[dict[str, Any]],
    *,
    skip_existing: bool,
) -> list[TemplateVariables]:
    """Add rows, in order.

    Args:
        connection: Where to.
        project_id: Of the collection.
        collection_id: To which.
        values: One mapping a row.
        skip_existing: Leave out rows that the collection has, and repetitions.

    Returns:
        The rows that were made.
    """
    collections.require_writable(connection, project_id, collection_id)
    if skip_existing:
        fresh = {digest(value, None): value for value in reversed(values)}
        query = select(table.c.digest).where(table.c.collection_id == collection_id)
        for row in select_in(connection, query, table.c.digest, fresh):
            fresh.pop(row.digest, None)
        values = list(reversed(fresh.values()))
    ids = _insert(connection, project_id, collection_id, values)
    found = documents(connection, project_id, ids)
    return [found[entry_id] for entry_id in ids]


def get(
    connection: Connection, project_id: int, collection_id: int, entry_id: int
) -> TemplateVariables:
    """One row of one collection."""
    _row(connection, project_id, collection_id, entry_id)
    return documents(connection, project_id, [entry_id])[entry_id]


def find_ids(connection: Connection, project_id: int, collection_id: int) -> list[int]:
    """Ids of a collection's rows, in order of creation; 404 without such a collection."""
    collections.row(connection, project_id, collection_id)
    query = select(table.c.id).where(table.c.collection_id == collection_id)
    return list(connection.scalars(query.order_by(table.c.id)))


def documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, TemplateVariables]:
    """The rows of these ids."""
    rows = rows_by_id(connection, table, project_id, ids)
    parents = collections.documents(
        connection, project_id, {row.collection_id for row in rows.values()}
    )
    return {entry_id: _document(row, parents[row.collection_id]) for entry_id, row in rows.items()}


def edit(
    connection: Connection,
    project_id: int,
    collection_id: int,
    entry_id: int,
    values: dict[str, Any],
) -> TemplateVariables:
    """Replace a row's values; responses keep the prompt they were made from."""
    collections.require_writable(connection, project_id, collection_id)
    _row(connection, project_id, collection_id, entry_id)
    collections.add_columns(connection, collection_id, [values])
    connection.execute(
        update(table)
        .where(table.c.id == entry_id)
        .values(input_values=values, digest=digest(values, None))
    )
    sizes.note(connection, "entry", [(collection_id, [dump(values)])])
    return get(connection, project_id, collection_id, entry_id)


def remove(connection: Connection, project_id: int, collection_id: int, entry_id: int) -> None:
    """Delete a row, with the responses made from it."""
    collections.require_writable(connection, project_id, collection_id)
    _row(connection, project_id, collection_id, entry_id)
    connection.execute(delete(table).where(table.c.id == entry_id))


def clear(connection: Connection, project_id: int, collection_id: int) -> None:
    """Delete all rows of a collection, with the responses made from them."""
    collections.require_writable(connection, project_id, collection_id)
    connection.execute(delete(table).where(table.c.collection_id == collection_id))


def _row(connection: Connection, project_id: int, collection_id: int, entry_id: int) -> AnyRow:
    row = rows_by_id(connection, table, project_id, [entry_id]).get(entry_id)
    if row is None or row.collection_id != collection_id:
        raise not_found("entry", entry_id)
    return row


def _insert(
    connection: Connection,
    project_id: int,
    collection_id: int,
    values: Sequence[dict[str, Any]],
) -> range:
    ids = reserve_ids(connection, table, len(values))
    if values:
        collections.add_columns(connection, collection_id, values)
        time = now()
        connection.execute(
            insert(table),
            [
                {
                    "id": entry_id,
                    "project_id": project_id,
                    "collection_id": collection_id,
                    "input_values": value,
                    "environment_config": None,
                    "digest": digest(value, None),
                    "created_at": time,
                }
                for entry_id, value in zip(ids, values, strict=True)
            ],
        )
        sizes.note(connection, "entry", ((collection_id, [dump(value)]) for value in values))
    return ids


def _document(row: AnyRow, collection: Collection) -> TemplateVariables:
    return TemplateVariables(
        id=row.id,
        input_values=row.input_values,
        collection=collection,
        environment_config=row.environment_config,
        created_at=row.created_at,
    )
