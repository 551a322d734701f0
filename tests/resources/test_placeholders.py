"""What looks like a placeholder and is none: told, as nobody would see it fail."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from elluminate_async import PlaceholderWarning
from elluminate_async.schemas.prompt_templates import lookalikes_in, placeholders_in
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Stage
from tests.flow.conftest import stage as stage


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize(
    "text",
    ["{{first name}}", "{{ a.b }}", "{{a-b}}", "{{x | upper}}", "{{items[0]}}", "{{größe (cm)}}"],
)
def test_what_is_told(text: str) -> None:
    """A name with a space, a dot, a dash, a filter or an index, once each, in any message."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"{text} and {{{{good}}}} and {text}"},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url"}]},
    ]

    assert lookalikes_in(messages) == ([] if "(" in text else [text])
    assert placeholders_in(messages) == ["good"]


@pytest.mark.parametrize(
    "text",
    [
        "{{x}}",
        "{{ _a1 }}",
        "{{größe}}",
        '{{"a": 1}}',
        "{{}}",
        "{{ }}",
        "{x y}",
        "{{a\nb}}",
        "{{a b",
    ],
)
def test_what_is_not_told(text: str) -> None:
    """Placeholders, JSON, what is empty, on two lines, in single braces, or without an end."""
    assert lookalikes_in([{"role": "user", "content": text}]) == []


def test_a_text_without_an_end_is_read_in_time() -> None:
    """A million braces and words cost what a million characters cost."""
    for text in ("{" * 1_000_000, "{{a " * 250_000, "{{" + "a " * 500_000, "{{a}" * 250_000):
        assert lookalikes_in([{"role": "user", "content": text}]) == []


async def test_a_template_that_is_made_is_looked_at(stage: Stage) -> None:
    """The warning names it and the line that awaits; the template is made all the same."""
    templates = stage.client.prompt_templates
    with pytest.warns(PlaceholderWarning, match=r"\{\{first name\}\}.* takes for text") as told:
        made = await templates.create("Hi {{first name}}, {{x}}", name="Odd")
    with pytest.warns(PlaceholderWarning, match=r"\{\{a\.b\}\}, \{\{a-b\}\}, which") as again:
        await templates.get_or_create("{{a.b}} {{a-b}}", name="Odd")

    assert made.placeholders == ["x"]
    assert [warning.filename for warning in (*told, *again)] == [__file__] * 2


async def test_a_row_with_such_a_column_tells_of_the_template(stage: Stage) -> None:
    """Also of a template that was made elsewhere; of one whose rows have no such column nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlaceholderWarning)
        template = await stage.client.prompt_templates.create("{{x}} {{first name}}", name="Odd")
    experiment, _ = await stage.client.experiments.get_or_create(
        "odd", prompt_template=template, collection=stage.collection
    )
    rows = await stage.client.template_variables.add_many(
        [{"x": "a"}, {"x": "b", "first name": "Ada"}], collection=stage.collection
    )
    responses = stage.client.responses

    with pytest.warns(PlaceholderWarning, match=r"\{\{first name\}\}") as told:
        batch = await responses.generate_many(template_variables=rows, experiment=experiment)
    await responses.generate_many(template_variables=[rows[0]], experiment=experiment)

    assert batch[1].response_str == "echo b {{first name}}"
    assert [warning.filename for warning in told] == [__file__]
