"""Parts that the rows of an answer repeat: one object for all, and each checked all the same."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from elluminate_async.schemas.base import Repeated
from elluminate_async.schemas.jobs import RatingJobStatus, ResponseJobStatus
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.responses import Prompt, PromptResponse


def row(id: int, **template: Any) -> dict[str, Any]:
    return {
        "id": id,
        "prompt": {
            "id": id,
            "prompt_template": {"id": 1, "name": "t", "version": 1, **template},
            "template_variables": {
                "id": id,
                "input_values": {"n": id},
                "collection": {"id": 1, "name": "c", "columns": [{"name": "n"}]},
            },
        },
        "generation_metadata": {"llm_model_config": {"id": 1, "name": "m"}},
    }


def rows_of(*rows: dict[str, Any]) -> list[PromptResponse]:
    text = json.dumps({"status": "SUCCESS", "result": rows})
    status = ResponseJobStatus.model_validate_json(text, context=Repeated())
    assert status.result is not None
    return [found for found in status.result if isinstance(found, PromptResponse)]


def test_equal_parts_are_one_object() -> None:
    """Rows of one answer share template, collection and configuration; the rest is their own."""
    first, second = rows_of(row(1), row(2))

    assert first.prompt.prompt_template is second.prompt.prompt_template
    collection = first.prompt.template_variables.collection
    assert collection is not None
    assert collection is second.prompt.template_variables.collection
    metadata = [found.generation_metadata for found in (first, second)]
    assert metadata[0] is not None
    assert metadata[1] is not None
    assert metadata[0].llm_model_config is metadata[1].llm_model_config
    assert [found.prompt.template_variables.input_values for found in (first, second)] == [
        {"n": 1},
        {"n": 2},
    ]


def test_sharing_changes_no_value() -> None:
    """With and without it the same documents are read."""
    documents = [row(1), row(2, name="other"), row(3)]

    alone = [PromptResponse.model_validate(document) for document in documents]

    assert rows_of(*documents) == alone


def test_parts_of_one_id_that_differ_are_not_shared() -> None:
    """A template that was changed while the answer was made is each row's own."""
    names = [
        found.prompt.prompt_template.name
        for found in rows_of(row(1), row(2, name="other"), row(3))
        if found.prompt.prompt_template is not None
    ]

    assert names == ["t", "other", "t"]


def test_a_bad_part_is_refused() -> None:
    """A part that is no such document is refused where it stands, also after a good one."""
    prompts = [row(id, **extra)["prompt"] for id, extra in ((1, {}), (2, {"version": "x"}))]
    parts = Repeated()
    Prompt.model_validate(prompts[0], context=parts)

    with pytest.raises(ValidationError, match=r"prompt_template\.version"):
        Prompt.model_validate(prompts[1], context=parts)


def test_parts_without_an_id_are_shared_where_they_are_equal() -> None:
    """As the configuration of a judge is, of which each rating tells."""
    documents = [row(1), row(2)]
    for document in documents:
        del document["generation_metadata"]["llm_model_config"]["id"]

    metadata = [found.generation_metadata for found in rows_of(*documents)]

    assert metadata[0] is not None
    assert metadata[1] is not None
    assert metadata[0].llm_model_config == metadata[1].llm_model_config
    assert metadata[0].llm_model_config is metadata[1].llm_model_config
    documents[1]["generation_metadata"]["llm_model_config"]["name"] = "n"
    other = rows_of(*documents)[1].generation_metadata
    assert other is not None
    assert other.llm_model_config != metadata[0].llm_model_config


def test_a_context_of_others_is_left_alone() -> None:
    """A context that a user of the models passes for validators of their own is left alone."""
    context = {"mine": 1}

    found = Prompt.model_validate(row(1)["prompt"], context=context)

    assert isinstance(found.prompt_template, PromptTemplate)
    assert context == {"mine": 1}


def test_one_bad_element_leaves_the_others_readable() -> None:
    """Where an element is no response, or no ratings, the document is read without their types."""
    good = row(1)
    text = json.dumps({"status": "SUCCESS", "result": [good, {"id": "none"}]})
    responses = ResponseJobStatus.model_validate_json(text, context=Repeated())
    text = json.dumps({"status": "SUCCESS", "result": [[], None, [{"id": 1}]]})
    ratings = RatingJobStatus.model_validate_json(text, context=Repeated())

    assert responses.result == [good, {"id": "none"}]
    assert ratings.result == [[], None, [{"id": 1}]]
