"""Conversations of the official client's own making: stored, run, and read back.

Prints ``ok`` at the end.
"""

from elluminate import Client
from elluminate.exceptions import APIError
from elluminate.schemas import CollectionColumn
from elluminate.schemas.conversation import UCEInput, UCEPayloadV1

import whole

whole.watch()

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hello {{fruit}}"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "3 kg"},
    {"role": "user", "content": "And now?"},
]
WEIGH = {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "weigh"}}
SCHEMA = {
    "type": "object",
    "properties": {"price": {"type": "number"}},
    "required": ["price"],
    "additionalProperties": False,
}
FORMS = [
    {"type": "json_schema", "json_schema": {"name": "offer", "schema": SCHEMA}},
    {"type": "json_object"},
    {"type": "text"},
    None,
]


def payload(form):
    made = UCEPayloadV1.from_openai(
        TURNS, tools=[WEIGH], tool_choice=NAMED, response_format=form, metadata={"a": 1}
    )
    return made.to_uce_dict()


def run(client):
    cells = [payload(form) for form in FORMS]
    columns = [
        CollectionColumn(name="talk", column_type="conversation"),
        CollectionColumn(name="fruit", column_type="text"),
    ]
    rows = [{"talk": cell, "fruit": "apples"} for cell in cells]
    collection = client.create_collection("talks", variables=rows, columns=columns)
    assert [row.input_values["talk"] for row in collection.variables] == cells
    criteria, _ = client.get_or_create_criterion_set("of talks")
    criteria.add_criteria(["Is it brief?"])

    alone = client.run_experiment("alone", None, collection, criterion_set=criteria)
    prompts = [one.prompt for one in alone.rated_responses]
    assert all(one.response_str and len(one.ratings) == 1 for one in alone.rated_responses)
    for prompt in prompts:
        assert told(prompt.messages) == told(TURNS)
        assert prompt.prompt_template is None
        assert prompt.resolved_tools == [WEIGH]
        assert prompt.resolved_tool_choice == NAMED
        assert prompt.is_stale is False
    first, *others = [prompt.resolved_response_format for prompt in prompts]
    assert first["json_schema"]["schema"] == SCHEMA
    assert others == [{"type": "json_object"}, {"type": "text"}, None]
    assert alone.rated_responses[0].response_str.startswith('{"price"')

    template, _ = client.get_or_create_prompt_template(
        "of talks", [{"role": "system", "content": "You sell {{fruit}}."}], response_format=SCHEMA
    )
    both = client.run_experiment("both", template, collection, criterion_set=criteria)
    for one in both.rated_responses:
        first = {"role": "system", "content": "You sell apples."}
        assert told(one.prompt.messages) == told([first, *TURNS])
    assert both.rated_responses[3].prompt.resolved_response_format == SCHEMA

    # The client checks the shape of nothing but what it is given as OpenAI's.
    bad = UCEPayloadV1(input=UCEInput(messages=[{"content": "of nobody"}])).to_uce_dict()
    try:
        client._template_variables.add_to_collection({"talk": bad, "fruit": "pears"}, collection)
    except APIError as error:
        said = str(error)
    assert "'talk': message 1 has no role" in said, said
    return "ok"


def told(messages):
    """Roles and texts; the client's models read parts and calls of tools once only."""
    contents = [(one["role"], one.get("content")) for one in messages]
    return [(role, content if isinstance(content, str) else None) for role, content in contents]


print(run(Client()))
