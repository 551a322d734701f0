"""The rows of two runs in pairs: which are the same, by what the prompts ask for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from elluminate_async.tables.texts import json_text

if TYPE_CHECKING:
    from elluminate_async.evaluation.comparing import Comparison


@dataclass(frozen=True, slots=True)
class RunRows:
    """The rows of a run, to be paired with those of another.

    Attributes:
        paired_by: See `EvaluationRecord.paired_by`; empty where it is not known.
    """

    inputs: Sequence[Mapping[str, Any]]
    paired_by: Sequence[str] = ()


def twins_of(before: RunRows, now: RunRows) -> list[Hashable]:
    """For each row of a run the index of its twin in another; where none is, a key of its own.

    Twins have the same values in the columns by which either run is paired and that all rows of
    both have: an answer that was made elsewhere is a column too, and differs. Where there are
    no such columns, all their content is the same. Values are compared as the JSON that a file
    of records has of them. Among equal rows the first is paired with the first.
    """
    columns = _columns(before, now)
    places = {key: index for index, key in enumerate(_row_keys(now.inputs, columns))}
    return [places.get(key, key) for key in _row_keys(before.inputs, columns)]


def explained(comparison: Comparison, before: RunRows, now: RunRows) -> Comparison:
    """``comparison``; where it has no pair, its reason tells also how rows are paired."""
    if comparison.reason is None:
        return comparison
    columns = _columns(before, now)
    by = "their whole content, as they share no column that a prompt asks for"
    if columns:
        by = f"their values of {', '.join(map(repr, columns))}"
    return replace(comparison, reason=f"{comparison.reason}; rows are paired by {by}")


def _columns(before: RunRows, now: RunRows) -> list[str]:
    every = [*before.inputs, *now.inputs]
    return [
        name
        for name in dict.fromkeys([*before.paired_by, *now.paired_by])
        if all(name in row for row in every)
    ]


def _row_keys(inputs: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[Hashable]:
    """The content of each row, and a count among equal ones."""
    seen = Counter[str]()
    for row in inputs:
        # A date in memory is a text in a file, and a Decimal a number: both sides as in a file.
        kept = json.loads(json_text(row))
        told = {name: kept[name] for name in columns} if columns else kept
        content = json.dumps(told, sort_keys=True)
        yield content, seen[content]
        seen[content] += 1
