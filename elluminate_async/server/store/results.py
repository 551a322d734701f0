"""Aggregates of an experiment. What failed is counted and never scored."""

from __future__ import annotations

import math
from collections import defaultdict
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, Connection, case, func, select

from elluminate_async.schemas import ExperimentResults, RatingValue, YesNoMeans
from elluminate_async.server.store import tables
from elluminate_async.server.store.paging import READY

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
    known = _figures(connection, chosen)
    means: dict[str, Any] = {
        f"mean_{name}": _mean(values, legacy=legacy) for name, values in known.items()
    }
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
        input_tokens_per_response=known["input_tokens"],
        output_tokens_per_response=known["output_tokens"],
        reasoning_tokens_per_response=known["reasoning_tokens"],
        duration_seconds_per_response=known["duration_seconds"],
        num_rated_responses=rated,
        completed_epochs=_completed_epochs(connection, chosen),
        experiment_duration_seconds=experiment.run_seconds,
        **_sums(connection, chosen, unknown=0.0 if official else None),
        **means,
    )


def _chosen(experiment_id: int, cells: CellFilter | None) -> tuple[ColumnElement[bool], ...]:
    own = table.c.experiment_id == experiment_id
    return (own,) if cells is None else (own, cells.holds_for(table.c.template_variables_id))


def _figures(
    connection: Connection, chosen: tuple[ColumnElement[bool], ...]
) -> dict[str, list[Any]]:
    """The known figures of responses, each list in their order."""
    query = select(*(table.c[name] for name in _FIGURES)).where(*chosen, READY)
    rows = connection.execute(query.order_by(table.c.id)).all()
    columns = zip(*rows, strict=True) if rows else iter(((),) * len(_FIGURES))
    return {
        name: _known(column, _FIGURES[name]) for name, column in zip(_FIGURES, columns, strict=True)
    }


def _known(column: tuple[Any, ...], kinds: tuple[type, ...]) -> list[Any]:
    types = set(map(type, column))
    if types <= {int, NoneType}:
        return [value for value in column if value is not None]
    return [value for value in column if _is_figure(value, kinds)]


def _completed_epochs(connection: Connection, chosen: tuple[ColumnElement[bool], ...]) -> int:
    """Epochs that have a response to as many rows as any has, and wait for none."""
    rows = func.count(table.c.template_variables_id.distinct())
    epochs = connection.execute(
        select(table.c.epoch, rows.label("rows"), func.count().label("ready"))
        .where(*chosen, READY)
        .group_by(table.c.epoch)
    ).all()
    all_rows = connection.scalar(select(func.count()).select_from(table).where(*chosen))
    waiting: set[int] = set()
    if all_rows != sum(epoch.ready for epoch in epochs):
        missing = select(table.c.epoch).where(*chosen, table.c.is_ready.is_(False)).distinct()
        waiting = set(connection.scalars(missing))
    most = max((epoch.rows for epoch in epochs), default=0)
    return sum(1 for one in epochs if one.rows == most and one.epoch not in waiting)


def _sums(
    connection: Connection, chosen: tuple[ColumnElement[bool], ...], unknown: float | None
) -> dict[str, Any]:
    """How many failed, and what the answers cost, as keys of the results.

    Of those that failed only what is known of them counts.
    """
    succeeded = table.c.error.is_(None)
    given, made = table.c.input_cost_usd, table.c.output_cost_usd
    row = connection.execute(
        select(
            func.count(table.c.error).label("failed"),
            func.count(case((succeeded, 1))).label("answers"),
            func.sum(given).label("input"),
            func.sum(made).label("output"),
            func.count(case((succeeded, given))).label("known_input"),
            func.count(case((succeeded, made))).label("known_output"),
        ).where(*chosen, READY)
    ).one()
    costs: dict[str, float | None] = {}
    for name in ("input", "output"):
        is_known = row.answers and getattr(row, f"known_{name}") == row.answers
        costs[name] = getattr(row, name) if is_known else None
    both = [cost for cost in costs.values() if cost is not None]
    costs["total"] = math.fsum(both) if len(both) == len(costs) else None
    told = {name: unknown if cost is None else cost for name, cost in costs.items()}
    return {
        "num_failed_responses": row.failed,
        **{f"estimated_{name}_cost_usd": cost for name, cost in told.items()},
    }


def _verdicts(
    connection: Connection, chosen: tuple[ColumnElement[bool], ...]
) -> tuple[dict[int, dict[str, int]], int]:
    """Counts by criterion and verdict, and the number of responses with any."""
    ratings = tables.ratings
    current = (
        ratings.join(table, table.c.id == ratings.c.response_id),
        # What failed is not scored, also where verdicts had come along with it.
        (*chosen, table.c.error.is_(None), ratings.c.is_current),
    )
    counts = connection.execute(
        select(ratings.c.criterion_id, ratings.c.rating, func.count())
        .select_from(current[0])
        .where(*current[1])
        .group_by(ratings.c.criterion_id, ratings.c.rating)
    )
    by_criterion: dict[int, dict[str, int]] = defaultdict(dict)
    for criterion_id, rating, count in sorted(map(tuple[Any, ...], counts)):
        by_criterion[criterion_id][rating] = count
    is_rated = (
        select(ratings.c.id)
        .where(ratings.c.response_id == table.c.id, ratings.c.is_current)
        .exists()
    )
    succeeded = (*chosen, table.c.error.is_(None))
    rated = connection.scalar(select(func.count()).select_from(table).where(*succeeded, is_rated))
    return by_criterion, rated or 0


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
