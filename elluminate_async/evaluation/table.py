"""The columns of an `Evaluation` as a table, one row a record.

| column | type | of |
|---|---|---|
| ``position``, ``row``, ``epoch`` | int | as in `EvaluationRecord` |
| ``config`` | text | ditto |
| ``input.<column>`` | as in the row | one for each column of any row |
| ``response_id`` | int | null where there is no response |
| ``response`` | text | ditto |
| ``rating.<criterion>`` | text | YES or NO; null where it was not measured |
| ``reasoning.<criterion>`` | text | why, in DETAILED mode |
| ``passed`` | bool | whether all criteria are YES; null where they were not measured |
| ``error_code``, ``error`` | text | why the record is not whole; null where it is |
| ``error_operation`` | text | ``generate``, ``rate`` or ``add``: the step that failed |
| ``input_tokens``, ``output_tokens`` | int | null where the service does not tell |
| ``duration_seconds``, ``cost`` | float | ditto |

``<criterion>`` is its label where it has one, else its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from elluminate_async.errors import one_line
from elluminate_async.evaluation.measures import criterion_name, criterion_names
from elluminate_async.schemas.ratings import RatingValue
from elluminate_async.tables.arrow import TableColumn
from elluminate_async.tables.junit import Case, Finding

if TYPE_CHECKING:
    from elluminate_async.evaluation.records import EvaluationRecord
    from elluminate_async.schemas.ratings import Rating

_FIRST: Final = (
    TableColumn("position", "int"),
    TableColumn("row", "int"),
    TableColumn("config", "text"),
    TableColumn("epoch", "int"),
)
_RESPONSE: Final = (TableColumn("response_id", "int"), TableColumn("response", "text"))
_LAST: Final = (
    TableColumn("passed", "bool"),
    TableColumn("error_code", "text"),
    TableColumn("error", "text"),
    TableColumn("error_operation", "text"),
    TableColumn("input_tokens", "int"),
    TableColumn("output_tokens", "int"),
    TableColumn("duration_seconds", "float"),
    TableColumn("cost", "float"),
)


def record_columns(records: Sequence[EvaluationRecord]) -> list[TableColumn]:
    """The columns of these records."""
    criteria = criterion_names(records)
    return [
        *_FIRST,
        *(TableColumn(f"input.{name}", "any") for name in _input_names(records)),
        *_RESPONSE,
        *(TableColumn(f"rating.{name}", "text") for name in criteria),
        *(TableColumn(f"reasoning.{name}", "text") for name in criteria),
        *_LAST,
    ]


def record_rows(records: Sequence[EvaluationRecord]) -> Iterator[tuple[object, ...]]:
    """The rows of these records under their `record_columns`."""
    inputs, criteria = _input_names(records), criterion_names(records)
    for record in records:
        response, error = record.response, record.error
        metadata = response and response.generation_metadata
        said = {criterion_name(rating.criterion): rating for rating in record.ratings or ()}
        found = [said.get(name) for name in criteria]
        yield (
            record.position,
            record.row,
            record.config,
            record.epoch,
            *map(record.input.get, inputs),
            response and response.id,
            response and response.response_str,
            *(rating and str(rating.rating) for rating in found),
            *(rating and rating.reasoning for rating in found),
            record.passed,
            error and error.code,
            error and error.text,
            error and error.operation,
            metadata and metadata.input_tokens,
            metadata and metadata.output_tokens,
            metadata and metadata.duration_seconds,
            record.cost,
        )


def record_cases(records: Sequence[EvaluationRecord]) -> Iterator[Case]:
    """A case for each record: failed by a NO of the judge, in error where it is not whole."""
    for record in records:
        name = f"row {record.row}"
        if record.epoch > 1:
            name += f", epoch {record.epoch}"
        error = record.error
        metadata = record.response and record.response.generation_metadata
        yield Case(
            name,
            f"elluminate.{record.config}",
            failure=_failure(record.ratings or ()),
            error=error and Finding(error.code, one_line(error.text), str(error)),
            seconds=metadata and metadata.duration_seconds,
        )


def _failure(ratings: Sequence[Rating]) -> Finding | None:
    noes = [rating for rating in ratings if rating.rating != RatingValue.YES]
    if not noes:
        return None
    names = [one_line(criterion_name(rating.criterion)) for rating in noes]
    message = "; ".join(f"{one.rating}: {name}" for one, name in zip(noes, names, strict=True))
    text = "\n".join(
        f"{name}: {one.rating}. {one.reasoning or ''}"
        for one, name in zip(noes, names, strict=True)
    )
    return Finding("rating", message, text)


def _input_names(records: Sequence[EvaluationRecord]) -> list[str]:
    """The columns of all rows, in the order in which they come first."""
    return [*dict.fromkeys(name for record in records for name in record.input)]
