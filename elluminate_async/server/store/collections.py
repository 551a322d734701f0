"""Collections and their columns."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, insert, select, update

from elluminate_async.schemas import Collection, Column
from elluminate_async.server.problems import Problem, check_count, taken
from elluminate_async.server.store import counts, nearest, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    fetch,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
)
from elluminate_async.server.store.wire_json import ids_text, read_json, read_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from elluminate_async.schemas import CreateCollectionRequest
    from elluminate_async.schemas.collections import UpdateCollectionRequest
    from elluminate_async.server.store.references import Deletion

table = tables.collections

MOST_COLUMNS = 1_000
"""Of one collection: every response tells them."""

_OF_IDS = """
SELECT c.id, c.name, c.description, c.columns, coalesce(s.entries, 0), c.read_only,
 c.collection_type, c.environment_config, c.created_at, c.updated_at
FROM collections AS c LEFT JOIN collection_sizes AS s ON s.collection_id = c.id
WHERE c.id IN (SELECT value FROM json_each(?)) AND +c.project_id = ?"""


def create(connection: Connection, project_id: int, body: CreateCollectionRequest) -> int:
    """A new collection without rows.

    Returns:
        Its id.

    Raises:
        Problem: 409 when the name is taken.
    """
    (collection_id,) = reserve_ids(connection, table)
    name = body.name or f"Collection {collection_id}"
    _require_free(connection, project_id, name)
    time = now()
    connection.execute(
        insert(table),
        {
            "id": collection_id,
            "project_id": project_id,
            "name": name,
            "description": body.description,
            "columns": _arrange(body.columns or [], [], body.collection_type),
            "read_only": body.read_only,
            "collection_type": body.collection_type or "STANDARD",
            "environment_config": body.environment_config,
            "created_at": time,
            "updated_at": time,
        },
    )
    return collection_id


def get(connection: Connection, project_id: int, collection_id: int) -> Collection:
    """One collection, without its rows."""
    row(connection, project_id, collection_id)
    return documents(connection, project_id, [collection_id])[collection_id]


def find_ids(
    connection: Connection,
    project_id: int,
    name: str | None = None,
    compatible_placeholders: frozenset[str] | None = None,
) -> list[int]:
    """Ids in order of creation."""
    query = select(table.c.id, table.c.columns).where(table.c.project_id == project_id)
    if name is not None:
        query = query.where(table.c.name == name)
    rows = connection.execute(query.order_by(table.c.id)).all()
    needed = compatible_placeholders or frozenset()
    return [row.id for row in rows if needed <= {column["name"] for column in row.columns}]


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Collection]:
    """The collections of these ids, without their rows."""
    rows = rows_by_id(connection, table, project_id, ids)
    count_of = counts.entries_of(connection, rows)
    return {
        collection_id: Collection(
            id=collection_id,
            name=row.name,
            description=row.description,
            columns=nearest.columns(row.columns, collection_id),
            variables_count=count_of.get(collection_id, 0),
            read_only=row.read_only,
            collection_type=nearest.collection_type(row.collection_type, collection_id),
            environment_config=row.environment_config,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for collection_id, row in rows.items()
    }


def texts(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, str]:
    """The collections of these ids, without their rows, as JSON."""
    rows = fetch(connection, _OF_IDS, ids_text(ids), project_id)
    return {row.id: _text(*row) for row in rows}


@lru_cache(maxsize=256)
def _text(
    collection_id: int,
    name: str,
    description: str,
    columns: str,
    count: int,
    read_only: int,
    collection_type: str,
    environment_config: str | None,
    created_at: str,
    updated_at: str,
) -> str:
    return Collection(
        id=collection_id,
        name=name,
        description=description,
        columns=nearest.columns(read_json(columns), collection_id),
        variables_count=count,
        read_only=bool(read_only),
        collection_type=nearest.collection_type(collection_type, collection_id),
        environment_config=None if environment_config is None else read_json(environment_config),
        created_at=read_time(created_at),
        updated_at=read_time(updated_at),
    ).model_dump_json()


def edit(
    connection: Connection, project_id: int, collection_id: int, body: UpdateCollectionRequest
) -> Collection:
    """Change what is given; ``columns`` is the whole wanted list, in order."""
    before = row(connection, project_id, collection_id)
    values: dict[str, Any] = body.model_dump(
        include={"name", "description", "read_only", "collection_type"}, exclude_none=True
    )
    if "environment_config" in body.model_fields_set:
        values["environment_config"] = body.environment_config
    if values.get("name", before.name) != before.name:
        _require_free(connection, project_id, values["name"])
    if body.columns is not None:
        kind = body.collection_type or before.collection_type
        last = _last_used(connection, collection_id)
        values["columns"] = _arrange(body.columns, before.columns, kind, last)
    connection.execute(
        update(table).where(table.c.id == collection_id).values(**values, updated_at=now())
    )
    return get(connection, project_id, collection_id)


def remove(connection: Connection, project_id: int, collection_id: int, deletion: Deletion) -> None:
    """Delete one with its rows, and the experiments made from them; see `Deletion`."""
    name = row(connection, project_id, collection_id).name
    deletion.require(connection, "collection", collection_id, f"collection {name!r}")
    connection.execute(delete(table).where(table.c.id == collection_id))


def row(connection: Connection, project_id: int, collection_id: int) -> AnyRow:
    """The stored row; 404 when there is none."""
    return row_by_id(connection, table, project_id, "collection", collection_id)


def require_writable(connection: Connection, project_id: int, collection_id: int) -> None:
    """404 when there is no such collection, 403 when its rows must not change."""
    if row(connection, project_id, collection_id).read_only:
        raise Problem(403, f"collection {collection_id} is read-only")


def add_columns(
    connection: Connection, collection_id: int, names: Mapping[str, str | None]
) -> None:
    """Add a column for each of these names that has none yet, of the type that it comes with."""
    before, kind = connection.execute(
        select(table.c.columns, table.c.collection_type).where(table.c.id == collection_id)
    ).one()
    known = {column["name"] for column in before}
    new = [name for name in names if name not in known]
    if new:
        wanted = nearest.columns(before, collection_id)
        wanted += [Column(name=name, column_type=names[name]) for name in new]
        connection.execute(
            update(table)
            .where(table.c.id == collection_id)
            .values(
                columns=_arrange(wanted, before, kind, _last_used(connection, collection_id)),
                updated_at=now(),
            )
        )


def require_cells(connection: Connection, collection_id: int, problems: Mapping[str, str]) -> None:
    """422 for a column of conversations that is to get a cell which is none.

    Args:
        connection: Where it is.
        collection_id: Of the columns.
        problems: Why cells of these columns are none.
    """
    if not problems:
        return
    query = select(table.c.columns).where(table.c.id == collection_id)
    for column in connection.execute(query).scalar_one():
        if column["column_type"] == "conversation" and column["name"] in problems:
            name = column["name"]
            raise Problem(422, f"a cell of the column {name!r:.60}: {problems[name]}")


def _last_used(connection: Connection, collection_id: int) -> int:
    """The highest id of a column, there or not, that an experiment takes its responses from."""
    of = tables.experiments.c
    query = select(func.max(of.response_column_id)).where(of.collection_id == collection_id)
    return connection.execute(query).scalar() or 0


def _require_free(connection: Connection, project_id: int, name: str) -> None:
    query = select(table.c.id).where(table.c.project_id == project_id, table.c.name == name)
    if connection.execute(query).first() is not None:
        raise taken("a collection", name)
    others = tables.scenario_sets
    query = select(others.c.id).where(others.c.project_id == project_id, others.c.name == name)
    if connection.execute(query).first() is not None:
        # Not a 409, upon which clients would look for a collection of that name.
        raise Problem(400, f"a scenario set named {name!r} exists already: choose another name")


def _arrange(
    wanted: Sequence[Column],
    before: list[dict[str, Any]],
    collection_type: str | None,
    last_used: int = 0,
) -> list[dict[str, Any]]:
    """The columns as kept: their place in the list decides, known names keep their ids.

    So they keep what is not said of them: their types, and the values of a category. New ones get
    ids above ``last_used``.
    """
    ids = {column["name"]: column["id"] for column in before}
    known = {column["name"]: column for column in before}
    next_id = max(last_used, *ids.values()) + 1 if ids else last_used + 1
    kept: dict[str, dict[str, Any]] = {}
    for column in wanted:
        name = column.name or f"column_{len(kept) + 1}"
        if name not in ids:
            ids[name], next_id = next_id, next_id + 1
        old = known.get(name, {})
        # What an agent is told has a form of its own.
        is_input = collection_type == "AGENTIC" and name == "instruction"
        usual = "raw_input" if is_input else "text"
        kept[name] = {
            "id": ids[name],
            "name": name,
            "column_type": column.column_type or old.get("column_type") or usual,
            "default_value": column.default_value or "",
            "column_position": len(kept),
            "categorical_values": column.categorical_values or old.get("categorical_values"),
        }
    check_count(len(kept), MOST_COLUMNS, "columns of one collection")
    return [
        {**column, "column_position": position} for position, column in enumerate(kept.values())
    ]
