"""Arguments that cannot work: an `InputError` that says which and why, and nothing is sent."""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Column,
    ConfigurationError,
    Conversation,
    Criterion,
    GenerationMetadata,
    InputError,
)
from tests.resources.local import local


@asynccontextmanager
async def nobody() -> AsyncGenerator[Any]:
    """A client of an address where nobody listens: what is sent ends in another error."""
    options = BatchOptions(retry_for=0)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options)
    try:
        yield client
    finally:
        await client.close()


def add(**arguments: Any) -> Callable[[Any], Any]:
    return lambda c: c.responses.add("a", template_variables=1, experiment=1, **arguments)


# Of no kind that anything takes, and told by the same text in each process.
NOTHING = NotImplemented

CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no annotation": (
        lambda c: c.responses.update(1, annotation=None),
        "the response cannot be sent: annotation",
    ),
    "a number as annotation": (
        lambda c: c.responses.update(1, annotation=5),
        "the response cannot be sent: annotation",
    ),
    "a collection without a name": (
        lambda c: c.collections.create(""),
        "the name of a collection must be a text that is not empty",
    ),
    "a collection that loses its name": (
        lambda c: c.collections.update(1, name=""),
        "the name of a collection must be a text that is not empty",
    ),
    "one column": (
        lambda c: c.collections.create("c", columns="topic"),
        r"columns must be a list of names: pass \[x\] for one",
    ),
    "one new column": (
        lambda c: c.collections.update(1, columns=Column(name="topic")),
        r"columns must be a list of names: pass \[x\] for one",
    ),
    "a column twice": (
        lambda c: c.collections.create("c", columns=["a", Column(name="a")]),
        "the column 'a' comes twice",
    ),
    "a new column twice": (
        lambda c: c.collections.update(1, columns=["a", "b", "b"]),
        "the column 'b' comes twice",
    ),
    "a column without a name": (
        lambda c: c.collections.get_or_create("c", columns=["a", ""]),
        "the name of a column must not be empty",
    ),
    "no column": (
        lambda c: c.collections.update(1, columns=[5]),
        "the collection cannot be sent: columns",
    ),
    **{
        f"epoch {epoch!r}": (add(epoch=epoch), "epoch must be a whole number of at least 1")
        for epoch in (0, -1, True, "2", 1.0, 2**63)
    },
    "metadata of other names": (
        add(metadata={"a": 1, "input_tokens": 2}),
        "metadata has a, which is none of cached_tokens, ",
    ),
    "metadata of another type": (
        add(metadata={"input_tokens": "many"}),
        "metadata cannot be sent: input_tokens",
    ),
    "metadata that is none": (add(metadata=[1]), r"metadata must be GenerationMetadata, not \[1\]"),
    "metadata of many": (
        lambda c: c.responses.add_many(
            ["a", "b"], template_variables=[1, 2], experiment=1, metadata=[None, {"a": 1}]
        ),
        r"metadata\[1\] has a, which is none of",
    ),
    "one response": (
        lambda c: c.responses.add_many("ab", template_variables=[1, 2], experiment=1),
        "responses must be a list, not 'ab'",
    ),
    "responses of no length": (
        lambda c: c.responses.add_many(iter("ab"), template_variables=[1, 2], experiment=1),
        "responses must be a list",
    ),
    "responses by name": (
        lambda c: c.responses.add_many({"answer": "x"}, template_variables=[1], experiment=1),
        "responses must be a list in the order of the rows, not {'answer': 'x'}",
    ),
    "metadata by name": (
        lambda c: c.responses.add_many(
            ["x"], template_variables=[1], experiment=1, metadata={"duration_seconds": 1}
        ),
        "metadata must be a list in the order of the rows",
    ),
    "one criterion": (
        lambda c: c.responses.compare_samples(
            1, 2, criteria=Criterion(id=1, criterion_str="Q?", created_at=None)
        ),
        r"criteria must be a list of criteria: pass \[x\] for one",
    ),
    "the id of one criterion": (
        lambda c: c.responses.compare_samples(1, 2, criteria=1),
        "criteria must be a list of criteria, not 1",
    ),
    **{
        f"listing epoch {epoch!r}": (
            lambda c, epoch=epoch: c.responses.list(epoch=epoch),
            "epoch must be a whole number of at least 1, not ",
        )
        for epoch in ("x", 1.5, True, (1,), NOTHING)
    },
    "a model's name that is none": (
        lambda c: c.responses.list(llm_model_name=5),
        "llm_model_name must be a text or None, not 5",
    ),
    "a template's name that is none": (
        lambda c: c.prompt_templates.list(NOTHING),
        "name must be a text or None, not NotImplemented",
    ),
    "a search that is none": (
        lambda c: c.scenario_sets.list(name_search=NOTHING),
        "name_search must be a text or None, not NotImplemented",
    ),
    **{
        f"version {version!r}": (
            lambda c, version=version: c.prompt_templates.get("t", version=version),
            "version must be a whole number of at least 1, or 'latest', not ",
        )
        for version in ("newest", 0, True, 1.5, NOTHING)
    },
    **{
        f"the template {messages!r}": (
            lambda c, messages=messages: c.prompt_templates.create(messages, "t"),
            "a prompt template is a string, or a list of messages such as ",
        )
        for messages in (None, 5, {"role": "user", "content": "x"}, ["x"])
    },
    **{
        f"{method} with both swapped": (
            lambda c, method=method: getattr(c.prompt_templates, method)("Support", "Do {{it}}"),
            r"the name 'Do {{it}}' has a placeholder, and the prompt 'Support' has none: ",
        )
        for method in ("create", "get_or_create")
    },
    "fields that are none": (
        lambda c: c.scenario_sets.create("s", fields=5),
        "fields must be a list of names, not 5",
    ),
    "half a character as a task": (
        lambda c: c.agent_results.wait(1, "\ud800"),
        "task_id has half a character",
    ),
    "a task of no name": (
        lambda c: c.agent_results.stream(1, ""),
        "task_id must be a text or None, not ''",
    ),
    "no answer whether to replace": (
        lambda c: c.criteria.generate_many(1, delete_existing=None),
        "delete_existing must be True or False, not None",
    ),
    "no answer whether to skip": (
        lambda c: c.scenarios.add_many([], scenario_set=1, skip_existing=None),
        "skip_existing must be True or False, not None",
    ),
    "conversations of nobody": (
        lambda c: c.experiments.create("e", scenario_set=1, evaluation_mode="MULTI_TURN"),
        "^the experiment cannot be sent: a MULTI_TURN experiment needs a persona group",
    ),
    "a time before now": (
        lambda c: c.experiments.run(1, timeout=-1),
        "timeout must be a finite number of seconds above 0, not -1",
    ),
    "a time without end": (
        lambda c: c.experiments.run(1, timeout=float("inf")),
        "timeout must be a finite number of seconds above 0, not inf",
    ),
}


