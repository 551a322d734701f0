"""What a call on responses takes for its inputs, and how large it takes their answers to be."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async import Experiment, InputError, PromptTemplate, TemplateVariables
from elluminate_async.engine.records import ids_of_ranges, ranges_of
from elluminate_async.operations.response_items import ResponsePlan, one_source
from elluminate_async.operations.stored_items import output_messages


def plan_of(**parts: Any) -> ResponsePlan:
    return ResponsePlan.check(parts.get("experiment", 1), parts.get("template"), None)


def row(id: int, **values: Any) -> TemplateVariables:
    return TemplateVariables.model_construct(id=id, input_values=values)


def template(id: int, text: str) -> PromptTemplate:
    return PromptTemplate.model_validate(
        {"id": id, "name": "T", "version": 1, "messages": [{"role": "user", "content": text}]}
    )


def test_the_template_is_that_of_the_experiment_or_the_one_given() -> None:
    """By its id or as an object; another than the experiment's is refused."""
    assert plan_of(template=4).template_id == 4
    assert plan_of(template=template(5, "{{x}}")).template_id == 5
    experiment = Experiment.model_construct(id=1, prompt_template=template(5, "{{x}}"))
    assert plan_of(experiment=experiment, template=5).template_id == 5
    with pytest.raises(InputError, match="is on the prompt template 5"):
        plan_of(experiment=experiment, template=6)


def test_answers_are_as_large_as_their_values() -> None:
    """Texts, numbers and what is nested count; an id says nothing of its row."""
    plan = plan_of()
    least = plan.answer_bytes(7)
    assert plan.answer_bytes(row(7, x="")) == least
    assert plan.answer_bytes(row(7, x="x" * 1000)) == least + 2000
    nested = plan.answer_bytes(row(7, x=["x" * 500, {"y": "x" * 500}], n=3, none=None))
    assert least + 2000 < nested < least + 2500


@pytest.mark.parametrize("variables", [row(1, x=1), {"x": 1}, 3])
def test_one_row_is_no_list_of_rows(variables: Any) -> None:
    """The remedy is named."""
    with pytest.raises(InputError, match=r"pass \[x\] for one"):
        one_source(variables, None)


@pytest.mark.parametrize("sources", [(None, None), ([1], 2)])
def test_there_is_one_source(sources: tuple[Any, Any]) -> None:
    """Rows, or a collection."""
    with pytest.raises(InputError, match="either template_variables= or collection="):
        one_source(*sources)


@pytest.mark.parametrize(
    "response", [3, None, {}, [], ["x"], [{"role": "user", "content": "x"}], [{"role": "tool"}, 3]]
)
def test_what_is_no_response_made_elsewhere(response: Any) -> None:
    """It must have words of the assistant's, or a tool's."""
    with pytest.raises(InputError, match=r"responses\[2\] must be a text"):
        output_messages(response, 2)


def test_a_response_made_elsewhere() -> None:
    """A text, or messages as they are."""
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    assert output_messages("y", 0) == [{"role": "assistant", "content": "y"}]
    assert output_messages(messages, 0) == messages


def test_ids_are_kept_as_ranges() -> None:
    """There and back; what is no range, or one of more than any memory holds, is refused."""
    assert ranges_of([3, 1, 2, 9, 7, 8, 20]) == [[1, 3], [7, 9], [20, 20]]
    assert [*ids_of_ranges([[1, 3], [7, 9], [20, 20]])] == [1, 2, 3, 7, 8, 9, 20]
    for nonsense in ([[3, 1]], [[0, 1 << 62]]):
        with pytest.raises(ValueError, match="no range of ids"):
            list(ids_of_ranges(nonsense))
