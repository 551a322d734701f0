"""The columns of an `Evaluation` as a table: one row a record.

| column | type | of |
|---|---|---|
| ``position`` | int | the index of the record |
| ``row`` | int | the index of its row in what was passed in |
| ``config`` | text | the configuration that answered |
| ``epoch`` | int | the repetition, from 1 |
| ``input.<column>`` | as passed in | one for each column of any row |
| ``response_id`` | int | the response; null where it failed, as are the next four |
| ``response`` | text | the last message of the assistant |
| ``input_tokens``, ``output_tokens`` | int | null where the service does not tell |
| ``duration_seconds`` | float | ditto |
| ``cost`` | float | of the generation, in the prices' currency; null where it is not known |
| ``rating.<criterion>`` | text | YES or NO; null where it was not measured |
| ``reasoning.<criterion>`` | text | why, in DETAILED mode |
| ``passed`` | bool | whether all are YES; null where that was not measured |
| ``error_step`` | text | ``add``, ``generate`` or ``rate``: what failed; null where nothing did |
| ``error_code``, ``error`` | text | `ItemError.code` and `ItemError.text` |

``<criterion>`` is as in `elluminate_async.tables.columns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.errors import one_line
from elluminate_async.tables.arrow import TableColumn
from elluminate_async.tables.junit import Case, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from elluminate_async.evaluation.records import EvaluationRecord


def record_columns(
    records: Sequence[EvaluationRecord], criteria: Mapping[int, str]
) -> list[TableColumn]:
    """The columns of these records; ``criteria`` are names by id."""
    names = criteria.values()
    return [
        TableColumn("position", "int"),
        TableColumn("row", "int"),
        TableColumn("config", "text"),
        TableColumn("epoch", "int"),
        *(TableColumn(f"input.{name}", "any") for name in _input_names(records)),
        TableColumn("response_id", "int"),
        TableColumn("response", "text"),
        TableColumn("input_tokens", "int"),
        TableColumn("output_tokens", "int"),
        TableColumn("duration_seconds", "float"),
        TableColumn("cost", "float"),
        *(TableColumn(f"rating.{name}", "text") for name in names),
        *(TableColumn(f"reasoning.{name}", "text") for name in names),
        TableColumn("passed", "bool"),
        TableColumn("error_step", "text"),
        TableColumn("error_code", "text"),
        TableColumn("error", "text"),
    ]


def record_rows(
    records: Sequence[EvaluationRecord], criteria: Mapping[int, str]
) -> Iterator[tuple[object, ...]]:
    """The rows of these records under their `record_columns`."""
    names = _input_names(records)
    for record in records:
        response, error = record.response, record.error
        metadata = response and response.generation_metadata
        said = {rating.criterion.id: rating for rating in record.ratings or ()}
        ratings = [said.get(id) for id in criteria]
        yield (
            record.position,
            record.row,
            record.config,
            record.epoch,
            *map(record.input.get, names),
            response and response.id,
            response and response.response_str,
            metadata and metadata.input_tokens,
            metadata and metadata.output_tokens,
            metadata and metadata.duration_seconds,
            record.cost,
            *(rating and str(rating.rating) for rating in ratings),
            *(rating and rating.reasoning for rating in ratings),
            record.passed,
            error and error.operation,
            error and error.code,
            error and error.text,
        )


def record_cases(
    records: Sequence[EvaluationRecord], criteria: Mapping[int, str]
) -> Iterator[Case]:
    """A case for each record: failed by a NO of the judge, else in error where a step failed."""
    for record in records:
        name = f"row {record.row}, epoch {record.epoch}, position {record.position}"
        error = record.error
        noes = [rating for rating in record.ratings or () if rating.rating != "YES"]
        if error is not None and not noes:
            finding = Finding(error.code, one_line(error.text), str(error))
            yield Case(name, record.config, error=finding)
            continue
        lines = [f"{criteria[r.criterion.id]}: {r.rating}. {r.reasoning or ''}" for r in noes]
        text = "\n".join([*lines, *([] if error is None else [str(error)])])
        message = one_line("; ".join(f"{r.rating}: {criteria[r.criterion.id]}" for r in noes))
        metadata = record.response and record.response.generation_metadata
        yield Case(
            name,
            record.config,
            failure=Finding("rating", message, text) if noes else None,
            seconds=metadata and metadata.duration_seconds,
        )


def _input_names(records: Iterable[EvaluationRecord]) -> list[str]:
    """The columns of all rows, in the order in which they come first."""
    return [*dict.fromkeys(name for record in records for name in record.input)]