@pytest.mark.parametrize(("call", "text"), CALLS.values(), ids=CALLS)
async def test_an_argument_that_cannot_work(call: Callable[[Any], Any], text: str) -> None:
    """It is named, with what it may be."""
    async with nobody() as client:
        with pytest.raises(InputError, match=text):
            await call(client)


TAKES_MANY: dict[str, Callable[[Any, Any], Any]] = {
    "responses": lambda c, x: c.ratings.rate_many(x),
    "template_variables": lambda c, x: c.responses.generate_many(
        template_variables=x, experiment=1
    ),
    "values": lambda c, x: c.template_variables.add_many(x, collection=1),
    "criteria": lambda c, x: c.criteria.add_many(x, prompt_template=1),
    "metadata": lambda c, x: c.responses.add_many(
        ["a"], template_variables=[1], experiment=1, metadata=x
    ),
}


@pytest.mark.parametrize(("what", "call"), TAKES_MANY.items(), ids=TAKES_MANY)
async def test_a_forgotten_await_is_named(what: str, call: Callable[[Any, Any], Any]) -> None:
    """A coroutine is no list; nor is a number."""

    async def rows() -> list[int]:
        return [1]

    async with nobody() as client:
        forgotten = rows()
        try:
            with pytest.raises(InputError, match=f"{what} were not awaited: pass `await x`"):
                await call(client, forgotten)
        finally:
            forgotten.close()
        with pytest.raises(InputError, match=rf"{what}.* must be a list|pass \[x\] for one"):
            await call(client, 5)


