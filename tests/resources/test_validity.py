"""Typed parameters: checked before anything is sent, honoured by the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from elluminate_async import (
    AsyncClient,
    Collection,
    Column,
    ConflictError,
    GenerationMetadata,
    InputError,
    RejectedError,
)
from elluminate_async.testing import VIRTUAL_TIME
from tests.resources.local import local


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


odd: Any = "nope"
CALLS: dict[str, tuple[Callable[[AsyncClient], Awaitable[object]], str]] = {
    "column type": (
        lambda c: c.collections.create("c", columns=[Column(name="a", column_type="nope")]),
        "column_type must be one of text, json, .*, not 'nope'",
    ),
    "changed column": (
        lambda c: c.collections.update(1, columns=[Column(name="a", column_type="nope")]),
        "column_type must be one of",
    ),
    "collection type": (
        lambda c: c.collections.create("c", collection_type=odd),
        "collection_type: Input should be 'STANDARD', 'AGENTIC' or 'PERSONA'",
    ),
    "environment": (
        lambda c: c.collections.create("c", environment_config=odd),
        "environment_config must be a mapping",
    ),
    "inference type": (
        lambda c: c.llm_configs.create("l", "m", inference_type=odd),
        "inference_type must be one of openai, botario, custom_api, not 'nope'",
    ),
    "effort": (
        lambda c: c.llm_configs.create("l", "m", reasoning_effort=odd),
        "reasoning_effort must be one of minimal, low, medium, high",
    ),
    "temperature": (
        lambda c: c.llm_configs.create("l", "m", temperature=2.5),
        "temperature: Input should be less than or equal to 2",
    ),
    "mode": (
        lambda c: c.experiments.create("e", collection=1, evaluation_mode=odd),
        "evaluation_mode: Input should be 'STANDARD', 'AGENTIC' or 'MULTI_TURN'",
    ),
    "persona": (
        lambda c: c.experiments.create("e", collection=1, evaluation_mode="MULTI_TURN"),
        "a MULTI_TURN experiment needs a persona group",
    ),
    "unknown parameter": (
        lambda c: c.experiments.create("e", collection=1, generation_params={"temprature": 1}),
        "generation_params: no field 'temprature', did you mean 'temperature'\\? the fields are ",
    ),
    "unknown parameter of a run": (
        lambda c: c.experiments.run(1, generation_params={"x": 1}),
        "generation_params: no field 'x'; the fields are api_version, ",
    ),
    "column": (
        lambda c: c.experiments.create("e", collection=1, response_column=odd),
        "response_column must be Column or an id, not 'nope'",
    ),
    "params": (
        lambda c: c.experiments.create("e", collection=1, generation_params={"top_p": 2}),
        r"generation_params.top_p: Input should be less than or equal to 1",
    ),
    "run": (
        lambda c: c.experiments.run(
            1, generation_params={"temperature": 1, "reasoning_effort": "low"}
        ),
        "temperature and reasoning_effort exclude each other",
    ),
    "epochs": (
        lambda c: c.experiments.run(1, n_epochs=0),
        "n_epochs: Input should be greater than or equal to 1",
    ),
    "filters": (
        lambda c: c.experiments.get(id=1, categorical_filters={"a": "b"}),
        r"categorical_filters\['a'\] must be a list of texts",
    ),
    "filters by name": (
        lambda c: c.experiments.get("e", categorical_filters={"a": ["b"]}),
        "categorical_filters= goes with id=",
    ),
    "role": (
        lambda c: c.prompt_templates.create([{"role": "odd", "content": "x"}], "t"),
        "message 1 has the role 'odd'",
    ),
    "tool": (
        lambda c: c.prompt_templates.create("x", "t", tools=[{"name": "f"}]),
        "tool 1 must be",
    ),
    "response's role": (
        lambda c: c.responses.add(
            [{"role": "assistant", "content": "x"}, {"role": "odd", "content": "x"}],
            template_variables=1,
            experiment=1,
        ),
        r"responses\[0\]: message 2 has the role 'odd'",
    ),
    "metadata": (
        lambda c: c.responses.add_many(
            ["x"],
            template_variables=[1],
            experiment=1,
            metadata=[GenerationMetadata(custom_api_info={"id": "7"})],
        ),
        r"metadata\[0\].*custom_api_info.provider must be a text",
    ),
}


@pytest.mark.parametrize("what", CALLS)
async def test_what_the_service_does_not_know_is_not_sent(what: str) -> None:
    """An `InputError` says what it may be, before any request."""
    # No service is there: a request would be another error.
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k")
    call, text = CALLS[what]
    with pytest.raises(InputError, match=text):
        await call(client)


async def test_collections_keep_what_they_are_given() -> None:
    """Types, kind and environment, which None clears and silence keeps."""
    async with local() as client:
        collection = await client.collections.create(
            "c",
            columns=[Column(name="a", column_type="json"), "b"],
            collection_type="AGENTIC",
            environment_config={"image": "x"},
        )
        assert [one.column_type for one in collection.columns] == ["json", "text"]
        assert collection.collection_type == "AGENTIC"
        assert collection.environment_config == {"image": "x"}

        named = await client.collections.update(
            collection, columns=["b", "a"], collection_type="PERSONA"
        )
        assert [one.column_type for one in named.columns] == ["text", "json"]
        assert (named.collection_type, named.environment_config) == ("PERSONA", {"image": "x"})
        cleared = await client.collections.update(collection, environment_config=None)
        assert cleared.environment_config is None


async def test_rows_are_changed() -> None:
    """By `update`: the values are replaced, the environment stays, is set or is cleared."""
    async with local() as client:
        collection = await client.collections.create("c")
        add = client.template_variables.add_to_collection
        row = await add({"a": 1}, collection, environment_config={"image": "x"})
        assert row.environment_config == {"image": "x"}
        assert (await add({"a": 1}, collection)).id != row.id
        update = client.template_variables.update
        changed = await update(row, {"a": 2}, collection=collection)
        assert (changed.input_values, changed.environment_config) == ({"a": 2}, {"image": "x"})
        cleared = await update(row, {"a": 2}, collection=collection, environment_config=None)
        assert cleared.environment_config is None
        assert cleared == await client.template_variables.get(row.id, collection=collection)


async def prepared(client: AsyncClient) -> Collection:
    """A template with a criterion, and a collection of two rows with responses."""
    template, _ = await client.prompt_templates.get_or_create("Say {{word}}.", "t")
    await client.criteria.add_many(["Is it?"], prompt_template=template)
    rows = [{"word": "a", "said": "one"}, {"word": "b", "said": "two"}]
    return await client.collections.create("c", variables=rows)


async def test_responses_of_a_column_are_rated() -> None:
    """The experiment names the column, by the object or its id; each row has one response."""
    async with local() as client:
        collection = await prepared(client)
        (said,) = [one for one in collection.columns if one.name == "said"]
        experiment = await client.experiments.create(
            "e",
            prompt_template=1,
            collection=collection,
            response_column=said,
            rating_version="of tomorrow",
            agent_config={"a": 1},
        )
        assert experiment.response_column_id == said.id
        assert (experiment.rating_version, experiment.agent_config) == ("local-1", {"a": 1})
        ran = await client.experiments.run(experiment, n_epochs=2)
        assert ran.results is not None
        assert (ran.n_epochs, ran.results.num_rated_responses) == (1, 2)
        responses = await client.responses.list(experiment=experiment)
        assert [one.response_str for one in responses] == ["one", "two"]

        some = await client.experiments.get(
            id=experiment.id, categorical_filters={"word": ["b", "c"]}
        )
        assert some.results is not None
        assert some.results.num_rated_responses == 1


async def test_conversations_are_refused_where_they_would_be_held() -> None:
    """The definition is kept; its run says why there is none here."""
    async with local() as client:
        collection = await prepared(client)
        experiment = await client.experiments.create(
            "e", collection=collection, evaluation_mode="MULTI_TURN", persona_group=7
        )
        assert (experiment.evaluation_mode, experiment.persona_group_id) == ("MULTI_TURN", 7)
        with pytest.raises(RejectedError, match="no personas"):
            await client.experiments.run(experiment)


async def test_deleting_with_and_without_what_refers_to_it() -> None:
    """A `ConflictError` tells of it, with ``cascade`` it goes too, for every noun."""
    async with local() as client:
        collection = await prepared(client)
        config = await client.llm_configs.create("l", "m", temperature=0.5)
        experiment = await client.experiments.create(
            "e", prompt_template=1, collection=collection, llm_config=config
        )
        responses = await client.responses.generate_many(
            experiment=experiment, collection=collection
        )
        await client.ratings.rate_many(responses)
        row = responses[0].prompt.template_variables
        variables = client.template_variables
        # From what is least to what takes all.
        deletions: list[Callable[[bool], Awaitable[object]]] = [
            lambda cascade: client.criteria.delete(1, cascade=cascade),
            lambda cascade: client.llm_configs.delete(config, cascade=cascade),
            lambda cascade: variables.delete(row, collection=collection, cascade=cascade),
            lambda cascade: variables.delete_all(collection, cascade=cascade),
        ]
        for delete in deletions:
            with pytest.raises(ConflictError, match="of the experiment 'e'"):
                await delete(False)
            await delete(True)
        assert await client.responses.list(experiment=experiment) == []

        # Without responses the rest goes as it is, with the experiment.
        await client.criterion_sets.delete(1)
        await client.prompt_templates.delete(1)
        await client.collections.delete(collection)
        assert await client.experiments.list() == []
