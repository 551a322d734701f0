"""The documented columns of each kind of batch."""

from __future__ import annotations

import pickle
from typing import Any

from pydantic import BaseModel

from elluminate_async import Batch, PromptResponse, Rating, TemplateVariables
from tests.tables.results import failure, rating, response, responses, row

ERROR = ["error_code", "error", "error_status", "attempts"]
RESPONSE = ["epoch", "response", "input_tokens", "output_tokens", "duration_seconds", "llm_config"]


def columns(batch: Batch[Any]) -> list[str]:
    return batch.to_arrow().column_names


def test_columns_of_responses() -> None:
    """A row a position, under the input's columns and the answer's."""
    batch = responses()

    assert columns(batch) == [
        "position", "response_id", "template_variables_id", "input.n", "input.q", *RESPONSE, *ERROR
    ]  # fmt: skip
    first, failed, _ = batch.to_dicts()
    assert [*first.values()] == [
        0, 1, 101, 1, "x", 1, "a", 3, None, 0.5, "small", None, None, None, None
    ]  # fmt: skip
    assert [*failed.values()] == [
        1, *[None] * 10, "http_429", "too many requests", 429, 3
    ]  # fmt: skip


def test_rows_of_other_columns_have_theirs_together() -> None:
    """In the order in which they come first; null where a row has none."""
    batch = Batch([response(1, "a", x=1), response(2, "b", y=2, x=3)])

    assert [(r["input.x"], r["input.y"]) for r in batch.to_dicts()] == [(1, None), (3, 2)]


def test_columns_of_ratings() -> None:
    """A column a criterion, by its label where it has one; the share of YES beside."""
    batch = Batch(
        [
            [rating(1, "Is it right?", "YES"), rating(2, "Is it short?", "NO", label="short")],
            failure(1),
            [rating(2, "Is it short?", "YES", label="short")],
            [],
        ]
    )

    assert columns(batch) == [
        "position", "rating.Is it right?", "rating.short", "reasoning.Is it right?",
        "reasoning.short", "passed", *ERROR,
    ]  # fmt: skip
    rows = [[*row.values()][1:6] for row in batch.to_dicts()]
    assert rows == [
        ["YES", "NO", "why YES", "why NO", False],
        [None] * 5,
        [None, "YES", None, "why YES", True],
        [None] * 5,
    ]


def test_criteria_of_one_text_are_told_apart_by_id() -> None:
    """Also from one whose text is such a name already."""
    ratings = [rating(1, "a", "YES"), rating(2, "a", "NO"), rating(3, "a (2)", "YES")]
    names = [name for name in columns(Batch([ratings])) if name.startswith("rating.")]

    assert names == ["rating.a (1)", "rating.a (2) (2)", "rating.a (2)"]


def test_columns_of_template_variables() -> None:
    """The row and its id."""
    batch = Batch([row(7, a=1, b="x"), failure(1)])

    assert columns(batch) == ["position", "template_variables_id", "input.a", "input.b", *ERROR]
    assert [*batch.to_dicts()[0].values()][:4] == [0, 7, 1, "x"]


class Verdict(BaseModel):
    score: float
    error: str


def test_columns_of_other_models_and_values() -> None:
    """A model's fields, none of which hides a column of every batch; else the value."""
    assert columns(Batch([Verdict(score=1, error="x")])) == [
        "position", "score", "value.error", *ERROR
    ]  # fmt: skip
    assert columns(Batch([1, "a", failure(2)])) == ["position", "value", *ERROR]
    assert columns(Batch([[], [1]])) == ["position", "value", *ERROR]
    assert columns(Batch([response(1, "a"), row(1)])) == ["position", "value", *ERROR]


def test_a_batch_without_values_has_the_columns_of_its_kind() -> None:
    """Of the same types, so that files of several calls fit each other."""
    for kind, full in (
        (PromptResponse, Batch([response(1, "a")])),
        (TemplateVariables, Batch([row(1)])),
    ):
        for outcomes in ([], [failure(0)]):
            assert Batch[Any](outcomes, of=kind).to_arrow().schema == full.to_arrow().schema
    assert columns(Batch([failure(0)], of=Rating)) == ["position", "passed", *ERROR]
    assert columns(Batch([[]], of=Rating)) == ["position", "passed", *ERROR]
    assert columns(Batch([failure(0)])) == ["position", *ERROR]


def test_a_copy_and_a_part_have_the_same_columns() -> None:
    """Of a batch without values, too."""
    batch = Batch[Any]([failure(0)], of=PromptResponse)

    assert columns(batch) == columns(batch[:0]) == columns(pickle.loads(pickle.dumps(batch)))
