"""Scenarios: the rows of scenario sets."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import Scenario
from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.store import scenario_sets, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    digest,
    fetch,
    now,
    reserve_ids,
    rows_by_id,
    select_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import ScenarioField, ScenarioIn

table = tables.scenarios

_LARGEST = """
SELECT max(length(CAST(goal AS BLOB)) + length(CAST(expected_conversation_outcome AS BLOB))
 + length(CAST(field_values AS BLOB))) FROM scenarios WHERE scenario_set_id = ?"""


def add(
    connection: Connection, project_id: int, set_id: int, items: Sequence[ScenarioIn]
) -> list[Scenario]:
    """Make a scenario for each item, in their order."""
    scenario_sets.require_writable(connection, project_id, set_id)
    declared = scenario_sets.fields_of(connection, [set_id])[set_id]
    values = [_values(item, declared) for item in items]
    ids = _insert(connection, project_id, set_id, list(zip(items, values, strict=True)))
    found = documents(connection, project_id, ids)
    return [found[scenario_id] for scenario_id in ids]


def add_many(
    connection: Connection,
    project_id: int,
    set_id: int,
    items: Sequence[ScenarioIn],
    *,
    skip_existing: bool,
) -> list[Scenario]:
    """Make scenarios, in their order.

    Args:
        connection: Where to.
        project_id: Of the set.
        set_id: To which.
        items: What to make.
        skip_existing: Leave out what is equal to a scenario of the set, or to one before it.

    Returns:
        Those that were made.
    """
    if not skip_existing:
        return add(connection, project_id, set_id, items)
    scenario_sets.require_writable(connection, project_id, set_id)
    declared = scenario_sets.fields_of(connection, [set_id])[set_id]
    known = _known(connection, set_id, items)
    fresh: list[ScenarioIn] = []
    for item in items:
        same = known[_digest(item)]
        content = _content(_values(item, declared))
        if content not in same:
            same.add(content)
            fresh.append(item)
    return add(connection, project_id, set_id, fresh)


def get(connection: Connection, project_id: int, set_id: int, scenario_id: int) -> Scenario:
    """One scenario of one set."""
    _row(connection, project_id, set_id, scenario_id)
    return documents(connection, project_id, [scenario_id])[scenario_id]


def find_ids(connection: Connection, project_id: int, set_id: int) -> list[int]:
    """Ids of a set's scenarios, in order of creation; 404 without such a set."""
    scenario_sets.require(connection, project_id, set_id)
    query = select(table.c.id).where(table.c.scenario_set_id == set_id)
    return list(connection.scalars(query.order_by(table.c.id)))


def largest(connection: Connection, set_id: int) -> int:
    """Bytes that no scenario of a set has more than."""
    return fetch(connection, _LARGEST, set_id)[0][0] or 0


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Scenario]:
    """The scenarios of these ids."""
    rows = rows_by_id(connection, table, project_id, ids)
    declared = scenario_sets.fields_of(connection, {row.scenario_set_id for row in rows.values()})
    return {
        scenario_id: Scenario(
            id=scenario_id,
            goal=row.goal,
            expected_conversation_outcome=row.expected_conversation_outcome,
            field_values={
                field.name: row.field_values.get(str(field.id), field.default_value)
                for field in declared[row.scenario_set_id]
            },
            created_at=row.created_at,
        )
        for scenario_id, row in rows.items()
    }


def edit(
    connection: Connection, project_id: int, set_id: int, scenario_id: int, item: ScenarioIn
) -> Scenario:
    """Replace all of a scenario; fields left out get their default again."""
    scenario_sets.require_writable(connection, project_id, set_id)
    _row(connection, project_id, set_id, scenario_id)
    declared = scenario_sets.fields_of(connection, [set_id])[set_id]
    content = _columns(item, _values(item, declared))
    connection.execute(update(table).where(table.c.id == scenario_id).values(**content))
    return get(connection, project_id, set_id, scenario_id)


def remove(connection: Connection, project_id: int, set_id: int, scenario_id: int) -> None:
    """Delete a scenario."""
    scenario_sets.require_writable(connection, project_id, set_id)
    _row(connection, project_id, set_id, scenario_id)
    connection.execute(delete(table).where(table.c.id == scenario_id))


def _row(connection: Connection, project_id: int, set_id: int, scenario_id: int) -> AnyRow:
    scenario_sets.require(connection, project_id, set_id)
    row = rows_by_id(connection, table, project_id, [scenario_id]).get(scenario_id)
    if row is None or row.scenario_set_id != set_id:
        raise not_found("scenario", scenario_id)
    return row


def _known(
    connection: Connection, set_id: int, items: Iterable[ScenarioIn]
) -> defaultdict[str, set[str]]:
    """By goal and outcome, the values of the set's scenarios that have those of an item."""
    query = select(table.c.digest, table.c.field_values).where(table.c.scenario_set_id == set_id)
    known: defaultdict[str, set[str]] = defaultdict(set)
    for row in select_in(connection, query, table.c.digest, map(_digest, items)):
        known[row.digest].add(_content(row.field_values))
    return known


def _values(item: ScenarioIn, declared: Iterable[ScenarioField]) -> dict[str, Any]:
    """A value for each declared field, by the fields' ids.

    Raises:
        Problem: 400 for a field that is not declared.
    """
    given = dict(item.field_values)
    values = {str(field.id): given.pop(field.name, field.default_value) for field in declared}
    if given:
        raise Problem(
            400, f"the scenario set has no field {next(iter(given))!r:.100}: declare it first"
        )
    return values


def _insert(
    connection: Connection,
    project_id: int,
    set_id: int,
    items: Sequence[tuple[ScenarioIn, dict[str, Any]]],
) -> list[int]:
    ids = list(reserve_ids(connection, table, len(items)))
    if ids:
        time = now()
        rows = [
            {
                "id": scenario_id,
                "project_id": project_id,
                "scenario_set_id": set_id,
                "created_at": time,
                **_columns(item, values),
            }
            for scenario_id, (item, values) in zip(ids, items, strict=True)
        ]
        connection.execute(insert(table), rows)
    return ids


def _columns(item: ScenarioIn, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "goal": item.goal,
        "expected_conversation_outcome": item.expected_conversation_outcome,
        "field_values": values,
        "digest": _digest(item),
    }


def _digest(item: ScenarioIn) -> str:
    return digest(item.goal, item.expected_conversation_outcome)


def _content(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
