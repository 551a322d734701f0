"""The columns of a `Batch` as a table: the position, its value, its error.

Every batch:

| column | type | of |
|---|---|---|
| ``position`` | int | the index of the input |
| the value's columns, below | | null where the item failed |
| ``error_code`` | text | `ItemError.code`; this and the next three are null where it went well |
| ``error`` | text | `ItemError.text` |
| ``error_status`` | int | `ItemError.status` |
| ``attempts`` | int | `ItemError.attempts` |

Of `PromptResponse`, as `generate_many` and `add_many` of ``client.responses`` give it:

| column | type | of |
|---|---|---|
| ``response_id`` | int | the response |
| ``template_variables_id`` | int | the row that it answers |
| ``input.<column>`` | as in the row | one for each column of any row |
| ``epoch`` | int | the repetition, from 1 |
| ``response`` | text | the last message of the assistant |
| ``input_tokens``, ``output_tokens`` | int | null where the service does not tell |
| ``duration_seconds`` | float | ditto |
| ``llm_config`` | text | the configuration's name |

Of the ratings of a response, as `rate_many` gives them:

| column | type | of |
|---|---|---|
| ``rating.<criterion>`` | text | YES, NO, or null where it was not asked |
| ``reasoning.<criterion>`` | text | why, in DETAILED mode |
| ``passed`` | bool | whether all are YES; null where nothing was asked |

``<criterion>`` is its label where it has one, else its text; where two have the same, the id
follows each: ``rating.Is it right? (7)``.

Of `TemplateVariables`: ``template_variables_id`` (int) and ``input.<column>``. Of another pydantic
model: its fields, a field that would have the name of a column above as ``value.<field>``. Of
anything else: ``value``. How values of any type are typed is in `elluminate_async.tables.arrow`.

A batch that a call returned has the columns of its kind also where it is empty or all failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard, cast

from pydantic import BaseModel

from elluminate_async.errors import ItemError, one_line
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.ratings import Rating, RatingValue
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.tables.arrow import TableColumn
from elluminate_async.tables.junit import Case, Finding

_POSITION: Final = TableColumn("position", "int")
_ERROR: Final = (
    TableColumn("error_code", "text"),
    TableColumn("error", "text"),
    TableColumn("error_status", "int"),
    TableColumn("attempts", "int"),
)
_RESERVED: Final = frozenset(column.name for column in (_POSITION, *_ERROR))
_WENT_WELL: Final = (None,) * len(_ERROR)

Values: TypeAlias = Callable[[], Iterable[Any]]
"""Gives the values of the positions that have one, each time from the first."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of one kind of value, and the cells of one value."""

    columns: tuple[TableColumn, ...]
    cells: Callable[[Any], tuple[object, ...]]


def batch_columns(outcomes: Sequence[object], of: type | None) -> list[TableColumn]:
    """The columns of a batch.

    Args:
        outcomes: A value or an `ItemError` a position.
        of: What its values are, for a batch that has none; `Rating` for a list of them. None
            where it is not known.

    Cost: one look at each outcome.
    """
    return [_POSITION, *_layout(outcomes, of).columns, *_ERROR]


def batch_rows(outcomes: Sequence[object], of: type | None) -> Iterator[tuple[object, ...]]:
    """The rows of a batch under its `batch_columns`."""
    layout = _layout(outcomes, of)
    missing = (None,) * len(layout.columns)
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, ItemError):
            error = (outcome.code, outcome.text, outcome.status, outcome.attempts)
            yield (position, *missing, *error)
        else:
            yield (position, *layout.cells(outcome), *_WENT_WELL)


def batch_cases(outcomes: Sequence[object], of: type | None) -> Iterator[Case]:
    """A case for each position: failed by a NO of the judge, in error where the item failed."""
    group = "elluminate.batch" if of is None else f"elluminate.{of.__name__}"
    for position, outcome in enumerate(outcomes):
        name = f"position {position}"
        if isinstance(outcome, ItemError):
            error = Finding(outcome.code, one_line(outcome.text), str(outcome))
            yield Case(name, group, error=error)
        elif isinstance(outcome, PromptResponse):
            metadata = outcome.generation_metadata
            yield Case(name, group, seconds=metadata and metadata.duration_seconds)
        else:
            yield Case(name, group, failure=_failure(outcome))


def _failure(outcome: object) -> Finding | None:
    if not _is_ratings(outcome):
        return None
    noes = [rating for rating in outcome if rating.rating != RatingValue.YES]
    if not noes:
        return None
    message = "; ".join(f"{r.rating}: {one_line(_name_of(r.criterion))}" for r in noes)
    text = "\n".join(f"{_name_of(r.criterion)}: {r.rating}. {r.reasoning or ''}" for r in noes)
    return Finding("rating", message, text)


