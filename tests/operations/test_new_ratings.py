"""A rating job's result: which response each list of ratings is of, and what is no rating."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async import ItemError, RatingError
from elluminate_async.operations.new_ratings import by_result
from elluminate_async.schemas.jobs import JobStatus


def rating(id: int, verdict: str = "YES") -> dict[str, Any]:
    return {"id": id, "rating": verdict, "criterion": {"id": id, "criterion_str": "is it so?"}}


def status(result: list[Any] | None, *failures: dict[str, Any]) -> JobStatus:
    return JobStatus.model_validate(
        {"status": "SUCCESS", "result": result, "item_failures": list(failures)}
    )


def test_a_result_is_in_the_order_of_the_request() -> None:
    """Outcome i is of response i; a list that is empty without a reason is nobody's."""
    found = by_result([5, 6, 7], status([[rating(1)], [], [rating(2), rating(3)]]))
    lists = {id: one for id, one in found.items() if not isinstance(one, ItemError)}
    assert {id: [each.id for each in ratings] for id, ratings in lists.items()} == {
        5: [1],
        7: [2, 3],
    }


@pytest.mark.parametrize("result", [None, [], [[rating(1)]], [[rating(1)]] * 3])
def test_a_result_of_another_length_is_none(result: list[Any] | None) -> None:
    """Which list is whose cannot be told then."""
    assert by_result([5, 6], status(result)) == {}


@pytest.mark.parametrize(
    ("code", "kept"), [("rating_failed", "rating_failed"), ("of a later version", "rating_failed")]
)
def test_a_failure_is_the_item_s_own(code: str, kept: str) -> None:
    """With the service's words; a code that this version does not know is that of ratings."""
    failure = {"index": 1, "message": "no verdict", "code": code}
    found = by_result([5, 6], status([[rating(1)], []], failure))
    error = found[6]
    assert isinstance(error, RatingError)
    assert (error.code, error.text, error.response_id) == (kept, "no verdict", 6)


def test_what_cannot_be_read_fails_that_response_alone() -> None:
    """As ``protocol``, with what is wrong; and a verdict that is none leaves it incomplete."""
    found = by_result([5, 6, 7], status([[{"id": "x"}], [rating(2)], [rating(3, "MAYBE")]]))
    unread, whole, none = found[5], found[6], found[7]
    assert isinstance(unread, RatingError)
    assert unread.code == "protocol"
    assert "unreadable ratings" in unread.text
    assert not isinstance(whole, ItemError)
    assert isinstance(none, RatingError)
    assert none.code == "incomplete"
