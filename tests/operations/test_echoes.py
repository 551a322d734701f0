"""What a row must say of its input to count as that input's."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async.operations.echoes import Echo, hash_of, hash_of_row
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.responses import GenerationMetadata, Message, Prompt, PromptResponse
from elluminate_async.schemas.template_variables import TemplateVariables


def row_of(values: dict[str, Any], prompt: Any = None, text: str = "hello") -> PromptResponse:
    """A row of entry 5 and template 3, with the prompt it was made from, if that is told."""
    template = PromptTemplate(
        id=3, name="t", version=1, messages=[{"role": "user", "content": "say {{x}}"}],
        placeholders=["x"],
    )  # fmt: skip
    messages = [] if prompt is None else [{"role": "user", "content": prompt}]
    return PromptResponse(
        id=1,
        prompt=Prompt(
            id=1,
            prompt_template=template,
            template_variables=TemplateVariables(id=5, input_values=values),
            messages=messages,
        ),
        messages=[Message(role="assistant", content=text)],
        generation_metadata=GenerationMetadata(),
    )


def variables(values: dict[str, Any], id: int = 5) -> TemplateVariables:
    return TemplateVariables(id=id, input_values=values)


ROW = row_of({"x": "a", "y": [1, 2.5, None]})


@pytest.mark.parametrize(
    ("echo", "fits"),
    [
        (Echo(), True),
        (Echo(variables=variables({"y": [1, 2.5, None], "x": "a"})), True),
        (Echo(variables=variables({"y": (1, 2.5, None), "x": "a"})), True),
        (Echo(variables=variables({"x": "b", "y": [1, 2.5, None]})), False),
        (Echo(variables=variables({"x": "a"})), False),
        (Echo(variables=variables({"x": "a", "y": [1, 2.5, None]}, id=6)), False),
        (Echo(template_id=3), True),
        (Echo(template_id=4), False),
        (Echo(config_id=9), True),
        (Echo(text="hello\n"), True),
        (Echo(text="hell"), False),
    ],
)
def test_what_contradicts(echo: Echo, fits: bool) -> None:
    """The entry's id or content, the template, or what was to be stored."""
    assert echo.fits(ROW) is fits


@pytest.mark.parametrize(
    ("values", "prompt", "fits"),
    [
        ({"x": "a"}, "say a", True),
        ({"x": "b"}, "say a", False),
        ({"x": "a"}, "say ab", False),
        ({"x": "a"}, "say a\n", True),
        ({"x": "a"}, None, True),
        ({"x": {"k": 1}}, "say something", True),
        ({}, "say a", True),
        ({"x": "b"}, [{"type": "text", "text": "say a"}], True),
    ],
)
def test_a_prompt_that_was_made_from_other_values(
    values: dict[str, Any], prompt: Any, fits: bool
) -> None:
    """It contradicts where that is certain: how a service writes other values is its affair."""
    assert Echo(filled=True).fits(row_of(values, prompt)) is fits
    assert Echo().fits(row_of(values, prompt))


def test_hashes_are_of_contents() -> None:
    """The order of names says nothing; everything else does."""
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert hash_of({"a": 1}) != hash_of({"a": "1"})
    assert hash_of("\ud800") == hash_of("\ud800")
    assert hash_of({1: "a", "b": 2}) == hash_of({1: "a", "b": 2})
    assert hash_of_row(row_of({"x": "a"})) == hash_of_row(row_of({"x": "a"}, "p", text="other"))
    assert hash_of_row(row_of({"x": "a"})) != hash_of_row(row_of({"x": "b"}))
