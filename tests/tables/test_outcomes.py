"""Outcomes beside their rows: the same columns and types whatever is in them, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async.errors import GenerationError, ItemError, RatingError
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import Message, Prompt, PromptResponse
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.tables.outcomes import responses_in, with_ratings, with_responses
from tests.tables.libraries import pa

RESPONSE = PromptResponse(
    id=7,
    prompt=Prompt(id=1, template_variables=TemplateVariables(id=3, input_values={"x": "y"})),
    messages=[Message(role="assistant", content="Half a \ud83d character")],
)
RATINGS = [
    Rating(id=1, criterion=Criterion(id=4, criterion_str="Is it right?"), rating="YES"),
    Rating(
        id=2, criterion=Criterion(id=5, criterion_str="Short?"), rating="NO", reasoning="\ud83d"
    ),
]
FAILED = GenerationError(
    "overloaded", position=1, operation="generate", attempts=2, status=529, request_id="r-1",
    response_id=8,
)  # fmt: skip
UNRATED = RatingError("no verdict", position=1, operation="rate")
RATING = "criterion_id: int64, criterion: string, rating: string, reasoning: string"
TYPES = {
    "id": "int64",
    "response_id": "int64",
    "response": "string",
    "error_code": "string",
    "error_text": "string",
    "attempts": "int32",
    "status": "int16",
    "request_id": "string",
    "ratings": f"list<element: struct<{RATING}>>",
    "rating_error_code": "string",
    "rating_error_text": "string",
}


def table(rows: int) -> Any:
    return pa.table({"id": pa.array(range(rows), pa.int64())})


@pytest.mark.parametrize(
    ("responses", "ratings"),
    [
        ([], []),
        ([FAILED, FAILED], [FAILED, UNRATED]),
        ([RESPONSE, RESPONSE], [RATINGS, []]),
        ([RESPONSE, FAILED], [RATINGS, FAILED]),
    ],
    ids=["empty", "all failed", "none failed", "mixed"],
)
def test_columns_have_one_type_whatever_is_in_them(
    responses: list[PromptResponse | ItemError], ratings: list[list[Rating] | ItemError]
) -> None:
    """Blocks that are empty, or failed as a whole, fit all the others."""
    done = with_ratings(with_responses(table(len(responses)), responses), ratings)

    types = {field.name: str(field.type).replace("item:", "element:") for field in done.schema}
    assert types == TYPES
    assert len(done) == len(responses)


def test_cells_are_those_of_the_outcomes() -> None:
    """One row each; of half a character there is a stand-in, as Arrow's texts are UTF-8."""
    done = with_ratings(with_responses(table(2), [RESPONSE, FAILED]), [RATINGS, FAILED])

    well, badly = done.to_pylist()
    assert well["response_id"] == 7
    assert well["response"] == "Half a ? character"
    assert [rating["rating"] for rating in well["ratings"]] == ["YES", "NO"]
    assert [rating["reasoning"] for rating in well["ratings"]] == [None, "?"]
    assert {well[name] for name in ("error_code", "error_text", "attempts", "status")} == {None}
    assert badly == {
        "id": 1, "response_id": 8, "response": None, "error_code": "generation_failed",
        "error_text": "overloaded", "attempts": 2, "status": 529, "request_id": "r-1",
        "ratings": None, "rating_error_code": "generation_failed",
        "rating_error_text": "overloaded",
    }  # fmt: skip


def test_the_way_back_has_ids_and_errors() -> None:
    """What was written is read again; columns of errors need not be there."""
    done = with_responses(table(2), [RESPONSE, FAILED])

    id, error = responses_in(done)
    assert id == 7
    assert isinstance(error, ItemError)
    assert (error.code, error.text, error.attempts, error.status, error.response_id) == (
        "generation_failed", "overloaded", 2, 529, 8,
    )  # fmt: skip
    assert responses_in(done.select(["response_id"])) == [7, 8]