@pytest.mark.parametrize("options", [{}, "", 0])
def test_options_of_a_client_are_options(options: Any) -> None:
    """What is empty is not taken for none."""
    with pytest.raises(ConfigurationError, match="options must be a BatchOptions"):
        AsyncClient(api_key="k", options=options)


TALK: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
CONVERSATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": "x"}, "Conversation: messages: "),
    "a message without a role": ({"messages": [{"content": "x"}]}, "message 1 has no role"),
    "a misspelt field": (
        {"messages": TALK, "tool": [1]},
        "no field 'tool', did you mean 'tools'\\? the fields are messages, tools,",
    ),
    "a tool that is none": ({"tools": [{"name": "x"}]}, "Conversation: tool 1 must be "),
    "a choice that is none": ({"tool_choice": "sometimes"}, "Conversation: tool_choice must be"),
    "a form that is none": ({"response_format": {"type": "x"}}, "Conversation: response_format: "),
}


@pytest.mark.parametrize(("fields", "text"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_is_refused_as_other_input(fields: dict[str, Any], text: str) -> None:
    """When it is made, with the field's name; what is read may have more fields."""
    with pytest.raises(InputError, match=text):
        Conversation(**fields)
    cell: dict[str, Any] = {"messages": TALK, "later": 1}
    assert Conversation.of_cell(cell) == Conversation(messages=TALK)
    assert pickle.loads(pickle.dumps(Conversation.of_cell(cell))) == Conversation(messages=TALK)


async def test_defaults_of_the_official_client_may_be_passed_on() -> None:
    """The newest version by its word, and no fields by None."""
    async with local() as client:
        for text in ("a {{x}}", "b {{x}}"):
            newest = await client.prompt_templates.create(text, "t")
        assert await client.prompt_templates.get("t", version="latest") == newest
        assert (await client.scenario_sets.create("s", fields=None)).fields == []


async def test_columns_are_changed_by_their_names() -> None:
    """As they are created by, in their order."""
    async with local() as client:
        collection = await client.collections.create("c", columns=["a", "b"])
        changed = await client.collections.update(collection, columns=["b", Column(name="c")])
        assert [column.name for column in changed.columns] == ["b", "c"]


async def test_metadata_may_be_a_mapping_of_its_fields(tmp_path: Any) -> None:
    """Of one response and of many, with a journal too."""
    async with local() as client:
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", "t")
        collection, _ = await client.collections.get_or_create("c")
        row = await client.template_variables.add_to_collection({"x": 1}, collection)
        experiment, _ = await client.experiments.get_or_create(
            "e", prompt_template=template, collection=collection
        )
        how: Any = {"input_tokens": 3}
        given: dict[str, Any] = {"experiment": experiment}
        one = await client.responses.add("a", template_variables=row, metadata=how, **given)
        many = await client.responses.add_many(
            ["b", "c"],
            template_variables=[row, row],
            metadata=[how, GenerationMetadata(input_tokens=4)],
            journal=tmp_path / "run",
            **given,
        )
        found = [response.generation_metadata for response in (one, *many)]
        assert [made and made.input_tokens for made in found] == [3, 3, 4]
