"""Scenario sets and their declared fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, insert, select, update

from elluminate_async.schemas import Collection, Column, ScenarioField, ScenarioSet
from elluminate_async.schemas.scenario_sets import FIELD_NAME, OWN_FIELDS
from elluminate_async.server.problems import Problem, check_count, not_found
from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import (
    AnyRow,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
    run_many,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elluminate_async.schemas.scenario_sets import (
        CreateScenarioSetRequest,
        ScenarioFieldRequest,
        UpdateScenarioSetRequest,
    )
    from elluminate_async.server.store.references import Deletion

table = tables.scenario_sets
fields = tables.scenario_fields
scenarios = tables.scenarios

MOST_FIELDS = 1_000
"""Of one set: every scenario has a value for each."""

_SET_VALUE = """
UPDATE scenarios SET field_values = json_set(field_values, ?, ?) WHERE scenario_set_id = ?"""
_DROP_VALUE = """
UPDATE scenarios SET field_values = json_remove(field_values, ?) WHERE scenario_set_id = ?"""


def create(connection: Connection, project_id: int, body: CreateScenarioSetRequest) -> ScenarioSet:
    """A new set without scenarios.

    Raises:
        Problem: 400 when a set or a collection has the name, or a field cannot have its own.
    """
    (set_id,) = reserve_ids(connection, table)
    name = body.name or _invented(connection, project_id, set_id)
    _require_free(connection, project_id, name)
    time = now()
    connection.execute(
        insert(table),
        {
            "id": set_id,
            "project_id": project_id,
            "name": name,
            "description": body.description,
            "read_only": False,
            "created_at": time,
            "updated_at": time,
        },
    )
    check_count(len(body.fields), MOST_FIELDS, "fields of one scenario set")
    for field in body.fields:
        _check_field(connection, set_id, field)
        _insert_field(connection, project_id, set_id, field, "")
    return get(connection, project_id, set_id)


def get(connection: Connection, project_id: int, set_id: int) -> ScenarioSet:
    """One set, without its scenarios."""
    require(connection, project_id, set_id)
    return documents(connection, project_id, [set_id])[set_id]


def require(connection: Connection, project_id: int, set_id: int) -> AnyRow:
    """The stored row; 404 unless there is such a set."""
    return row_by_id(connection, table, project_id, "scenario set", set_id)


def require_writable(connection: Connection, project_id: int, set_id: int) -> None:
    """404 when there is no such set, 403 when it must not change."""
    if require(connection, project_id, set_id).read_only:
        raise Problem(403, f"scenario set {set_id} is read-only")


def find_ids(connection: Connection, project_id: int, name_search: str | None) -> list[int]:
    """Ids in order of creation, of those whose names have that text in them."""
    query = select(table.c.id, table.c.name).where(table.c.project_id == project_id)
    wanted = (name_search or "").casefold()
    rows = connection.execute(query.order_by(table.c.id))
    return [row.id for row in rows if wanted in row.name.casefold()]


def documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, ScenarioSet]:
    """The sets of these ids, without their scenarios."""
    rows = rows_by_id(connection, table, project_id, ids)
    declared = fields_of(connection, rows)
    counted = connection.execute(
        select(scenarios.c.scenario_set_id, func.count())
        .where(scenarios.c.scenario_set_id.in_(rows))
        .group_by(scenarios.c.scenario_set_id)
    )
    count_of = {set_id: count for set_id, count in counted}
    return {
        set_id: ScenarioSet(
            id=set_id,
            name=row.name,
            description=row.description,
            fields=declared[set_id],
            scenarios_count=count_of.get(set_id, 0),
            read_only=row.read_only,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for set_id, row in rows.items()
    }


def fields_of(connection: Connection, set_ids: Iterable[int]) -> dict[int, list[ScenarioField]]:
    """The declared fields of these sets, in order of their declaration."""
    found: dict[int, list[ScenarioField]] = {set_id: [] for set_id in set_ids}
    query = select(fields).where(fields.c.scenario_set_id.in_(found)).order_by(fields.c.id)
    for row in connection.execute(query):
        found[row.scenario_set_id].append(_field(row))
    return found


def as_collection(scenario_set: ScenarioSet | None) -> Collection | None:
    """A set as an experiment on it shows it: official clients read no experiment without one."""
    if scenario_set is None:
        return None
    names = ("goal", "expected_conversation_outcome", *(one.name for one in scenario_set.fields))
    return Collection(
        id=scenario_set.id,
        name=scenario_set.name,
        description=scenario_set.description,
        columns=[Column(name=name, column_position=place) for place, name in enumerate(names)],
        variables_count=scenario_set.scenarios_count,
        read_only=scenario_set.read_only,
        collection_type="PERSONA",
        created_at=scenario_set.created_at,
        updated_at=scenario_set.updated_at,
    )


def edit(
    connection: Connection, project_id: int, set_id: int, body: UpdateScenarioSetRequest
) -> ScenarioSet:
    """Change what is given; 400 when the new name is taken."""
    require_writable(connection, project_id, set_id)
    before = require(connection, project_id, set_id)
    values: dict[str, Any] = body.model_dump(exclude_none=True)
    if not values.get("name", before.name):
        raise Problem(422, "the name of a scenario set must not be empty")
    if values.get("name", before.name) != before.name:
        _require_free(connection, project_id, values["name"])
    connection.execute(update(table).where(table.c.id == set_id).values(**values, updated_at=now()))
    return get(connection, project_id, set_id)


def remove(connection: Connection, project_id: int, set_id: int, deletion: Deletion) -> None:
    """Delete a set with its scenarios; where it cascades also experiments that have responses."""
    require_writable(connection, project_id, set_id)
    name = require(connection, project_id, set_id).name
    deletion.require(connection, "scenario set", set_id, f"scenario set {name!r}")
    connection.execute(delete(table).where(table.c.id == set_id))


def add_field(
    connection: Connection, project_id: int, set_id: int, body: ScenarioFieldRequest
) -> ScenarioField:
    """Declare a field; the scenarios that are there have its default."""
    require_writable(connection, project_id, set_id)
    _check_field(connection, set_id, body.name)
    declared = fields_of(connection, [set_id])[set_id]
    check_count(len(declared) + 1, MOST_FIELDS, "fields of one scenario set")
    default = body.default_value or ""
    field_id = _insert_field(connection, project_id, set_id, body.name, default)
    run_many(connection, _SET_VALUE, [(_path(field_id), default, set_id)])
    _touch(connection, set_id)
    return _field(_field_row(connection, set_id, field_id))


def edit_field(
    connection: Connection,
    project_id: int,
    set_id: int,
    field_id: int,
    body: ScenarioFieldRequest,
) -> ScenarioField:
    """Rename a field, and change its default where one is given; values stay as they are."""
    require_writable(connection, project_id, set_id)
    before = _field_row(connection, set_id, field_id)
    if body.name != before.name:
        _check_field(connection, set_id, body.name)
    values = body.model_dump(exclude_none=True)
    connection.execute(update(fields).where(fields.c.id == field_id).values(**values))
    _touch(connection, set_id)
    return _field(_field_row(connection, set_id, field_id))


def remove_field(connection: Connection, project_id: int, set_id: int, field_id: int) -> None:
    """Delete a field, with the values that scenarios have for it."""
    require_writable(connection, project_id, set_id)
    _field_row(connection, set_id, field_id)
    connection.execute(delete(fields).where(fields.c.id == field_id))
    run_many(connection, _DROP_VALUE, [(_path(field_id), set_id)])
    _touch(connection, set_id)


def is_taken(connection: Connection, project_id: int, name: str) -> bool:
    """Whether a set of the project has this name."""
    query = select(table.c.id).where(table.c.project_id == project_id, table.c.name == name)
    return connection.execute(query).first() is not None


def _require_free(connection: Connection, project_id: int, name: str) -> None:
    if is_taken(connection, project_id, name):
        raise Problem(400, f"a scenario set named {name!r} exists already")
    if _is_collection(connection, project_id, name):
        raise Problem(400, f"a collection named {name!r} exists already: choose another name")


def _is_collection(connection: Connection, project_id: int, name: str) -> bool:
    others = tables.collections
    query = select(others.c.id).where(others.c.project_id == project_id, others.c.name == name)
    return connection.execute(query).first() is not None


def _invented(connection: Connection, project_id: int, set_id: int) -> str:
    wish = name = f"Scenario set {set_id}"
    number = 2
    while is_taken(connection, project_id, name) or _is_collection(connection, project_id, name):
        name, number = f"{wish} ({number})", number + 1
    return name


def _check_field(connection: Connection, set_id: int, name: str) -> None:
    if name in OWN_FIELDS:
        raise Problem(400, f"every scenario has {name!r} already: it is no field to be declared")
    if re.fullmatch(FIELD_NAME, name) is None:
        raise Problem(
            400,
            "the name of a field is of letters, digits and underscores, no digit first, and of "
            "100 characters at most",
        )
    same = select(fields.c.id).where(fields.c.scenario_set_id == set_id, fields.c.name == name)
    if connection.execute(same).first() is not None:
        raise Problem(400, f"the scenario set has a field {name!r} already")


def _insert_field(
    connection: Connection, project_id: int, set_id: int, name: str, default: str
) -> int:
    (field_id,) = reserve_ids(connection, fields)
    connection.execute(
        insert(fields),
        {
            "id": field_id,
            "project_id": project_id,
            "scenario_set_id": set_id,
            "name": name,
            "field_type": "text",
            "default_value": default,
        },
    )
    return field_id


def _field_row(connection: Connection, set_id: int, field_id: int) -> AnyRow:
    query = select(fields).where(fields.c.id == field_id, fields.c.scenario_set_id == set_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found("field", field_id)
    return row


def _field(row: AnyRow) -> ScenarioField:
    return ScenarioField(
        id=row.id, name=row.name, field_type=row.field_type, default_value=row.default_value
    )


def _path(field_id: int) -> str:
    return f'$."{field_id}"'


def _touch(connection: Connection, set_id: int) -> None:
    connection.execute(update(table).where(table.c.id == set_id).values(updated_at=now()))