def _layout(outcomes: Sequence[object], of: type | None) -> _Layout:
    def values() -> Iterator[Any]:
        return (outcome for outcome in outcomes if not isinstance(outcome, ItemError))

    kinds: set[type] = {*map(type, values())}
    if not kinds and of is None:
        return _Layout((), tuple)
    kind = kinds.pop() if len(kinds) == 1 else None if kinds else of
    if kind is PromptResponse:
        return _of_responses(values)
    if kind is TemplateVariables:
        return _of_variables(values)
    if kind in (list, Rating) and all(map(_is_ratings, values())):
        return _of_ratings(values, of)
    if kind is not None and issubclass(kind, BaseModel):
        return _of_models(kind)
    return _Layout((TableColumn("value", "any"),), lambda value: (value,))


def _is_ratings(value: object) -> TypeGuard[list[Rating]]:
    if not isinstance(value, list):
        return False
    return all(isinstance(part, Rating) for part in cast("list[object]", value))


def _of_responses(values: Values) -> _Layout:
    names = _input_names(response.prompt.template_variables for response in values())

    def cells(response: PromptResponse) -> tuple[object, ...]:
        row, metadata = response.prompt.template_variables, response.generation_metadata
        config = metadata and metadata.llm_model_config
        return (
            response.id,
            row.id,
            *map(row.input_values.get, names),
            response.epoch,
            response.response_str,
            metadata and metadata.input_tokens,
            metadata and metadata.output_tokens,
            metadata and metadata.duration_seconds,
            config and config.name,
        )

    columns = (
        TableColumn("response_id", "int"),
        TableColumn("template_variables_id", "int"),
        *_input_columns(names),
        TableColumn("epoch", "int"),
        TableColumn("response", "text"),
        TableColumn("input_tokens", "int"),
        TableColumn("output_tokens", "int"),
        TableColumn("duration_seconds", "float"),
        TableColumn("llm_config", "text"),
    )
    return _Layout(columns, cells)


def _of_variables(values: Values) -> _Layout:
    names = _input_names(values())
    columns = (TableColumn("template_variables_id", "int"), *_input_columns(names))
    return _Layout(columns, lambda row: (row.id, *map(row.input_values.get, names)))


def _input_names(rows: Iterable[TemplateVariables]) -> list[str]:
    """The columns of all rows, in the order in which they come first."""
    return [*dict.fromkeys(name for row in rows for name in row.input_values)]


def _input_columns(names: Iterable[str]) -> Iterator[TableColumn]:
    return (TableColumn(f"input.{name}", "any") for name in names)


def _of_ratings(values: Values, of: type | None) -> _Layout:
    criteria = {r.criterion.id: r.criterion for ratings in values() for r in ratings}
    if not criteria and of is not Rating:  # empty lists may be of anything
        return _Layout((TableColumn("value", "any"),), lambda value: (value,))
    names = criterion_names(criteria.values()).values()

    def cells(ratings: list[Rating]) -> tuple[object, ...]:
        by_id = {rating.criterion.id: rating for rating in ratings}
        found = [by_id.get(id) for id in criteria]
        yes = sum(rating.rating == RatingValue.YES for rating in by_id.values())
        return (
            *(rating and str(rating.rating) for rating in found),
            *(rating and rating.reasoning for rating in found),
            yes == len(by_id) if by_id else None,
        )

    columns = (
        *(TableColumn(f"rating.{name}", "text") for name in names),
        *(TableColumn(f"reasoning.{name}", "text") for name in names),
        TableColumn("passed", "bool"),
    )
    return _Layout(columns, cells)


def criterion_names(criteria: Iterable[Criterion]) -> dict[int, str]:
    """A name for each, by its id: its label or text, and of none that is another's."""
    plain = {criterion.id: _name_of(criterion) for criterion in criteria}
    used = Counter(plain.values())
    names: dict[int, str] = {}
    for id, name in plain.items():
        own = name if used[name] == 1 else f"{name} ({id})"
        while own in names.values() or (own != name and own in used):
            own = f"{own} ({id})"
        names[id] = own
    return names


def _name_of(criterion: Criterion) -> str:
    return criterion.label or criterion.criterion_str


def _of_models(kind: type[BaseModel]) -> _Layout:
    fields = [*kind.model_fields]
    columns = tuple(
        TableColumn(f"value.{name}" if name in _RESERVED else name, "any") for name in fields
    )
    return _Layout(columns, lambda model: tuple(getattr(model, name) for name in fields))
