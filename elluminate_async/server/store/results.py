"""Aggregates of an experiment. What failed is counted and never scored."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, TextClause, func, select, text

from elluminate_async.schemas import ExperimentResults, RatingValue, YesNoMeans
from elluminate_async.server.store import tables
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIGURES = {
    "duration_seconds": (int, float),
    "input_tokens": (int,),
    "output_tokens": (int,),
    "reasoning_tokens": (int,),
}


def of_experiment(
    connection: Connection,
    experiment_id: int,
    *,
    legacy: bool,
    response_ids: Sequence[int] | None = None,
) -> ExperimentResults | None:
    """The aggregates; None until something was rated.

    Args:
        connection: Where from.
        experiment_id: Of which experiment.
        legacy: For clients up to 1.0.6, which cannot read a mean that is not known:
            it is 0 for them, and null for others.
        response_ids: Of which responses; None for all.
    """
    among = _among(response_ids)
    by_criterion, rated = _verdicts(connection, experiment_id, among)
    if not by_criterion:
        return None
    table = tables.responses
    rows = connection.execute(
        select(table.c.error, *(table.c[name] for name in _FIGURES))
        .where(table.c.experiment_id == experiment_id, table.c.is_ready, *among)
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
    return ExperimentResults(
        mean_all_ratings=_shares(total),
        mean_rating_by_criterion_id={
            str(criterion_id): _shares(counts) for criterion_id, counts in by_criterion.items()
        },
        input_tokens_per_response=known["input_tokens"],
        output_tokens_per_response=known["output_tokens"],
        duration_seconds_per_response=known["duration_seconds"],
        num_rated_responses=rated,
        num_failed_responses=sum(1 for row in rows if row.error is not None),
        **means,
    )


def _among(response_ids: Sequence[int] | None) -> tuple[TextClause, ...]:
    if response_ids is None:
        return ()
    among = text("responses.id IN (SELECT value FROM json_each(:among))")
    return (among.bindparams(among=ids_text(response_ids)),)


def _verdicts(
    connection: Connection, experiment_id: int, among: Sequence[TextClause]
) -> tuple[dict[int, dict[str, int]], int]:
    """Counts by criterion and verdict, and the number of responses with any."""
    ratings, responses = tables.ratings, tables.responses
    joined = (
        ratings.join(responses, responses.c.id == ratings.c.response_id),
        (responses.c.experiment_id == experiment_id, ratings.c.is_current, *among),
    )
    counts = connection.execute(
        select(ratings.c.criterion_id, ratings.c.rating, func.count())
        .select_from(joined[0])
        .where(*joined[1])
        .group_by(ratings.c.criterion_id, ratings.c.rating)
        .order_by(ratings.c.criterion_id)
    )
    by_criterion: dict[int, dict[str, int]] = defaultdict(dict)
    for criterion_id, rating, count in counts:
        by_criterion[criterion_id][rating] = count
    rated = connection.execute(
        select(func.count(ratings.c.response_id.distinct()))
        .select_from(joined[0])
        .where(*joined[1])
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
