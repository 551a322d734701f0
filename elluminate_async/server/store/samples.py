"""Samples: an experiment's responses by the rows that they are to, chosen and compared."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Float, and_, case, func, select, text
from sqlalchemy import cast as sql_cast

from elluminate_async.schemas import RatingValue, SampleSort
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import counts, experiments, tables
from elluminate_async.server.store.paging import READY
from elluminate_async.server.store.responses import within
from elluminate_async.server.store.wire_json import WireText

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select

    from elluminate_async.server.store.cells import CellFilter
    from elluminate_async.server.store.rows import AnyRow

table = tables.responses
ratings = tables.ratings

_MOST_NAMED = 20

_FIGURES: dict[str, ColumnElement[Any]] = {
    "input-tokens": table.c.input_tokens,
    "output-tokens": table.c.output_tokens,
    "duration": table.c.duration_seconds,
}


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which responses of an experiment its samples have; those left without any are left out.

    Attributes:
        verdicts: Verdict by criterion, each of which a response must have.
        bounds: As of a `ResponseFilter`.
        not_perfect: Only responses that do not meet some criterion; not those that failed, or that
            nobody has rated.
        annotated: Only those with a note.
    """

    experiment_id: int
    verdicts: tuple[tuple[int, RatingValue], ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()
    not_perfect: bool = False
    annotated: bool = False


def listed(
    connection: Connection, project_id: int, wanted: SampleFilter, sort_by: SampleSort | None
) -> WireText:
    """An experiment's samples, in the order of the rows, or by the mean of a figure."""
    experiments.row(connection, project_id, wanted.experiment_id)
    _require_criteria(connection, [wanted.experiment_id], dict(wanted.verdicts))
    row = table.c.template_variables_id
    query = select(table.c.experiment_id, row, table.c.id).where(
        table.c.experiment_id == wanted.experiment_id,
        READY,
        *within(wanted.bounds),
        *(_has_verdict(criterion_id, verdict) for criterion_id, verdict in wanted.verdicts),
    )
    if wanted.annotated:
        query = query.where(table.c.annotation != "")
    if wanted.not_perfect:
        missed = _has_rating(ratings.c.rating != RatingValue.YES)
        query = query.where(table.c.error.is_(None), missed)
    if sort_by is None:
        return _samples(connection.execute(query.order_by(row, table.c.id)))
    name, _, direction = sort_by.value.rpartition("-")
    figure = score() if name == "rating" else _FIGURES[name]
    mean = func.avg(figure).over(partition_by=row)
    order = mean.desc() if direction == "desc" else mean.asc()
    return _samples(connection.execute(query.order_by(order.nulls_last(), row, table.c.id)))


def compared(
    connection: Connection,
    project_id: int,
    baseline_id: int,
    candidate_id: int,
    only: Literal["improved", "regressed"] | None,
    criterion_ids: Iterable[int] | None,
    cells: CellFilter | None,
) -> WireText:
    """Samples of two experiments for the rows that both have responses to, row by row.

    Args:
        connection: Where from.
        project_id: Of both.
        baseline_id: Whose samples come first.
        candidate_id: Another experiment.
        only: Rows whose share of YES is higher, or lower, with the candidate.
        criterion_ids: That count for this; None for all.
        cells: Of the rows.

    Raises:
        Problem: 404 when one is not there; 422 when they are the same, or for a criterion or a
            column that they do not have.
    """
    if baseline_id == candidate_id:
        raise Problem(422, "an experiment is compared with another one: the two ids are the same")
    both_ids = (baseline_id, candidate_id)
    for one in both_ids:
        experiments.row(connection, project_id, one)
    criterion_ids = None if criterion_ids is None else [*criterion_ids]
    _require_criteria(connection, both_ids, criterion_ids or ())
    if cells is not None:
        cells.require(connection, both_ids)
    row = table.c.template_variables_id
    both = _rows_of_both(connection, project_id, both_ids)
    if only is not None:
        scores = [
            select(row.label("row"), func.avg(score(criterion_ids)).label("score"))
            .where(table.c.experiment_id == one, READY, row.in_(both))
            .group_by(row)
            .cte(name)
            for name, one in zip(("baseline", "candidate"), both_ids, strict=True)
        ]
        before, after = (one.c.score for one in scores)
        both = select(scores[0].c.row).join(scores[1], scores[0].c.row == scores[1].c.row)
        both = both.where(after > before if only == "improved" else after < before)
    query = select(table.c.experiment_id, row, table.c.id).where(
        table.c.experiment_id.in_(both_ids), READY, row.in_(both)
    )
    if cells is not None:
        query = query.where(cells.holds_for(row))
    place = case((table.c.experiment_id == baseline_id, 0), else_=1)
    return _samples(connection.execute(query.order_by(row, place, table.c.id)))


def _rows_of_both(
    connection: Connection, project_id: int, ids: tuple[int, int]
) -> Select[tuple[int]]:
    """The rows that two experiments have responses to: those of the smaller are looked up."""
    sizes = {one: counts.finished_ids(connection, project_id, one, 0, 0)[1] for one in ids}
    smaller, larger = sorted(ids, key=sizes.__getitem__)
    one, other = table.alias("one"), table.alias("other")
    there = (
        other.c.experiment_id == larger,
        other.c.template_variables_id == one.c.template_variables_id,
        text("other.is_ready"),
    )
    of_smaller = (one.c.experiment_id == smaller, text("one.is_ready"))
    query = select(one.c.template_variables_id).where(*of_smaller)
    return query.where(select(other.c.id).where(*there).exists()).distinct()


def score(criterion_ids: Iterable[int] | None = None) -> ScalarSelect[Any]:
    """A response's share of YES among its ratings; null without any."""
    is_yes = case((ratings.c.rating == RatingValue.YES, 1.0), else_=0.0)
    query = select(func.avg(sql_cast(is_yes, Float))).where(_current())
    if criterion_ids is not None:
        query = query.where(ratings.c.criterion_id.in_(list(criterion_ids)))
    return query.scalar_subquery()


def _require_criteria(
    connection: Connection, experiment_ids: Iterable[int], wanted: Iterable[int]
) -> None:
    """Refuse criteria that these experiments are not rated by: they would pass for an answer.

    Raises:
        Problem: 422 for such a criterion; the text has those that there are.
    """
    ids, wanted = list(experiment_ids), set(wanted)
    if not wanted:
        return
    criteria, owners = tables.criteria, tables.experiments
    of_sets = select(owners.c.criterion_set_id).where(owners.c.id.in_(ids))
    own = criteria.c.criterion_set_id.in_(of_sets)
    if not (wanted := wanted - {*connection.scalars(select(criteria.c.id).where(own))}):
        return
    # Those that were asked before, and are of another set by now, or of none.
    asked = (
        select(ratings.c.criterion_id)
        .join(table, table.c.id == ratings.c.response_id)
        .where(table.c.experiment_id.in_(ids), ratings.c.criterion_id.in_(wanted))
    )
    if unknown := sorted(wanted - {*connection.scalars(asked)}):
        query = select(criteria.c.id, criteria.c.criterion_str).where(own).limit(_MOST_NAMED)
        there = ", ".join(f"{id} ({text:.60})" for id, text in connection.execute(query))
        raise Problem(
            422,
            f"there are no ratings by a criterion {unknown[0]} here: the criteria are "
            f"{there or 'none'}",
        )


def _current() -> ColumnElement[bool]:
    return and_(ratings.c.response_id == table.c.id, ratings.c.is_current)


def _has_rating(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(ratings.c.id).where(_current(), *conditions).exists()


def _has_verdict(criterion_id: int, verdict: RatingValue) -> ColumnElement[bool]:
    return _has_rating(ratings.c.criterion_id == criterion_id, ratings.c.rating == verdict)


def _samples(rows: Iterable[AnyRow]) -> WireText:
    """Rows of experiment, row of the collection, and response; those of a sample are together."""
    samples = (
        f'{{"experiment_id":{experiment_id},"template_variables_id":{entry_id},'
        f'"prompt_response_ids":[{",".join(str(row[2]) for row in group)}]}}'
        for (experiment_id, entry_id), group in groupby(rows, lambda row: (row[0], row[1]))
    )
    return WireText(f"[{','.join(samples)}]")
