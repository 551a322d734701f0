"""Template variables: the rows of collections."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, delete, select, update

from elluminate_async.schemas import CollectionWithEntries, Page, TemplateVariables
from elluminate_async.schemas.conversations import claims_to_be_one, problem_of_cell
from elluminate_async.server.problems import not_found, storing_values
from elluminate_async.server.store import collections, counts, sizes, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    digest,
    fetch,
    now,
    reserve_ids,
    rows_by_id,
    run_many,
    select_in,
)
from elluminate_async.server.store.wire_json import (
    WireText,
    dump,
    dump_or_none,
    ids_text,
    time_text,
    wire_json,
    wire_time,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from elluminate_async.schemas import Collection, CreateCollectionRequest, EntryRequest
    from elluminate_async.server.store.references import Deletion
    from elluminate_async.server.store.rows import PageRequest

table = tables.entries


_INSERT = """
INSERT INTO entries (id, project_id, collection_id, input_values, environment_config, digest,
 created_at) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_ROWS = """
SELECT e.id, e.input_values, e.environment_config, e.created_at
FROM json_each(?) AS wanted CROSS JOIN entries AS e ON e.id = wanted.value
WHERE +e.collection_id = ? AND +e.project_id = ?"""

_PAGE = "SELECT id FROM entries WHERE collection_id = ? ORDER BY id LIMIT ? OFFSET ?"


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows to add, as their columns hold them: made before the writer is needed.

    Attributes:
        names: Of all columns that they have values for, with the type that these tell of.
        texts: Their values.
        digests: Equal for equal rows.
        environment: The configuration of each of them.
        problems: Why the first cell of a column that is no conversation is none, by its name.
    """

    names: dict[str, str | None]
    texts: list[str]
    digests: list[str]
    environment: str | None = None
    problems: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(
        cls, values: Iterable[dict[str, Any]], environment_config: dict[str, Any] | None = None
    ) -> Self:
        """The rows of these values.

        Raises:
            Problem: 422 for a number that is none, which JSON cannot say.
        """
        names: dict[str, str | None] = {}
        problems: dict[str, str] = {}
        texts: list[str] = []
        digests: list[str] = []
        with storing_values():
            for one in values:
                for name, cell in one.items():
                    names.setdefault(name, None)
                    if cell is None or isinstance(cell, str) or name in problems:
                        continue
                    if problem := problem_of_cell(cell):
                        problems[name] = problem
                        names[name] = None
                    elif claims_to_be_one(cell):
                        names[name] = "conversation"
                texts.append(dump(one))
                digests.append(digest(one, environment_config))
            environment = dump_or_none(environment_config)
        return cls(names, texts, digests, environment, problems)

    def without(self, known: Container[str]) -> Self:
        """Those of other digests, each once."""
        fresh: dict[str, str] = {}
        for one, text in zip(self.digests, self.texts, strict=True):
            if one not in known:
                fresh.setdefault(one, text)
        return replace(self, texts=list(fresh.values()), digests=list(fresh))


def create_collection(
    connection: Connection, project_id: int, body: CreateCollectionRequest, rows: NewRows
) -> int:
    """A new collection with its rows; columns not given follow from their keys.

    Returns:
        Its id.
    """
    collection_id = collections.create(connection, project_id, body)
    _insert(connection, project_id, collection_id, rows)
    return collection_id


def whole_collection(
    connection: Connection, project_id: int, collection_id: int
) -> CollectionWithEntries:
    """A collection with all its rows."""
    collection = collections.get(connection, project_id, collection_id)
    ids = _find_ids(connection, collection_id)
    rows = rows_by_id(connection, table, project_id, ids)
    variables = [_document(rows[entry_id], collection) for entry_id in ids]
    return CollectionWithEntries(**dict(collection), variables=variables)


def add(
    connection: Connection,
    project_id: int,
    collection_id: int,
    values: dict[str, Any],
    environment_config: dict[str, Any] | None = None,
) -> TemplateVariables:
    """Add a row; one of equal values and configuration is returned instead of a second."""
    collections.require_writable(connection, project_id, collection_id)
    rows = NewRows.of([values], environment_config)
    query = select(table.c.id).where(
        table.c.collection_id == collection_id, table.c.digest == rows.digests[0]
    )
    entry_id = connection.execute(query.order_by(table.c.id).limit(1)).scalar()
    if entry_id is None:
        (entry_id,) = _insert(connection, project_id, collection_id, rows)
    return get(connection, project_id, collection_id, entry_id)


@dataclass(frozen=True, slots=True)
class TakenRows:
    """Rows that were taken from a file.

    Attributes:
        ids: In the order in which they are told.
        text: Their documents.
    """

    ids: Sequence[int]
    text: WireText


def add_many(
    connection: Connection,
    project_id: int,
    collection_id: int,
    rows: NewRows,
    *,
    skip_existing: bool,
    return_existing: bool = False,
) -> TakenRows:
    """Add rows, in order.

    Args:
        connection: Where to.
        project_id: Of the collection.
        collection_id: To which.
        rows: What to add.
        skip_existing: Leave out rows that the collection has, and repetitions.
        return_existing: Tell of those too, so that each row that is given is told of.

    Returns:
        The rows that were made; with ``return_existing`` one for each that was given.
    """
    collections.require_writable(connection, project_id, collection_id)
    given = rows.digests
    known: dict[str, int] = {}
    if skip_existing:
        query = select(table.c.digest, table.c.id).where(table.c.collection_id == collection_id)
        for row in select_in(connection, query.order_by(table.c.id), table.c.digest, given):
            known.setdefault(row.digest, row.id)
        rows = rows.without(known)
    time = time_text(now())
    ids = _insert(connection, project_id, collection_id, rows, time)
    # Written as they are known: to read them again would take ten times as long.
    collection = collections.texts(connection, project_id, [collection_id])[collection_id]
    made = {
        entry_id: _text(entry_id, text, collection, None, time)
        for entry_id, text in zip(ids, rows.texts, strict=True)
    }
    if not (skip_existing and return_existing):
        return TakenRows(ids, WireText(f"[{','.join(made.values())}]"))
    made |= _texts(connection, project_id, collection_id, set(known.values()))
    known.update(zip(rows.digests, ids, strict=True))
    told = [known[one] for one in given]
    return TakenRows(told, WireText(f"[{','.join(made[entry_id] for entry_id in told)}]"))


def retold(
    connection: Connection, project_id: int, collection_id: int, ids: Sequence[int]
) -> WireText:
    """Rows of these ids, in that order, as they are now; those that are gone are left out."""
    found = _texts(connection, project_id, collection_id, ids)
    return WireText(f"[{','.join(found[one] for one in ids if one in found)}]")


def _texts(
    connection: Connection, project_id: int, collection_id: int, ids: Iterable[int]
) -> dict[int, str]:
    """The documents of rows of a collection, by their ids."""
    rows = fetch(connection, _ROWS, ids_text(set(ids)), collection_id, project_id)
    collection = collections.texts(connection, project_id, [collection_id]).get(collection_id, "")
    return {
        row.id: _text(
            row.id, wire_json(row.input_values), collection, row.environment_config, row.created_at
        )
        for row in rows
    }


def _text(entry_id: int, values: str, collection: str, environment: str | None, time: str) -> str:
    return (
        f'{{"id":{entry_id},"input_values":{values},"collection":{collection},'
        f'"environment_config":{wire_json(environment)},"created_at":{wire_time(time)}}}'
    )


def get(
    connection: Connection, project_id: int, collection_id: int, entry_id: int
) -> TemplateVariables:
    """One row of one collection."""
    _row(connection, project_id, collection_id, entry_id)
    return documents(connection, project_id, [entry_id])[entry_id]


def _find_ids(connection: Connection, collection_id: int) -> list[int]:
    """Ids of all of a collection's rows, in order of creation."""
    query = select(table.c.id).where(table.c.collection_id == collection_id)
    return list(connection.scalars(query.order_by(table.c.id)))


