"""Reads of samples and of usage, each one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.connection import decode
from elluminate_async.operations.filters import (
    FigureRanges,
    categories_query,
    figure_query,
    one_of,
    verdict_query,
)
from elluminate_async.operations.json_input import several
from elluminate_async.operations.references import id_of, optional_id
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.responses import (
    ResponsesSample,
    ResponsesStats,
    Samples,
    SampleSort,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elluminate_async.operations.connection import Connection

MOST_DAYS: Final = 90
_MOST_CRITERIA = 500
_SHOWN = (None, "improved", "regressed")


async def list_samples(
    connection: Connection,
    experiment: Experiment | int,
    sort_by: object,
    verdicts: object,
    exclude_perfect: bool,
    only_annotated: bool,
    figures: FigureRanges,
) -> list[ResponsesSample]:
    """An experiment's samples.

    Raises:
        InputError: A filter cannot be one.
    """
    query = {
        "experiment_id": id_of(experiment, Experiment, "experiment"),
        "criteria_filter_by": verdict_query(verdicts),
        "exclude_perfect_responses": flag(exclude_perfect, "exclude_perfect") or None,
        "show_only_annotated_responses": flag(only_annotated, "only_annotated") or None,
        "sort_by": None if sort_by is None else one_of(sort_by, SampleSort, "sort_by"),
        **figure_query(figures),
    }
    return decode(Samples, await connection.call("GET", "responses", "samples", query=query)).root


async def compare_samples(
    connection: Connection,
    baseline: Experiment | int,
    candidate: Experiment | int,
    show: object,
    criteria: Sequence[Criterion | int] | None,
    categories: Mapping[str, Sequence[str]] | None,
) -> list[ResponsesSample]:
    """The samples of two experiments, row by row.

    Raises:
        InputError: A filter cannot be one, or both are the same experiment.
    """
    baseline_id = id_of(baseline, Experiment, "baseline")
    candidate_id = id_of(candidate, Experiment, "candidate")
    if baseline_id == candidate_id:
        raise InputError("baseline and candidate are the same experiment: pass two")
    if show not in _SHOWN:
        raise InputError(f"show must be 'improved', 'regressed' or None, not {show!r:.60}")
    asked = None
    if criteria is not None:
        given = several(criteria, "criteria", "criteria", Criterion)
        asked = [id_of(one, Criterion, f"criteria[{place}]") for place, one in enumerate(given)]
    if asked is not None and len(asked) > _MOST_CRITERIA:
        raise InputError(f"{len(asked)} criteria are too many: {_MOST_CRITERIA} are the most")
    query = {
        "experiment_a_id": baseline_id,
        "experiment_b_id": candidate_id,
        "filter_samples_by": str(show) if show else None,
        "criterion_ids": asked,
        "categorical_filters": categories_query(categories),
    }
    path = ("responses", "comparison", "samples")
    return decode(Samples, await connection.call("GET", *path, query=query)).root


async def usage_stats(
    connection: Connection, days: object, llm_config: LLMConfig | int | None
) -> ResponsesStats:
    """Usage of some days.

    Raises:
        InputError: ``days`` is out of range.
    """
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MOST_DAYS:
        raise InputError(f"days must be a whole number from 1 to {MOST_DAYS}, not {days!r:.60}")
    query = {"days": days, "llm_config_id": optional_id(llm_config, LLMConfig, "llm_config")}
    return decode(ResponsesStats, await connection.call("GET", "responses", "stats", query=query))
