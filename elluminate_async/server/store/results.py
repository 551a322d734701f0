"""Aggregates of experiments. What failed is counted and never scored."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection

from elluminate_async.schemas import ExperimentResults, RatingValue, YesNoMeans
from elluminate_async.server.store import listed_figures, result_counts, tables
from elluminate_async.server.store.figures import MICRO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from elluminate_async.server.store.cells import CellFilter
    from elluminate_async.server.store.rows import AnyRow

table = tables.responses
# By what name their sums are kept, and in how many parts of one.
_MEANS = {
    "duration_seconds": ("seconds", MICRO),
    "input_tokens": ("given", 1),
    "output_tokens": ("made", 1),
    "reasoning_tokens": ("reasoning", 1),
}


def of_experiments(
    connection: Connection,
    experiments: Iterable[AnyRow],
    *,
    legacy: bool,
    official: bool = True,
    cells: CellFilter | None = None,
) -> dict[int, ExperimentResults]:
    """The aggregates by id; those of which nothing was rated are left out.

    Args:
        connection: Where from.
        experiments: Of which experiments, their rows.
        legacy: For clients up to 1.0.6, which cannot read a mean that is not known:
            it is 0 for them, and null for others.
        official: For official clients, which cannot read a cost that is not known: the same.
        cells: Over the rows that match, instead of all: counted anew.
    """
    by_id = {row.id: row for row in experiments}
    conditions: tuple[ColumnElement[bool], ...] = ()
    if cells is None:
        epochs = result_counts.epochs(connection, by_id)
        verdicts = result_counts.verdicts(connection, by_id)
    else:
        conditions = (cells.holds_for(table.c.template_variables_id),)
        chosen = (table.c.experiment_id.in_(by_id), *conditions)
        epochs = result_counts.epochs_of(connection, chosen)
        verdicts = result_counts.verdicts_of(connection, chosen)
    epochs_by_id: dict[int, list[AnyRow]] = defaultdict(list)
    for one in epochs:
        epochs_by_id[one.experiment_id].append(one)
    scores: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for one in sorted(verdicts, key=lambda one: (one.criterion_id, one.rating)):
        scores[one.experiment_id][one.criterion_id][one.rating] = one.ratings
    return {
        id: ExperimentResults(
            **_scores(by_criterion),
            **(
                listed_figures.of_experiment(connection, id, _sum(epochs_by_id[id], "changes"))
                if cells is None
                else listed_figures.of_some(connection, (table.c.experiment_id == id, *conditions))
            ),
            **_means(epochs_by_id[id], legacy=legacy),
            **_counts(epochs_by_id[id]),
            **_costs(epochs_by_id[id], unknown=0.0 if official else None),
            experiment_duration_seconds=by_id[id].run_seconds,
        )
        for id, by_criterion in scores.items()
    }


def _scores(by_criterion: Mapping[int, Mapping[str, int]]) -> dict[str, Any]:
    total: dict[str, int] = defaultdict(int)
    for counts in by_criterion.values():
        for rating, count in counts.items():
            total[rating] += count
    shares = _shares(total)
    return {
        "mean_all_ratings": shares,
        "std_all_ratings": math.sqrt(shares.yes * shares.no),
        "mean_rating_by_criterion_id": {
            str(criterion_id): _shares(counts) for criterion_id, counts in by_criterion.items()
        },
    }


def _sum(epochs: Iterable[AnyRow], name: str) -> int:
    return sum(getattr(one, name) for one in epochs)


def _means(epochs: Sequence[AnyRow], *, legacy: bool) -> dict[str, Any]:
    means: dict[str, float | None] = {}
    for column, (name, parts) in _MEANS.items():
        known = _sum(epochs, f"known_{name}")
        unknown = 0.0 if legacy else None
        means[f"mean_{column}"] = _sum(epochs, name) / known / parts if known else unknown
    return means


def _counts(epochs: Sequence[AnyRow]) -> dict[str, Any]:
    """How many were rated, how many failed, and which repetitions are over.

    Those are epochs that have a response to as many rows as any has, and wait for none.
    """
    most = max((one.samples for one in epochs if one.ready), default=0)
    return {
        "num_rated_responses": _sum(epochs, "rated"),
        "num_failed_responses": _sum(epochs, "failed"),
        "completed_epochs": sum(
            1 for one in epochs if one.ready and one.samples == most and not one.waiting
        ),
    }


def _costs(epochs: Sequence[AnyRow], unknown: float | None) -> dict[str, Any]:
    """Costs of all answers; of those that failed only what is known of them counts."""
    answers = _sum(epochs, "ready") - _sum(epochs, "failed")
    costs: dict[str, float | None] = {}
    for name in ("input", "output"):
        is_known = answers and _sum(epochs, f"known_{name}") == answers
        parts = _sum(epochs, f"{name}_micro") * MICRO + _sum(epochs, f"{name}_pico")
        costs[name] = parts / MICRO / MICRO if is_known else None
    both = [cost for cost in costs.values() if cost is not None]
    costs["total"] = math.fsum(both) if len(both) == len(costs) else None
    return {
        f"estimated_{name}_cost_usd": unknown if cost is None else cost
        for name, cost in costs.items()
    }


def _shares(counts: Mapping[str, int]) -> YesNoMeans:
    yes, no = counts.get(RatingValue.YES, 0), counts.get(RatingValue.NO, 0)
    return YesNoMeans(yes=yes / (yes + no), no=no / (yes + no))
