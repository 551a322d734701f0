"""Criteria, each a member of one set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import Criterion, CriterionIn
from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import AnyRow, now, reserve_ids, row_by_id, rows_by_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas.criteria import EditCriterionRequest

table = tables.criteria


def add(
    connection: Connection, project_id: int, set_id: int, new: Sequence[CriterionIn]
) -> list[Criterion]:
    """Add to a set; an equal text is reused, so that it is never rated twice.

    Returns:
        One criterion for each of ``new``, in its order.
    """
    known = {
        criterion.criterion_str: criterion
        for criterion in of_sets(connection, project_id, [set_id])[set_id]
    }
    missing = {one.criterion_str: one for one in new if one.criterion_str not in known}
    if missing:
        time = now()
        rows: list[dict[str, Any]] = [
            {
                "id": criterion_id,
                "project_id": project_id,
                "criterion_set_id": set_id,
                "criterion_str": one.criterion_str,
                "label": one.label,
                "created_at": time,
            }
            for criterion_id, one in zip(
                reserve_ids(connection, table, len(missing)), missing.values(), strict=True
            )
        ]
        connection.execute(insert(table), rows)
        known.update((row["criterion_str"], Criterion.model_validate(row)) for row in rows)
    return [known[one.criterion_str] for one in new]


def of_sets(
    connection: Connection, project_id: int, set_ids: Iterable[int]
) -> dict[int, list[Criterion]]:
    """The criteria of each set, oldest first."""
    members: dict[int, list[Criterion]] = {set_id: [] for set_id in set_ids}
    query = select(table).where(
        table.c.project_id == project_id, table.c.criterion_set_id.in_(list(members))
    )
    for row in connection.execute(query.order_by(table.c.id)):
        members[row.criterion_set_id].append(document(row))
    return members


def clear(connection: Connection, set_id: int) -> None:
    """Delete a set's criteria, with their ratings."""
    connection.execute(delete(table).where(table.c.criterion_set_id == set_id))


def get(connection: Connection, project_id: int, criterion_id: int) -> Criterion:
    """One criterion."""
    return document(row_by_id(connection, table, project_id, "criterion", criterion_id))


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Criterion]:
    """The criteria of these ids."""
    rows = rows_by_id(connection, table, project_id, ids)
    return {criterion_id: document(row) for criterion_id, row in rows.items()}


def find_ids(connection: Connection, project_id: int, prompt_template_id: int | None) -> list[int]:
    """Ids in order of creation, of one template's set or of the whole project."""
    query = select(table.c.id).where(table.c.project_id == project_id).order_by(table.c.id)
    if prompt_template_id is not None:
        templates = tables.prompt_templates
        own = select(templates.c.criterion_set_id).where(
            templates.c.project_id == project_id, templates.c.id == prompt_template_id
        )
        query = query.where(table.c.criterion_set_id.in_(own))
    return list(connection.scalars(query))


def edit(
    connection: Connection, project_id: int, criterion_id: int, body: EditCriterionRequest
) -> Criterion:
    """Change what is given; ratings of the old text stay as they are."""
    get(connection, project_id, criterion_id)
    values = body.model_dump(exclude_none=True)
    if values:
        connection.execute(update(table).where(table.c.id == criterion_id).values(**values))
    return get(connection, project_id, criterion_id)


def remove(connection: Connection, project_id: int, criterion_id: int) -> None:
    """Delete one, with its ratings."""
    get(connection, project_id, criterion_id)
    connection.execute(delete(table).where(table.c.id == criterion_id))


def document(row: AnyRow) -> Criterion:
    """The wire's document of a row."""
    return Criterion(
        id=row.id, criterion_str=row.criterion_str, label=row.label, created_at=row.created_at
    )