def page(
    connection: Connection, project_id: int, collection_id: int, asked: PageRequest
) -> Page[TemplateVariables]:
    """One page of a collection's rows, in order of creation; 404 without such a collection."""
    collections.row(connection, project_id, collection_id)
    asked = sizes.fitting(asked, sizes.largest_entry(connection, collection_id))
    total = counts.entries_of(connection, [collection_id]).get(collection_id, 0)
    shown: list[int] = []
    if asked.start < total:
        rows = fetch(connection, _PAGE, collection_id, asked.size, asked.start)
        shown = [row.id for row in rows]
    found = documents(connection, project_id, shown)
    return Page[TemplateVariables](items=[found[one] for one in shown], count=total)


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
    body: EntryRequest,
) -> TemplateVariables:
    """Replace a row's values, and what else is given; responses keep their prompts."""
    collections.require_writable(connection, project_id, collection_id)
    before = _row(connection, project_id, collection_id, entry_id)
    values = body.input_values or {}
    rows = NewRows.of([values])
    environment = before.environment_config
    if "environment_config" in body.model_fields_set:
        environment = body.environment_config
    collections.add_columns(connection, collection_id, rows.names)
    collections.require_cells(connection, collection_id, rows.problems)
    connection.execute(
        update(table)
        .where(table.c.id == entry_id)
        .values(
            input_values=values,
            environment_config=environment,
            digest=digest(values, environment),
        )
    )
    texts = [dump(values), dump_or_none(environment)]
    sizes.note(connection, "entry", [(collection_id, texts)])
    return get(connection, project_id, collection_id, entry_id)


def remove(
    connection: Connection,
    project_id: int,
    collection_id: int,
    entry_id: int,
    deletion: Deletion,
) -> None:
    """Delete a row; where it cascades also one that responses were made from, and these."""
    collections.require_writable(connection, project_id, collection_id)
    _row(connection, project_id, collection_id, entry_id)
    deletion.require(connection, "entry", entry_id, f"entry {entry_id}")
    connection.execute(delete(table).where(table.c.id == entry_id))


def clear(connection: Connection, project_id: int, collection_id: int, deletion: Deletion) -> None:
    """Delete all rows of a collection; where it cascades also the responses made from them."""
    collections.require_writable(connection, project_id, collection_id)
    name = f"a row of collection {collection_id}"
    deletion.require(connection, "entries", collection_id, name)
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
    rows: NewRows,
    time: str | None = None,
) -> range:
    ids = reserve_ids(connection, table, len(rows.texts))
    if rows.texts:
        collections.add_columns(connection, collection_id, rows.names)
        collections.require_cells(connection, collection_id, rows.problems)
        time = time or time_text(now())
        run_many(
            connection,
            _INSERT,
            [
                (entry_id, project_id, collection_id, text, rows.environment, content, time)
                for entry_id, text, content in zip(ids, rows.texts, rows.digests, strict=True)
            ],
        )
        environment = rows.environment
        sizes.note(
            connection, "entry", ((collection_id, [text, environment]) for text in rows.texts)
        )
    return ids


def _document(row: AnyRow, collection: Collection) -> TemplateVariables:
    return TemplateVariables(
        id=row.id,
        input_values=row.input_values,
        collection=collection,
        environment_config=row.environment_config,
        created_at=row.created_at,
    )
