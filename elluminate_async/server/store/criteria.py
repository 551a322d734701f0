"""Criteria, each a member of one set."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update

from elluminate_async.schemas import Criterion, CriterionIn
from elluminate_async.server.problems import Problem, check_count
from elluminate_async.server.store import tables
from elluminate_async.server.store.in_flight import asked_criteria, is_asked
from elluminate_async.server.store.rows import (
    AnyRow,
    fetch,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
    run_many,
)
from elluminate_async.server.store.wire_json import ids_text, read_time, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas.criteria import EditCriterionRequest
    from elluminate_async.server.store.in_flight import Calls
    from elluminate_async.server.store.references import Deletion

table = tables.criteria

MOST_CRITERIA = 500
"""Of one set: the judge is asked by all of them at once."""

_COLUMNS = "criterion_set_id, id, criterion_str, label, created_at"
_OF_SETS = f"""
SELECT {_COLUMNS} FROM criteria
WHERE criterion_set_id IN (SELECT value FROM json_each(?)) AND +project_id = ?
 AND retired_at IS NULL ORDER BY id"""
_RETIRED_TWIN = """
INSERT INTO criteria (id, project_id, criterion_set_id, criterion_str, label, retired_at,
 created_at)
SELECT ?, project_id, criterion_set_id, criterion_str, label, ?, created_at
FROM criteria WHERE id = ?"""
# Jobs of runs find their ratings by what they asked.
_ASKED_BY_RUNS = """
INSERT INTO job_criteria (job_id, criterion_id) SELECT j.id, ? FROM jobs AS j
CROSS JOIN job_criteria AS k ON k.job_id = j.id AND k.criterion_id = ? WHERE j.run_id IS NOT NULL"""
_OF_JOB = f"""
SELECT {_COLUMNS} FROM job_criteria AS k CROSS JOIN criteria ON id = k.criterion_id
WHERE k.job_id = ? AND +project_id = ? ORDER BY id"""
_THERE = "SELECT id FROM criteria WHERE id IN (SELECT value FROM json_each(?))"
_OF_IDS = f"""
SELECT {_COLUMNS} FROM criteria
WHERE id IN (SELECT value FROM json_each(?)) AND +project_id = ?"""


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
    check_count(len(known) + len(missing), MOST_CRITERIA, "criteria of one set")
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
    set_ids = list(set_ids)
    return _members(set_ids, fetch(connection, _OF_SETS, ids_text(set_ids), project_id))


def of_job(
    connection: Connection, project_id: int, set_ids: Iterable[int], job_id: int
) -> dict[int, list[Criterion]]:
    """The criteria of each set that a job began with, whatever has become of the set since."""
    return _members(set_ids, fetch(connection, _OF_JOB, job_id, project_id))


def _members(set_ids: Iterable[int], rows: Iterable[AnyRow]) -> dict[int, list[Criterion]]:
    members: dict[int, list[Criterion]] = {set_id: [] for set_id in set_ids}
    for row in rows:
        # A job may have begun with sets that nothing of what is left of it is rated by.
        if (own := members.get(row.criterion_set_id)) is not None:
            own.append(_criterion(*row[1:]))
    return members


def still_there(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Those of these that were not deleted, asked or not."""
    return {row.id for row in fetch(connection, _THERE, ids_text(ids))}


def texts(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, str]:
    """The criteria of these ids, as JSON."""
    rows = fetch(connection, _OF_IDS, ids_text(ids), project_id)
    return {row.id: _text(*row[1:]) for row in rows}


@lru_cache(maxsize=1024)
def _criterion(criterion_id: int, criterion_str: str, label: str | None, time: str) -> Criterion:
    return Criterion(
        id=criterion_id, criterion_str=criterion_str, label=label, created_at=read_time(time)
    )


@lru_cache(maxsize=1024)
def _text(criterion_id: int, criterion_str: str, label: str | None, time: str) -> str:
    return _criterion(criterion_id, criterion_str, label, time).model_dump_json()


