"""Prompts from columns of conversations and of raw inputs, with a template and without."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async import Conversation
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, OpenAIModel
from elluminate_async.server.store import prompts
from tests.server.api import Api, ScriptedModel, batch
from tests.server.endpoint import completion

if TYPE_CHECKING:
    import aiohttp

    from tests.server.endpoint import Endpoint

SYSTEM = {"role": "system", "content": "You sell {{fruit}}."}
ASK = {"role": "user", "content": "Is {{fruit}} in season?"}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello {{fruit}}"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "And now?"},
]
WEIGH = {"type": "function", "function": {"name": "weigh"}}
COUNT = {"type": "function", "function": {"name": "count"}}
FORM = {"type": "object", "properties": {"price": {"type": "number"}}}


class Watching(ScriptedModel):
    """Keeps the requests; answers what is to be JSON with an object."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[ModelRequest] = []
        self.judged: list[str] = []

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        if request.purpose == "judge":
            self.judged.append(str(request.messages[-1]["content"]))
            return await super().complete(request)
        self.requests.append(request)
        return ModelAnswer("{}")


def uce(*messages: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A cell."""
    return {"schema_version": "elluminate.uce/1", "input": {"messages": [*messages], **others}}


async def run(
    api: Api, kind: str, cells: list[Any], template: dict[str, Any] | None = None
) -> list[Any]:
    """The responses of an experiment over these cells, each beside the fruit of its row."""
    columns = [{"name": "fruit"}, {"name": "talk", "column_type": kind}]
    rows = [{"fruit": f"fruit {i}", "talk": cell} for i, cell in enumerate(cells)]
    body: dict[str, Any] = {"name": "C", "columns": columns, "variables": rows}
    collection = await api.post("/collections", body)
    body = {"name": "E", "collection_id": collection["id"], "generate": True}
    if template is not None:
        made = await api.post("/prompt_templates", {"name": "T", **template})
        body["prompt_template_id"] = made["id"]
    started = await api.post("/experiments", body)
    await api.ended(f"/experiments/{started['id']}/generation/{started['generation_task_id']}")
    return await api.items("/responses")


def resolved(response: Any) -> list[Any]:
    names = ("tools", "tool_choice", "response_format")
    return [response["prompt"][f"resolved_{name}"] for name in names]


async def test_a_conversation_is_the_prompt(session: aiohttp.ClientSession) -> None:
    """Without a template: its messages as they are, its tools, its form of the answer."""
    form = {"json_schema": FORM}
    cells = [
        uce(*TURNS, tools=[WEIGH], tool_choice="required", response_format=form),
        json.dumps(uce(TURNS[1])),
        [TURNS[1]],
        "Plain {{fruit}}",
        uce(TURNS[1], response_format={"hint": "json_object"}),
    ]
    async with LocalServer(model=(model := Watching())) as server:
        api = Api(session, server)
        responses = await run(api, "conversation", cells)
        assert [one["prompt"]["messages"] for one in responses] == [
            TURNS,
            [TURNS[1]],
            [TURNS[1]],
            [{"role": "user", "content": "Plain {{fruit}}"}],
            [TURNS[1]],
        ]
        wrapped = {"type": "json_schema", "json_schema": {"name": "answer", "schema": FORM}}
        assert resolved(responses[0]) == [[WEIGH], "required", wrapped]
        assert resolved(responses[1]) == [None, None, None]
        assert resolved(responses[4]) == [None, None, {"type": "json_object"}]
        assert all(one["prompt"]["prompt_template"] is None for one in responses)
        by_prompt = {str(one.messages): one for one in model.requests}
        sent = by_prompt[str(TURNS)]
        assert (sent.tools, sent.tool_choice) == ([WEIGH], "required")
        assert sent.json_schema is not None
        assert sent.json_schema.schema == FORM


async def test_a_conversation_goes_on_where_the_template_ends(
    session: aiohttp.ClientSession,
) -> None:
    """Instructions first, placeholders in the template only; tools are the cell's if it has any."""
    template = {
        "messages": [SYSTEM, ASK],
        "tools": [COUNT],
        "tool_choice": {"type": "function", "function": {"name": "count"}},
        "response_format_json_schema": FORM,
    }
    cells = [uce(*TURNS, tools=[WEIGH], response_format={"hint": "text"}), uce(TURNS[1]), None]
    async with LocalServer(model=(model := Watching())) as server:
        responses = await run(Api(session, server), "conversation", cells, template)
    prompts = [one["prompt"]["messages"] for one in responses]
    texts = [[message["content"] for message in prompt] for prompt in prompts]
    told = ["Hello {{fruit}}", "Hi.", "And now?"]
    assert texts == [
        ["You sell fruit 0.", "Be brief.", "Is fruit 0 in season?", *told],
        ["You sell fruit 1.", "Is fruit 1 in season?", "Hello {{fruit}}"],
        ["You sell fruit 2.", "Is fruit 2 in season?"],
    ]
    own = [[COUNT], template["tool_choice"], FORM]
    assert [resolved(one) for one in responses] == [[[WEIGH], None, {"type": "text"}], own, own]
    assert sorted(one.json_schema is None for one in model.requests) == [False, False, True]


async def test_a_raw_input_is_what_the_user_says(session: aiohttp.ClientSession) -> None:
    """As it is, JSON and braces too; a list of messages is these. A placeholder takes it in."""
    cells = ["Say {{fruit}}!", '[{"role": "x"}]', {"a": 1}, TURNS]
    async with LocalServer(model=Watching()) as server:
        api = Api(session, server)
        responses = await run(api, "raw_input", cells)
        prompts = [one["prompt"]["messages"] for one in responses]
        assert [prompt[0]["content"] for prompt in prompts[:3]] == [*cells[:2], '{"a": 1}']
        assert prompts[3] == TURNS
        messages = [{"role": "user", "content": "Answer: {{talk}}"}]
        made = await api.post("/prompt_templates", {"name": "T", "messages": messages})
        body = {"name": "F", "prompt_template_id": made["id"], "collection_id": 1}
        experiment = (await api.post("/experiments", body))["id"]
        await api.generate(experiment, [1])
        last = (await api.items(f"/responses?experiment_id={experiment}"))[0]
        assert last["prompt"]["messages"] == [{"role": "user", "content": f"Answer: {cells[0]}"}]


async def test_what_is_no_conversation_is_refused_or_fails_alone(
    session: aiohttp.ClientSession,
) -> None:
    """422 with the column's name when it is stored; a text that is none fails, and no other row."""
    async with LocalServer(model=Watching()) as server:
        api = Api(session, server)
        responses = await run(api, "conversation", [uce(TURNS[1]), uce(), None, '[{"role": "x"}]'])
        assert [one["error"] for one in responses] == [
            None,
            "the row has no messages in the column 'talk'",
            "the row has nothing in the column 'talk'",
            "the row has no conversation in the column 'talk': message 1 has the role 'x': it must "
            "be one of system, developer, user, assistant, tool, function",
        ]
        for bad, problem in BAD.items():
            values = {"input_values": {"talk": json.loads(bad)}}
            for method, path in (("POST", "entries"), ("PUT", "entries/1")):
                answer = await api(method, f"/collections/1/{path}", values)
                assert answer.status == 422, bad
                assert "'talk'" in answer.body["detail"]
                assert problem in answer.body["detail"]
        # What is no cell of such a column may be anything.
        await api.post("/collections/1/entries", {"input_values": {"fruit": {"messages": 1}}})


BAD = {
    "7": "7 is none",
    '{"a": 1}': "it has no input",
    '[{"content": "a"}]': "message 1 has no role",
    '{"schema_version": "elluminate.uce/2", "input": {"messages": []}}': "elluminate.uce/2",
    '{"schema_version": "elluminate.uce/1", "input": {"messages": [1]}}': "messages.0",
    '{"input": {"messages": [], "tools": ["a"]}}': "tools.0",
    '{"input": {"response_format": {"hint": "xml"}}}': "response_format",
}


async def test_a_row_that_was_corrected_is_asked_at_a_retry(
    session: aiohttp.ClientSession,
) -> None:
    """The failed response gets its row's conversation, its tools with it, and is no failure."""
    async with LocalServer(model=(model := Watching())) as server:
        api = Api(session, server)
        before = await run(api, "conversation", [None, uce(TURNS[1])])
        values = {"fruit": "fruit 0", "talk": uce(TURNS[3], tools=[COUNT])}
        await api("PUT", "/collections/1/entries/1", {"input_values": values})
        started = await api.post("/experiments/1/retry-failed", {})
        await api.ended(f"/experiments/1/generation/{started['generation_task_id']}")
        after = await api.items("/responses")
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert [one["error"] for one in after] == [None, None]
    assert after[0]["prompt"]["messages"] == [TURNS[3]]
    assert resolved(after[0])[0] == [COUNT]
    assert [one.messages for one in model.requests] == [[TURNS[1]], [TURNS[3]]]


async def test_an_endpoint_is_asked_as_the_cell_says(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Messages, tools and the form of the answer; of any object it is held to no schema."""
    endpoint.reply = lambda _: completion("{}")
    cells = [
        uce(*TURNS, tools=[WEIGH], tool_choice="auto", response_format={"json_schema": FORM}),
        uce(TURNS[1], response_format={"hint": "json_object"}),
        uce(TURNS[3], response_format={"hint": "text"}),
    ]
    model = OpenAIModel("m", base_url=endpoint.url)
    async with aclosing(model), LocalServer(model=model) as server:
        responses = await run(Api(session, server), "conversation", cells)
    assert [one["error"] for one in responses] == [None] * 3
    asked = {len(one["messages"]) + ("response_format" in one): one for one in endpoint.requests}
    assert asked[5]["messages"] == TURNS
    assert (asked[5]["tools"], asked[5]["tool_choice"]) == ([WEIGH], "auto")
    assert asked[5]["response_format"]["json_schema"]["schema"] == FORM
    assert asked[3]["response_format"] == {"type": "json_object"}
    assert asked[1]["messages"] == [TURNS[3]]
    assert len(endpoint.requests) == 3


async def test_the_judge_sees_the_whole_conversation(session: aiohttp.ClientSession) -> None:
    """Every turn is in what it judges the answer to."""
    async with LocalServer(model=(model := Watching())) as server:
        api = Api(session, server)
        await run(api, "conversation", [uce(*TURNS)])
        set_id = (await api.get("/experiments/1"))["criterion_set"]["id"]
        body = {"criterion_set_id": set_id, "criteria": [{"criterion_str": "Is it short?"}]}
        await api.post("/criteria", body)
        await api.rate([1])
    (judged,) = model.judged
    assert all(f"[{one['role']}]\n{one['content']}" in judged for one in TURNS)


async def test_a_prompt_is_its_rows_cell_at_the_time(session: aiohttp.ClientSession) -> None:
    """A row with other tools makes another prompt, and the one of before is stale."""
    async with LocalServer(model=Watching()) as server:
        api = Api(session, server)
        await run(api, "conversation", [uce(TURNS[1], tools=[WEIGH])])
        values = {"fruit": "fruit 0", "talk": uce(TURNS[1], tools=[COUNT])}
        await api("PUT", "/collections/1/entries/1", {"input_values": values})
        await api.generate(1, [1])
        responses = await api.items("/responses")
    assert [one["prompt"]["is_stale"] for one in responses] == [True, False]
    assert [resolved(one)[0] for one in responses] == [[WEIGH], [COUNT]]


async def test_without_a_column_of_prompts_a_template_is_needed(api: Api) -> None:
    """400, which says what to do; the column of the responses is none."""
    columns = [{"name": "talk", "column_type": "conversation"}]
    rows = [{"talk": "a"}]
    body = {"name": "C", "columns": columns, "variables": rows}
    made = await api.post("/collections", body)
    column_id = made["columns"][0]["id"]
    body = {"name": "E", "collection_id": 1, "response_column_id": column_id}
    await api.post("/experiments", body)
    answer = await api("POST", "/responses/batches", batch(1, [1]))
    assert answer.status == 400
    assert "column of the type conversation or raw_input" in answer.body["detail"]


async def test_a_conversation_names_its_column(api: Api) -> None:
    """Of columns that follow from rows, one whose cells name the format is of conversations."""
    rows = [{"talk": uce(TURNS[1]), "note": {"a": 1}}]
    made = await api.post("/collections", {"name": "C", "variables": rows})
    assert [one["column_type"] for one in made["columns"]] == ["conversation", "text"]


@pytest.mark.parametrize("cell", [uce(*TURNS, tools=[WEIGH], metadata={"a": 1}), uce()])
def test_a_cell_is_written_as_it_was_read(cell: dict[str, Any]) -> None:
    """`Conversation.cell` is the inverse of `Conversation.of_cell`."""
    assert Conversation.of_cell(cell).cell() == cell


async def test_a_prompt_that_is_too_long_costs_its_own_row_alone(
    api: Api, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversation and template count together; such a row fails with a text that says so.

    An answer to it cannot be judged: one that is stored is refused, one of a column fails.
    """
    columns = [{"name": "talk", "column_type": "conversation"}, {"name": "said"}]
    talks = [uce({"role": "user", "content": text}) for text in ("a" * 900, "a")]
    rows = [{"talk": talk, "said": "yes"} for talk in talks]
    made = await api.post("/collections", {"name": "C", "columns": columns, "variables": rows})
    await api.template("b" * 900)
    await api.add_criteria(["Is it short?"])
    of_column = {"response_column_id": made["columns"][1]["id"]}
    for name, more in ("E", {}), ("F", of_column):
        new = {"name": name, "collection_id": 1, "prompt_template_id": 1, **more}
        await api.post("/experiments", new)
    monkeypatch.setattr(prompts, "MOST_PROMPT", 1_500)
    for number in (1, 2):
        path = f"/experiments/{number}"
        begun = await api.post(f"{path}/run", {"rating_mode": "fast"})
        await api.ended(f"{path}/generation/{begun['generation_task_id']}")
        long, short = await api.items(f"/responses?experiment_id={number}")
        assert long["error"] == "the filled-in prompt would have more than 1500 characters"
        assert (short["error"], len(short["ratings"])) == (None, 1)
    assert len(model.calls) == 3
    stored = batch(1, [1])
    stored["prompt_response_ins"][0]["messages"] = [{"role": "assistant", "content": "yes"}]
    assert (await api("POST", "/responses/batches", stored)).status == 422

    monkeypatch.setattr(prompts, "MOST_PROMPT", 2_000)
    begun = await api.post("/experiments/1/retry-failed", {"rating_mode": "fast"})
    await api.ended(f"/experiments/1/generation/{begun['generation_task_id']}")
    after = await api.items("/responses?experiment_id=1")
    assert [(one["error"], len(one["ratings"])) for one in after] == [(None, 1)] * 2
