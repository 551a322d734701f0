"""Filters by the cells of a collection's rows, as queries have them: JSON in a text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import Text, and_, case, func, select
from sqlalchemy import cast as sql_cast

from elluminate_async.errors.closest import did_you_mean
from elluminate_async.server.problems import Problem, check_count
from elluminate_async.server.store import tables
from elluminate_async.server.store.wire_json import MOST_LEVELS, levels_exceed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, ColumnElement, Connection, TableValuedAlias

collections = tables.collections
entries = tables.entries
experiments = tables.experiments

_MOST_NAMED = 20
_MOST_VALUES = 1_000
_FORM = (
    'categorical_filters is a JSON object of column names to lists of values, such as {"kind": '
    '["A", "B"]}'
)


@dataclass(frozen=True, slots=True)
class CellFilter:
    """Rows that have one of the values in each of the columns.

    Attributes:
        columns: Name and values of each; those that are no texts as JSON writes them.
    """

    columns: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, query: str | None) -> Self | None:
        """That of a query; None where it limits nothing.

        Raises:
            Problem: 422 when it is no such JSON.
        """
        if not query:
            return None
        if levels_exceed(query.encode(), MOST_LEVELS):
            raise Problem(422, _FORM)
        try:
            given: object = json.loads(query)
        except ValueError:
            raise Problem(422, _FORM) from None
        if not isinstance(given, dict):
            raise Problem(422, _FORM)
        columns: list[tuple[str, tuple[str, ...]]] = []
        for name, values in cast("dict[str, object]", given).items():
            if not isinstance(values, list):
                raise Problem(422, _FORM)
            columns.append((name, tuple(map(_text, cast("list[object]", values)))))
        check_count(sum(1 + len(values) for _, values in columns), _MOST_VALUES, "values")
        return cls(tuple(columns)) if columns else None

    def require(self, connection: Connection, experiment_ids: Iterable[int]) -> None:
        """Refuse a column that the collections of these experiments do not have.

        A misspelt one would pass for an answer: no row matches. A scenario set has no columns, and
        what is asked of one is not looked at.

        Raises:
            Problem: 422 for such a column; the text has those that there are.
        """
        owners = select(experiments.c.collection_id).where(
            experiments.c.id.in_(list(experiment_ids)), experiments.c.collection_id.is_not(None)
        )
        query = select(collections.c.id, collections.c.columns).where(collections.c.id.in_(owners))
        found = connection.execute(query).all()
        known = list(dict.fromkeys(column["name"] for row in found for column in row.columns))
        for name, _ in self.columns:
            # A column that was taken away may have its cells still.
            if found and name not in known and not _is_in(connection, name, [r.id for r in found]):
                there = ", ".join(known[:_MOST_NAMED]) or "none"
                raise Problem(
                    422,
                    f"categorical_filters: there is no column {name!r:.60}"
                    f"{did_you_mean(name, known) or ';'} the columns are {there}",
                )

    def holds_for(self, entry_id: Column[Any]) -> ColumnElement[bool]:
        """Whether the row of that id matches."""
        matching = select(entries.c.id).where(
            entries.c.id == entry_id,
            *(_has_cell(name, values) for name, values in self.columns),
        )
        return matching.exists()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise Problem(422, _FORM)


def _is_in(connection: Connection, name: str, collection_ids: Iterable[int]) -> bool:
    """Whether a row of these collections has a cell of that name."""
    cell = _cells()
    named = select(cell.c.key).where(cell.c.key == name).exists()
    query = select(entries.c.id).where(entries.c.collection_id.in_(list(collection_ids)), named)
    return connection.execute(query.limit(1)).first() is not None


def _cells() -> TableValuedAlias:
    # Not by a path: a name may have quotation marks, which paths cannot say.
    return func.json_each(entries.c.input_values).table_valued("key", "value", "type")


def _has_cell(name: str, values: tuple[str, ...]) -> ColumnElement[bool]:
    cell = _cells()
    is_word = cell.c.type.in_(("true", "false"))
    said = case((is_word, cell.c.type), else_=sql_cast(cell.c.value, Text))
    return select(cell.c.key).where(and_(cell.c.key == name, said.in_(values))).exists()