def clear(connection: Connection, set_id: int, deletion: Deletion) -> None:
    """Take a set's criteria from it.

    Those that ratings refer to, or that work in flight is rating by, are kept for these, and asked
    no more; where it cascades they go, and their ratings with them, but for those that had left the
    set before.
    """
    of_set = table.c.criterion_set_id == set_id
    if deletion.cascade:
        connection.execute(delete(table).where(of_set, table.c.retired_at.is_(None)))
    rated = select(tables.ratings.c.id).where(tables.ratings.c.criterion_id == table.c.id).exists()
    asked = asked_criteria(connection, set_id, deletion.calls)
    connection.execute(delete(table).where(of_set, ~rated, table.c.id.not_in(asked)))
    connection.execute(
        update(table).where(of_set, table.c.retired_at.is_(None)).values(retired_at=now())
    )


def get(connection: Connection, project_id: int, criterion_id: int) -> Criterion:
    """One criterion."""
    return document(row_by_id(connection, table, project_id, "criterion", criterion_id))


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Criterion]:
    """The criteria of these ids."""
    rows = rows_by_id(connection, table, project_id, ids)
    return {criterion_id: document(row) for criterion_id, row in rows.items()}


def find_ids(connection: Connection, project_id: int, prompt_template_id: int | None) -> list[int]:
    """Ids in order of creation, of one template's set or of the whole project."""
    asked = (table.c.project_id == project_id, table.c.retired_at.is_(None))
    query = select(table.c.id).where(*asked).order_by(table.c.id)
    if prompt_template_id is not None:
        templates = tables.prompt_templates
        own = select(templates.c.criterion_set_id).where(
            templates.c.project_id == project_id, templates.c.id == prompt_template_id
        )
        query = query.where(table.c.criterion_set_id.in_(own))
    return list(connection.scalars(query))


def edit(
    connection: Connection,
    project_id: int,
    criterion_id: int,
    body: EditCriterionRequest,
    calls: Calls,
) -> Criterion:
    """Change what is given; ratings of another text stay with it, on a criterion that is replaced.

    Raises:
        Problem: 409 for one that is replaced itself, and while work in flight asks for verdicts on
            the text that is to change.
    """
    before = row_by_id(connection, table, project_id, "criterion", criterion_id)
    if before.retired_at is not None:
        raise Problem(
            409,
            f"criterion {criterion_id} was replaced, and is kept for its ratings alone: it cannot "
            "be changed",
        )
    if body.criterion_str not in (None, before.criterion_str):
        if is_asked(connection, criterion_id, calls):
            raise Problem(
                409,
                f"criterion {criterion_id} is referred to by work in flight, which asks it by its "
                "present text: change the text when that has ended",
            )
        _leave_ratings(connection, criterion_id)
    values = body.model_dump(exclude_none=True)
    if values:
        connection.execute(update(table).where(table.c.id == criterion_id).values(**values))
    return get(connection, project_id, criterion_id)


def _leave_ratings(connection: Connection, criterion_id: int) -> None:
    """Give the ratings of a criterion to a retired one that is as it is."""
    of_it = tables.ratings.c.criterion_id == criterion_id
    if connection.execute(select(tables.ratings.c.id).where(of_it).limit(1)).first() is None:
        return
    (old_id,) = reserve_ids(connection, table)
    run_many(connection, _RETIRED_TWIN, [(old_id, time_text(now()), criterion_id)])
    connection.execute(update(tables.ratings).where(of_it).values(criterion_id=old_id))
    run_many(connection, _ASKED_BY_RUNS, [(old_id, criterion_id)])


def remove(connection: Connection, project_id: int, criterion_id: int, deletion: Deletion) -> None:
    """Delete one; where it cascades also one that has ratings, and these."""
    get(connection, project_id, criterion_id)
    deletion.require(connection, "criterion", criterion_id, f"criterion {criterion_id}")
    connection.execute(delete(table).where(table.c.id == criterion_id))


def document(row: AnyRow) -> Criterion:
    """The wire's document of a row."""
    return Criterion(
        id=row.id, criterion_str=row.criterion_str, label=row.label, created_at=row.created_at
    )
