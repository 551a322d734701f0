"""Filters of reads, as callers give them and as queries have them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast

from elluminate_async.errors import InputError
from elluminate_async.operations.json_input import check_json
from elluminate_async.operations.references import id_of
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.ratings import RatingValue

if TYPE_CHECKING:
    from enum import StrEnum

    from elluminate_async.operations.json_input import QueryValue

Range: TypeAlias = tuple[float | None, float | None]
"""The least and the most, both included; None for no bound."""

_ENDS = 2
_CATEGORIES = "categorical_filters"


class FigureRanges(TypedDict, total=False):
    """Figures of responses, each with its least and most; one that is not known matches nothing."""

    duration_seconds: Range | None
    input_tokens: Range | None
    output_tokens: Range | None


def categories_query(filters: object) -> str | None:
    """Values by column, of which a row has one in each, as the query has them; None for no filter.

    Raises:
        InputError: It is no mapping of column names to lists of texts.
    """
    if filters is None:
        return None
    if not isinstance(filters, Mapping):
        raise InputError(
            f"{_CATEGORIES} must be a mapping of column names to values, such as "
            f"{{'kind': ['A', 'B']}}, not {filters!r:.80}"
        )
    columns = cast("Mapping[object, object]", filters)
    for column, values in columns.items():
        is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes)
        if not isinstance(column, str) or not is_list:
            raise InputError(
                f"{_CATEGORIES}[{column!r:.60}] must be a list of texts, such as ['A', 'B'], not "
                f"{values!r:.80}"
            )
        for value in cast("Sequence[object]", values):
            if not isinstance(value, str):
                raise InputError(
                    f"{_CATEGORIES}[{column!r:.60}] has {value!r:.60}, which is no text"
                )
    given = {column: [*cast("Sequence[str]", values)] for column, values in columns.items()}
    check_json(given, _CATEGORIES)
    return json.dumps(given) if given else None


def figure_query(figures: FigureRanges) -> dict[str, QueryValue]:
    """The bounds of figures, as the query has them.

    Raises:
        InputError: One is of no figure, no pair of numbers, or has its least above its most.
    """
    query: dict[str, QueryValue] = {}
    for name, given in figures.items():
        if name not in FigureRanges.__annotations__:
            raise InputError(
                f"{name!r:.60} is no filter of responses: those of figures are "
                f"{', '.join(FigureRanges.__annotations__)}"
            )
        if given is not None:
            low, high = _range(name, given)
            query |= {f"{name}_min": low, f"{name}_max": high}
    return query


def _range(name: str, given: object) -> Range:
    kinds = (int, float) if name == "duration_seconds" else int
    pair: object = tuple(cast("list[object]", given)) if isinstance(given, list) else given
    if not isinstance(pair, tuple) or len(cast("tuple[object, ...]", pair)) != _ENDS:
        raise InputError(
            f"{name} must be a pair (least, most), such as (10, None), not {given!r:.60}"
        )
    for bound in cast("tuple[object, object]", pair):
        is_number = isinstance(bound, kinds) and not isinstance(bound, bool)
        if bound is not None and not (is_number and math.isfinite(cast("float", bound))):
            kind = "whole numbers" if kinds is int else "finite numbers"
            raise InputError(f"{name} must be {kind} or None, not {bound!r:.60}")
    low, high = cast("Range", pair)
    if low is not None and high is not None and low > high:
        raise InputError(f"{name}: {low} is above {high}, so that nothing can match")
    return low, high


def verdict_query(verdicts: object) -> str | None:
    """Verdicts by criterion as the query has them; None for no filter.

    Raises:
        InputError: It is no mapping of criteria, or of their ids, to YES or NO.
    """
    if verdicts is None:
        return None
    if not isinstance(verdicts, Mapping):
        raise InputError(
            "verdicts must be a mapping of criteria to YES or NO, such as "
            f"{{criterion.id: 'NO'}}, not {verdicts!r:.80}"
        )
    given: dict[str, str] = {}
    for criterion, verdict in cast("Mapping[object, object]", verdicts).items():
        criterion_id = id_of(criterion, Criterion, "a criterion of verdicts")
        if verdict not in tuple(RatingValue):
            raise InputError(f"verdicts[{criterion_id}] must be 'YES' or 'NO', not {verdict!r:.60}")
        given[str(criterion_id)] = RatingValue(cast("str", verdict)).value
    return json.dumps(given) if given else None


def one_of(value: object, choices: type[StrEnum], name: str) -> str:
    """``value``, a member or the word for one.

    Raises:
        InputError: It is neither; the text has all words.
    """
    words = [choice.value for choice in choices]
    if not isinstance(value, str) or value not in words:
        raise InputError(f"{name} must be one of {', '.join(words)}, not {value!r:.60}")
    return str(value)
