"""Aggregates of an experiment. What failed is counted and never scored."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, cast

from sqlalchemy import ColumnElement, Connection, case, func, select

from elluminate_async.schemas import ExperimentResults, RatingValue, YesNoMeans
from elluminate_async.server.store import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.cells import CellFilter
    from elluminate_async.server.store.rows import AnyRow

table = tables.responses
_FIGURES = {
    "duration_seconds": (int, float),
    "input_tokens": (int,),
    "output_tokens": (int,),
    "reasoning_tokens": (int,),
}
_COSTS = (table.c.input_cost_usd, table.c.output_cost_usd)


def of_experiment(
    connection: Connection,
    experiment: AnyRow,
    *,
    legacy: bool,
    official: bool = True,
    cells: CellFilter | None = None,
) -> ExperimentResults | None:
    """The aggregates; None until something was rated.

    Args:
        connection: Where from.
        experiment: Of which experiment, its row.
        legacy: For clients up to 1.0.6, which cannot read a mean that is not known:
            it is 0 for them, and null for others.
        official: For official clients, which cannot read a cost that is not known: the same.
        cells: Over the rows that match, instead of all.
    """
    chosen = _chosen(experiment.id, cells)
    by_criterion, rated = _verdicts(connection, chosen)
    if not by_criterion:
        return None
    rows = connection.execute(
        select(table.c.error, *(table.c[name] for name in _FIGURES), *_COSTS)
        .where(*chosen, table.c.is_ready)
        .order_by(table.c.id)
    ).all()
    known = {
        name: [value for row in rows if _is_figure(value := getattr(row, name), kind)]
        for name, kind in _FIGURES.items()
    }
    means = {f"mean_{name}": _mean(values, legacy=legacy) for name, values in known.items()}
    total: dict[str, int] = defaultdict(int)
    for counts in by_criterion.values():
        for rating, count in counts.items():
            total[rating] += count
    shares = _shares(total)
    return ExperimentResults(
        mean_all_ratings=shares,
        std_all_ratings=math.sqrt(shares.yes * shares.no),
        mean_rating_by_criterion_id={
            str(criterion_id): _shares(counts) for criterion_id, counts in by_criterion.items()
        },
        num_rated_responses=rated,
        num_failed_responses=sum(1 for row in rows if row.error is not None),
        completed_epochs=_completed_epochs(connection, chosen),
        experiment_duration_seconds=experiment.run_seconds,
        **_costs(rows, unknown=0.0 if official else None),
        input_tokens_per_response=known["input_tokens"],
        output_tokens_per_response=known["output_tokens"],
        reasoning_tokens_per_response=known["reasoning_tokens"],
        duration_seconds_per_response=known["duration_seconds"],
        **means,
    )


def _chosen(experiment_id: int, cells: CellFilter | None) -> tuple[ColumnElement[bool], ...]:
    own = table.c.experiment_id == experiment_id
    return (own,) if cells is None else (own, cells.holds_for(table.c.template_variables_id))


def _completed_epochs(connection: Connection, chosen: tuple[ColumnElement[bool], ...]) -> int:
    """Epochs that have a response to as many rows as any has, and wait for none."""
    waiting = func.sum(case((table.c.is_ready, 0), else_=1))
    rows = func.count(table.c.template_variables_id.distinct())
    epochs = connection.execute(
        select(rows.label("rows"), waiting.label("waiting")).where(*chosen).group_by(table.c.epoch)
    ).all()
    most = max((epoch.rows for epoch in epochs), default=0)
    return sum(1 for epoch in epochs if epoch.rows == most and not epoch.waiting)


def _costs(rows: Sequence[AnyRow], unknown: float | None) -> dict[str, float | None]:
    """Costs of the answers; of those that failed only what is known of them."""
    sums: list[float | None] = []
    for name in ("input_cost_usd", "output_cost_usd"):
        costs = [getattr(row, name) for row in rows if row.error is None]
        failed = [getattr(row, name) for row in rows if row.error is not None]
        is_known = costs and None not in costs
        sums.append(math.fsum(filter(None, (*costs, *failed))) if is_known else None)
    both = None if None in sums else math.fsum(filter(None, sums))
    names = ("estimated_input_cost_usd", "estimated_output_cost_usd", "estimated_total_cost_usd")
    return {
        name: unknown if cost is None else cost
        for name, cost in zip(names, (*sums, both), strict=True)
    }


def _verdicts(
    connection: Connection, chosen: tuple[ColumnElement[bool], ...]
) -> tuple[dict[int, dict[str, int]], int]:
    """Counts by criterion and verdict, and the number of responses with any."""
    ratings = tables.ratings
    current = (
        ratings.join(table, table.c.id == ratings.c.response_id),
        (*chosen, ratings.c.is_current),
    )
    counts = connection.execute(
        select(ratings.c.criterion_id, ratings.c.rating, func.count())
        .select_from(current[0])
        .where(*current[1])
        .group_by(ratings.c.criterion_id, ratings.c.rating)
        .order_by(ratings.c.criterion_id)
    )
    by_criterion: dict[int, dict[str, int]] = defaultdict(dict)
    for criterion_id, rating, count in counts:
        by_criterion[criterion_id][rating] = count
    rated = connection.execute(
        select(func.count(ratings.c.response_id.distinct()))
        .select_from(current[0])
        .where(*current[1])
    ).scalar_one()
    return by_criterion, rated


def _is_figure(value: object, kind: tuple[type, ...]) -> bool:
    # Of a database of before figures were looked at, a column may hold anything.
    return isinstance(value, kind) and math.isfinite(cast("float", value))


def _shares(counts: dict[str, int]) -> YesNoMeans:
    yes, no = counts.get(RatingValue.YES, 0), counts.get(RatingValue.NO, 0)
    return YesNoMeans(yes=yes / (yes + no), no=no / (yes + no))


def _mean(values: Sequence[float], *, legacy: bool) -> float | None:
    if values:
        return sum(values) / len(values)
    return 0.0 if legacy else None
