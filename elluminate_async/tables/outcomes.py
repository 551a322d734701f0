"""Outcomes beside the rows that they are of, as Arrow: for data that is worked on in blocks.

Of a response:

| column | Arrow | of |
|---|---|---|
| ``response_id`` | ``int64`` | of the response, also of one that failed where there is a row |
| ``response`` | ``string`` | the last message of the assistant; null where it failed |
| ``error_code`` | ``string`` | `ItemError.code`; this and the next four are null where well |
| ``error_text`` | ``string`` | `ItemError.text` |
| ``attempts`` | ``int32`` | `ItemError.attempts` |
| ``status`` | ``int16`` | `ItemError.status` |
| ``request_id`` | ``string`` | `ItemError.request_id` |

Of its ratings:

| column | Arrow | of |
|---|---|---|
| ``ratings`` | a list of structs | one for each criterion; null where it failed |
| ``rating_error_code`` | ``string`` | as above; that of the response where there is none to rate |
| ``rating_error_text`` | ``string`` | |

The structs have ``criterion_id: int64`` and the texts ``criterion``, ``rating`` and ``reasoning``.

The types are the same whatever is in them, also of a block that is empty, or failed as a whole: all
blocks fit each other, and one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, cast

from elluminate_async.errors import ItemError
from elluminate_async.errors.codes import item_code
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.tables.arrow import ArrowForm, TableColumn
from elluminate_async.tables.texts import whole

RESPONSE_COLUMNS: Final = (
    TableColumn("response_id", "int"),
    TableColumn("response", "text"),
    TableColumn("error_code", "text"),
    TableColumn("error_text", "text"),
    TableColumn("attempts", "int32"),
    TableColumn("status", "int16"),
    TableColumn("request_id", "text"),
)
RATING_COLUMNS: Final = (
    TableColumn("ratings", "ratings"),
    TableColumn("rating_error_code", "text"),
    TableColumn("rating_error_text", "text"),
)

_ERROR: Final = tuple(column.name for column in RESPONSE_COLUMNS[2:])


def names_of(columns: Iterable[TableColumn]) -> list[str]:
    """Their names."""
    return [column.name for column in columns]


def with_responses(table: Any, outcomes: Sequence[PromptResponse | ItemError]) -> Any:
    """A table of Arrow with the columns of responses behind its own, outcome i in row i.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    return _appended(table, RESPONSE_COLUMNS, map(_response_cells, outcomes))


def with_ratings(table: Any, outcomes: Sequence[Sequence[Rating] | ItemError]) -> Any:
    """The same with the columns of ratings."""
    return _appended(table, RATING_COLUMNS, map(_rating_cells, outcomes))


def responses_in(table: Any, operation: str = "generate") -> list[int | ItemError | None]:
    """The way back: by row the id of the response, or its error, position i in row i.

    None is of a row that has neither. Of errors what the columns have is read, so that their class
    is `ItemError`. Without the columns of errors there are none.
    """
    ids = cast("list[int | None]", table.column("response_id").to_pylist())
    present = set(table.column_names)
    columns = [
        table.column(name).to_pylist() if name in present else repeat(None, len(ids))
        for name in _ERROR
    ]
    found: list[int | ItemError | None] = []
    errors = zip(*columns, strict=True)
    for position, (id, (code, text, attempts, status, request_id)) in enumerate(
        zip(ids, errors, strict=True)
    ):
        if code is None:
            found.append(id)
            continue
        found.append(
            ItemError(
                text or "",
                position=position,
                code=item_code(code),
                operation=operation,
                attempts=1 if attempts is None else attempts,
                status=status,
                request_id=request_id,
                response_id=id,
            )
        )
    return found


def _appended(
    table: Any, columns: Sequence[TableColumn], rows: Iterator[tuple[object, ...]]
) -> Any:
    made = ArrowForm(columns, tuple).table(rows)
    for field in made.schema:
        table = table.append_column(field, made.column(field.name))
    return table


def _response_cells(outcome: PromptResponse | ItemError) -> tuple[object, ...]:
    if not isinstance(outcome, ItemError):
        return (outcome.id, outcome.response_str, None, None, None, None, None)
    return (
        outcome.response_id,
        None,
        outcome.code,
        outcome.text,
        outcome.attempts,
        outcome.status,
        outcome.request_id,
    )


def _rating_cells(outcome: Sequence[Rating] | ItemError) -> tuple[object, ...]:
    if isinstance(outcome, ItemError):
        return (None, outcome.code, outcome.text)
    return ([_rating_cell(rating) for rating in outcome], None, None)


def _rating_cell(rating: Rating) -> dict[str, object]:
    reasoning = rating.reasoning
    return {
        "criterion_id": rating.criterion.id,
        "criterion": whole(rating.criterion.criterion_str),
        "rating": whole(str(rating.rating)),
        "reasoning": None if reasoning is None else whole(reasoning),
    }
