"""Criteria to add: which entries are taken, and which criterion of the answer is whose."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async import AsyncClient, BatchOptions, Criterion, CriterionIn, InputError
from elluminate_async.operations.new_criteria import matched
from tests.resources.local import local


async def test_criteria_are_taken_in_every_form_that_has_a_text() -> None:
    """A text, one with a label, a mapping of both, and what a listing of criteria gives."""
    async with local() as client:
        first = await client.prompt_templates.create("say {{x}}", "t")
        second = await client.prompt_templates.create("tell {{x}}", "u")
        given: list[Any] = ["a?", CriterionIn(criterion_str="b?", label="B")]
        given.append({"criterion_str": "c?", "label": "C"})
        await client.criteria.add_many(given, prompt_template=first)

        copied = await client.criteria.add_many(
            await client.criteria.list(first), prompt_template=second
        )
        of_set = await client.criterion_sets.create("s", list(copied))

        labels = {"a?": None, "b?": "B", "c?": "C"}
        assert {one.criterion_str: one.label for one in copied} == labels
        assert {one.criterion_str: one.label for one in of_set.criteria or []} == labels


@pytest.mark.parametrize(
    ("criteria", "text"),
    [
        (["a?", 5], r"criteria\[1\] must be a text, CriterionIn or Criterion, not 5"),
        (
            ["a?", {"text": "b?"}],
            r"criteria\[1\] has no key 'text': it has criterion_str and label",
        ),
        (["a?", {"label": "b"}], r"criteria\[1\] cannot be sent: criterion_str: Field required"),
        (["a?", {"criterion_str": 5}], r"criteria\[1\] cannot be sent: criterion_str"),
        (["a?", ""], r"criteria\[1\] is blank"),
        ([" \n"], r"criteria\[0\] is blank"),
        ([{"criterion_str": " "}], r"criteria\[0\] is blank"),
        ([{"criterion_str": "a?", "lable": "b"}], r"criteria\[0\] has no key 'lable'"),
        ([CriterionIn(criterion_str="")], r"criteria\[0\] is blank"),
        ({"criterion_str": "a?"}, r"pass \[x\] for one"),
        ("a?", r"pass \[x\] for one"),
        (None, "criteria must be a list of texts, not None"),
    ],
)
async def test_what_is_no_criterion_is_refused(criteria: Any, text: str) -> None:
    """Nothing is sent, so that ``delete_existing`` deletes nothing."""
    # Nobody listens there: what is sent ends in another error.
    options = BatchOptions(retry_for=0)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options)
    try:
        with pytest.raises(InputError, match=text):
            await client.criteria.add_many(criteria, prompt_template=1, delete_existing=True)
        if criteria is not None:
            with pytest.raises(InputError, match=text):
                await client.criterion_sets.create("s", criteria)
        with pytest.raises(InputError, match="criterion_str is blank"):
            await client.criteria.update(1, criterion_str=" ")
        odd: Any = 5
        with pytest.raises(InputError, match="the criterion cannot be sent"):
            await client.criteria.update(1, criterion_str=odd)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("texts", "answered", "ids"),
    [
        (["A?", "B?", "C?"], ["A?", "A?", "A?"], [1, None, None]),
        (["A?", "B?"], ["B?", "A?"], [2, 1]),
        (["A?", "A?"], ["A?"], [1, 1]),
        (["A?", "A?"], ["A?", "A?"], [1, 2]),
        (["A?", "A? "], ["A?", "A?"], [1, 2]),
        (["A? ", "A?"], ["A?", "A?"], [1, 2]),
        (["A?", "A? "], ["A? ", "A?"], [2, 1]),
        (["A?", "A? "], ["A?"], [1, 1]),
        (["A?", "a?"], ["A?"], [1, None]),
        (["is  it\nA?"], ["Is it a?"], [1]),
        (["A?", "B?"], ["C?", "B?"], [None, 2]),
        ([], ["A?"], []),
    ],
)
def test_a_criterion_is_found_by_its_text(
    texts: list[str], answered: list[str], ids: list[int | None]
) -> None:
    """Trimmed or not, in any order, and never by its place alone."""
    found = [Criterion(id=id, criterion_str=text) for id, text in enumerate(answered, 1)]
    batch = matched(texts, found)
    assert [batch.succeeded[i].id if i in batch.succeeded else None for i in range(len(batch))] == (
        ids
    )
    assert {error.code for error in batch.failed.values()} <= {"no_result"}


async def test_criteria_that_are_missing_are_sent_again_together() -> None:
    """`retry_failed` says so."""
    batch = matched(["A?", "B?"], [Criterion(id=1, criterion_str="A?")])
    with pytest.raises(InputError, match=r"call criteria\.add_many again with all of them"):
        await batch.retry_failed()
