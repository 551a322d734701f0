"""Ratings: the current one of each response and criterion, and the older ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, insert, select, update

from elluminate_async.schemas import Rating
from elluminate_async.server.store import criteria, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    AnySelect,
    now,
    reserve_ids,
    rows_by_id,
    select_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import Criterion

table = tables.ratings


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said of one response by one criterion."""

    response_id: int
    criterion_id: int
    rating: str
    reasoning: str | None


def record(
    connection: Connection, project_id: int, job_id: str | None, verdicts: Sequence[Verdict]
) -> list[int]:
    """Keep verdicts; each takes the place of the one before it.

    Verdicts on what was deleted while the judge was at work are dropped.

    Returns:
        The ids of the new ratings.
    """
    alive = rows_by_id(
        connection, tables.responses, project_id, {one.response_id for one in verdicts}
    )
    known = rows_by_id(
        connection, tables.criteria, project_id, {one.criterion_id for one in verdicts}
    )
    kept = [one for one in verdicts if one.response_id in alive and one.criterion_id in known]
    if not kept:
        return []
    connection.execute(
        update(table)
        .where(
            table.c.response_id == bindparam("of_response"),
            table.c.criterion_id == bindparam("by_criterion"),
            table.c.is_current,
        )
        .values(is_current=False),
        [{"of_response": one.response_id, "by_criterion": one.criterion_id} for one in kept],
    )
    ids = reserve_ids(connection, table, len(kept))
    time = now()
    connection.execute(
        insert(table),
        [
            {
                "id": rating_id,
                "project_id": project_id,
                "response_id": one.response_id,
                "criterion_id": one.criterion_id,
                "rating": one.rating,
                "reasoning": one.reasoning,
                "is_current": True,
                "job_id": job_id,
                "created_at": time,
            }
            for rating_id, one in zip(ids, kept, strict=True)
        ],
    )
    return list(ids)


def of_responses(
    connection: Connection, project_id: int, response_ids: Iterable[int]
) -> dict[int, list[Rating]]:
    """The current ratings of each response, in the order of the criteria."""
    query = select(table).where(table.c.project_id == project_id, table.c.is_current)
    return _grouped(connection, project_id, query, response_ids)


def of_job(
    connection: Connection, project_id: int, job_id: str, response_ids: Iterable[int]
) -> dict[int, list[Rating]]:
    """The ratings that one job made, also where newer ones exist."""
    query = select(table).where(table.c.project_id == project_id, table.c.job_id == job_id)
    return _grouped(connection, project_id, query, response_ids)


def by_ids(connection: Connection, project_id: int, ids: Sequence[int]) -> list[Rating]:
    """The ratings of these ids, in that order."""
    rows = rows_by_id(connection, table, project_id, ids)
    asked = criteria.documents(connection, project_id, {r.criterion_id for r in rows.values()})
    return [_document(rows[one], asked[rows[one].criterion_id]) for one in ids if one in rows]


def find_ids(connection: Connection, project_id: int, response_id: int | None) -> list[int]:
    """Ids of current ratings, of one response or of the project."""
    query = select(table.c.id).where(table.c.project_id == project_id, table.c.is_current)
    if response_id is not None:
        query = query.where(table.c.response_id == response_id)
    return list(connection.scalars(query.order_by(table.c.criterion_id, table.c.id)))


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Rating]:
    """The ratings of these ids."""
    return {rating.id: rating for rating in by_ids(connection, project_id, list(ids))}


def _grouped(
    connection: Connection, project_id: int, query: AnySelect, response_ids: Iterable[int]
) -> dict[int, list[Rating]]:
    grouped: dict[int, list[Rating]] = {response_id: [] for response_id in response_ids}
    rows = sorted(
        select_in(connection, query, table.c.response_id, grouped),
        key=lambda row: (row.criterion_id, row.id),
    )
    asked = criteria.documents(connection, project_id, {row.criterion_id for row in rows})
    for row in rows:
        grouped[row.response_id].append(_document(row, asked[row.criterion_id]))
    return grouped


def _document(row: AnyRow, criterion: Criterion) -> Rating:
    return Rating(
        id=row.id,
        criterion=criterion,
        rating=row.rating,
        reasoning=row.reasoning,
        created_at=row.created_at,
    )
