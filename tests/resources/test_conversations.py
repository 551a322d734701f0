"""Conversations by the SDK: its prompts are the server's, and a bad cell is never sent."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from elluminate_async import Column, Conversation, InputError, JobError, PromptTemplate
from elluminate_async.testing import VIRTUAL_TIME
from tests.resources.local import local


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def said(role: str, content: object, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def uce(*messages: dict[str, Any], **others: Any) -> dict[str, Any]:
    return Conversation(messages=list(messages), **others).cell()


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PARTS = [{"type": "text", "text": "a {{word}}"}, {"type": "image_url", "image_url": {"url": "u"}}]
TEMPLATES: list[list[dict[str, Any]]] = [
    [said("user", "{{word}}")],
    [said("system", "S {{ word }}"), said("user", "{{n}}, {{none}}, {{object}}")],
    [said("developer", "D"), said("system", "S"), said("user", "U"), said("assistant", "A")],
    [said("user", PARTS), said("assistant", None, tool_calls=[CALL]),
     said("tool", "{{word}}", tool_call_id="1")],
    [said("system", "Only {{word}}")],
    [said("user", "As told: {{talk}}")],
]  # fmt: skip
CELLS: list[object] = [
    uce(said("user", "u {{word}}")),
    uce(said("system", "s"), said("user", "u"), said("assistant", "a"), said("user", "v")),
    uce(
        said("developer", "d"),
        said("user", PARTS),
        tools=[{"type": "function", "function": {"name": "f"}}],
    ),
    uce(said("assistant", None, tool_calls=[CALL]), said("tool", "t", tool_call_id="1")),
    uce(tool_choice="none"),
    None,
]
OTHERS: list[object] = [
    "text {{word}}",
    "",
    '{"schema_version": "elluminate.uce/1", "input": {"messages": []}}',
    '[{"role": "user", "content": "ü"}]',
    "[1, 2]",
    [said("user", "u")],
]


async def test_prompts_are_the_servers() -> None:
    """Of every template with every cell `render_row` says what the server asked of its model.

    And `render_messages` too, of values which say what they are. Where a value is missing it is
    what would have been asked.
    """
    compared = 0
    async with local() as client:
        for kind, cells in (("conversation", CELLS + OTHERS), ("raw_input", OTHERS[:2])):
            columns = [*map(lambda name: Column(name=name), ("word", "n", "none", "object"))]
            collection = await client.collections.create(
                kind,
                columns=[*columns, Column(name="talk", column_type=kind)],
                variables=[
                    {"word": "{{n}}", "n": 1.5, "none": None, "object": {"a": [1]}, "talk": cell}
                    for cell in cells
                ],
            )
            for number, messages in enumerate(TEMPLATES):
                name = f"{kind} {number}"
                template = await client.prompt_templates.create(messages, name)
                experiment = await client.experiments.create(
                    name, prompt_template=template, collection=collection
                )
                with suppress(JobError):  # of a placeholder that no row has a value for
                    await client.experiments.run(experiment)
                responses = await client.responses.list(experiment=experiment)
                for response, cell in zip(responses, cells, strict=True):
                    row = response.prompt.template_variables
                    assert template.render_row(row) == response.prompt.messages
                    if kind == "conversation" and cell in CELLS:
                        local_ones = template.render_messages(**row.input_values)
                        assert local_ones == response.prompt.messages
                    compared += 1
    assert compared == len(TEMPLATES) * (len(CELLS) + len(OTHERS) + 2) == 84


async def test_a_row_that_is_a_conversation_needs_no_template() -> None:
    """An experiment runs on them alone, and its responses tell what the model was given."""
    tool = {"type": "function", "function": {"name": "weigh"}}
    talk = Conversation(messages=[said("user", "Hi")], tools=[tool], tool_choice="auto")
    async with local() as client:
        collection = await client.collections.create(
            "C", columns=[Column(name="talk", column_type="conversation")]
        )
        (row,) = await client.template_variables.add_many([{"talk": talk}], collection=collection)
        assert Conversation.of_cell(row.input_values["talk"]) == talk
        experiment = await client.experiments.create("E", collection=collection)
        await client.experiments.run(experiment)
        (response,) = await client.responses.list(experiment=experiment)
    assert response.response_str == "echo Hi"
    assert response.prompt.messages == talk.messages
    assert response.prompt.resolved_tools == [tool]
    assert response.prompt.resolved_tool_choice == "auto"


BAD: list[tuple[object, str]] = [
    ({"schema_version": "elluminate.uce/1", "input": {"messages": [{}]}}, "message 1 has no role"),
    ({"schema_version": "elluminate.uce/1"}, "has no input"),
    ([said("usr", "a")], "message 1 has the role 'usr'"),
    (3, "3 is none: a conversation is"),
]


async def test_a_bad_cell_is_not_sent() -> None:
    """The error names the row, the column and the problem; nothing of the others is stored."""
    async with local() as client:
        columns = [Column(name="talk", column_type="conversation")]
        collection = await client.collections.create("C", columns=columns)
        for cell, problem in BAD:
            rows = [{"talk": uce(said("user", "a"))}, {"talk": cell}]
            with pytest.raises(InputError, match=rf"values\[1\]\['talk'\] is no.*{problem}"):
                await client.template_variables.add_many(rows, collection=collection)
            with pytest.raises(InputError, match=rf"values\[0\]\['talk'\] is no.*{problem}"):
                await client.template_variables.add_to_collection(rows[1], collection)
            with pytest.raises(InputError, match=rf"variables\[1\]\['talk'\] is no.*{problem}"):
                await client.collections.create("D", columns=columns, variables=rows)
        # Without the columns it is known by the name of its format.
        with pytest.raises(InputError, match="no role"):
            await client.template_variables.add_many([{"x": BAD[0][0]}], collection=collection.id)
        assert await client.template_variables.list(collection=collection) == []


def test_a_bad_cell_is_not_rendered() -> None:
    """`render_messages` raises where the server's response would have an error."""
    template = PromptTemplate(id=1, name="T", version=1, messages=[said("user", "a")])
    with pytest.raises(ValueError, match="in the column 'talk': it has no input"):
        template.render_messages(talk={"schema_version": "elluminate.uce/1"})
