"""Criterion sets: named lists of criteria, linked to templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select

from elluminate_async.schemas import CreateCriterionSetRequest, CriterionSet
from elluminate_async.server.problems import taken
from elluminate_async.server.store import criteria, prompt_templates, tables
from elluminate_async.server.store.rows import AnyRow, now, reserve_ids, row_by_id, rows_by_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elluminate_async.server.store.references import Deletion

table = tables.criterion_sets


def create(
    connection: Connection, project_id: int, body: CreateCriterionSetRequest
) -> CriterionSet:
    """A new set with its criteria; 409 when the name is taken."""
    same_name = select(table.c.id).where(
        table.c.project_id == project_id, table.c.name == body.name
    )
    if connection.execute(same_name).first() is not None:
        raise taken("a criterion set", body.name)
    set_id = _insert(connection, project_id, body.name)
    criteria.add(connection, project_id, set_id, body.criteria or [])
    return get(connection, project_id, set_id)


def of_template(connection: Connection, project_id: int, template_id: int) -> int:
    """Id of the set that rates a template's responses; made and linked if there is none."""
    template = prompt_templates.get(connection, project_id, template_id)
    if template.criterion_set_id is not None:
        return template.criterion_set_id
    set_id = create_empty(connection, project_id, f"{template.name} v{template.version} criteria")
    prompt_templates.link(connection, project_id, template_id, set_id)
    return set_id


def create_empty(connection: Connection, project_id: int, wish: str) -> int:
    """A set without criteria, under this name or, when it is taken, a numbered one."""
    names = set(
        connection.scalars(
            select(table.c.name).where(
                table.c.project_id == project_id, table.c.name.startswith(wish, autoescape=True)
            )
        )
    )
    name, number = wish, 2
    while name in names:
        name, number = f"{wish} ({number})", number + 1
    return _insert(connection, project_id, name)


def get(connection: Connection, project_id: int, set_id: int) -> CriterionSet:
    """One set with its criteria and templates."""
    require(connection, project_id, set_id)
    return documents(connection, project_id, [set_id])[set_id]


def require(connection: Connection, project_id: int, set_id: int) -> AnyRow:
    """The row of a set; 404 unless there is such a one."""
    return row_by_id(connection, table, project_id, "criterion set", set_id)


def find_ids(connection: Connection, project_id: int, name: str | None) -> list[int]:
    """Ids in order of creation."""
    query = select(table.c.id).where(table.c.project_id == project_id).order_by(table.c.id)
    if name is not None:
        query = query.where(table.c.name == name)
    return list(connection.scalars(query))


def documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, CriterionSet]:
    """The sets of these ids, with their criteria and templates."""
    rows: dict[int, AnyRow] = rows_by_id(connection, table, project_id, ids)
    members = criteria.of_sets(connection, project_id, rows)
    linked = prompt_templates.of_criterion_sets(connection, project_id, rows)
    return {
        set_id: CriterionSet(
            id=set_id,
            name=row.name,
            criteria=members[set_id],
            prompt_templates=linked[set_id],
            linked_prompt_templates=linked[set_id],
        )
        for set_id, row in rows.items()
    }


def remove(connection: Connection, project_id: int, set_id: int, deletion: Deletion) -> None:
    """Delete a set with its criteria; where it cascades also experiments that have responses."""
    name = require(connection, project_id, set_id).name
    deletion.require(connection, "criterion set", set_id, f"criterion set {name!r}")
    connection.execute(delete(table).where(table.c.id == set_id))


def _insert(connection: Connection, project_id: int, name: str) -> int:
    (set_id,) = reserve_ids(connection, table)
    connection.execute(
        insert(table),
        {"id": set_id, "project_id": project_id, "name": name, "created_at": now()},
    )
    return set_id
