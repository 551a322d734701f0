"""Ratings: the current one of each response and criterion, and the older ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, select

from elluminate_async.schemas import GenerationMetadata, LLMConfig, Rating
from elluminate_async.server.store import criteria, rating_runs, sizes, tables
from elluminate_async.server.store.rows import AnyRow, fetch, now, reserve_ids, rows_by_id, run_many
from elluminate_async.server.store.wire_json import ids_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import Criterion

table = tables.ratings

# A plus keeps an index on the project from being taken instead of the ids.
_WANTED = "WHERE id IN (SELECT value FROM json_each(?)) AND +project_id = ?"
_ALIVE = f"SELECT id FROM responses {_WANTED}"
_KNOWN = f"SELECT id, retired_at FROM criteria {_WANTED}"
_CURRENT = """
SELECT r.id, r.response_id, r.criterion_id, c.retired_at IS NOT NULL AS is_retired
FROM ratings AS r JOIN criteria AS c ON c.id = r.criterion_id
WHERE r.response_id IN (SELECT value FROM json_each(?)) AND r.is_current"""
_SUPERSEDE = "UPDATE ratings SET is_current = 0 WHERE id = ?"
_INSERT = """
INSERT INTO ratings (id, project_id, response_id, criterion_id, rating, reasoning, job_id,
 created_at, is_current, llm_model_name, duration_seconds, input_tokens, output_tokens,
 reasoning_tokens, cached_tokens, run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class Judging(NamedTuple):
    """The figures of one verdict, or of several together; None where not known."""

    llm_model_name: str
    duration_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    def share(self, place: int, count: int) -> Judging:
        """That of the verdict of this place among so many: their tokens add up to all."""
        name, seconds, *tokens = self
        shares = [None if n is None else n // count + (place < n % count) for n in tokens]
        return Judging(name, seconds, *shares)


_UNKNOWN = (None,) * len(Judging._fields)


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """The judge's verdict on one response by one criterion.

    Attributes:
        task_id: Of the job that asked; None for a request that waited.
        judging: What it took.
        run_id: Of the run that it is for, which has one by each criterion; None for none.
    """

    response_id: int
    criterion_id: int
    rating: str
    reasoning: str | None
    task_id: str | None = None
    judging: Judging | None = None
    run_id: int | None = None


def record(connection: Connection, project_id: int, verdicts: Sequence[JudgeVerdict]) -> list[int]:
    """Keep verdicts; each takes the place of the one before it, in this list too.

    They also take the place of those by criteria that their set no longer asks. One by such a
    criterion, which left its set while the judge was at work, gives way to those that are there by
    others. Verdicts on objects that were deleted meanwhile are dropped, and those that their run
    has already.

    Returns:
        The ids of the new ratings.
    """
    verdicts = rating_runs.without_known(connection, verdicts)
    rated = {one.response_id for one in verdicts}
    asked = {one.criterion_id for one in verdicts}
    alive = {row.id for row in fetch(connection, _ALIVE, ids_text(rated), project_id)}
    known = {
        row.id: row.retired_at is not None
        for row in fetch(connection, _KNOWN, ids_text(asked), project_id)
    }
    kept = [one for one in verdicts if one.response_id in alive and one.criterion_id in known]
    if not kept:
        return []
    last = {(one.response_id, one.criterion_id): one for one in kept}
    older = fetch(connection, _CURRENT, ids_text({response_id for response_id, _ in last}))
    anew = {one.response_id for one in kept if not known[one.criterion_id]}
    before = {row.response_id for row in older if not row.is_retired}
    for pair in [pair for pair in last if known[pair[1]] and pair[0] in before]:
        del last[pair]
    run_many(
        connection,
        _SUPERSEDE,
        [
            (row.id,)
            for row in older
            if (row.is_retired and row.response_id in anew)
            or (row.response_id, row.criterion_id) in last
        ],
    )
    ids = reserve_ids(connection, table, len(kept))
    time = time_text(now())
    run_many(
        connection,
        _INSERT,
        [
            (
                rating_id,
                project_id,
                one.response_id,
                one.criterion_id,
                one.rating,
                one.reasoning,
                one.task_id,
                time,
                last.get((one.response_id, one.criterion_id)) is one,
                *(one.judging or _UNKNOWN),
                one.run_id,
            )
            for rating_id, one in zip(ids, kept, strict=True)
        ],
    )
    sizes.note(connection, "reasoning", ((one.response_id, [one.reasoning]) for one in kept))
    return list(ids)


def by_ids(connection: Connection, project_id: int, ids: Sequence[int]) -> list[Rating]:
    """The ratings of these ids, in that order."""
    rows = rows_by_id(connection, table, project_id, ids)
    asked = criteria.documents(connection, project_id, {r.criterion_id for r in rows.values()})
    return [_document(rows[one], asked[rows[one].criterion_id]) for one in ids if one in rows]


def current_criteria(connection: Connection, response_ids: Iterable[int]) -> dict[int, set[int]]:
    """By which criteria responses are rated; those without any rating are left out."""
    found: dict[int, set[int]] = {}
    for row in fetch(connection, _CURRENT, ids_text(response_ids)):
        found.setdefault(row.response_id, set()).add(row.criterion_id)
    return found


def find_ids(connection: Connection, project_id: int, response_id: int | None) -> list[int]:
    """Ids of current ratings, of one response or of the project."""
    query = select(table.c.id).where(table.c.project_id == project_id, table.c.is_current)
    if response_id is not None:
        query = query.where(table.c.response_id == response_id)
    return list(connection.scalars(query.order_by(table.c.criterion_id, table.c.id)))


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, Rating]:
    """The ratings of these ids."""
    return {rating.id: rating for rating in by_ids(connection, project_id, list(ids))}


def _document(row: AnyRow, criterion: Criterion) -> Rating:
    return Rating(
        id=row.id,
        criterion=criterion,
        rating=row.rating,
        reasoning=row.reasoning,
        generation_metadata=None
        if row.llm_model_name is None
        else GenerationMetadata(
            llm_model_config=LLMConfig(llm_model_name=row.llm_model_name),
            **{name: getattr(row, name) for name in Judging._fields[1:]},
        ),
        created_at=row.created_at,
    )
