"""A call that makes something makes it once, however its answer is lost."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Collection,
    CriterionSet,
    Experiment,
    NotFoundError,
    OutcomeUnknownError,
    PromptResponse,
    PromptTemplate,
    ScenarioSet,
    TemplateVariables,
)
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.faults.losing import BAD_GATEWAY, EMPTY, HTML, NULL, REFUSED, Losing
from tests.flow.bench import EchoModel


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@dataclass(slots=True)
class World:
    """A client of a server that has one of each thing."""

    client: AsyncClient
    losing: Losing
    model: EchoModel
    judged: list[str]
    template: PromptTemplate
    criteria: CriterionSet
    collection: Collection
    row: TemplateVariables
    experiment: Experiment
    agents: Experiment
    scenarios: ScenarioSet
    response: PromptResponse


@asynccontextmanager
async def world(profile: WireProfile, instead: tuple[int, bytes]) -> AsyncGenerator[World]:
    model, losing, judged = EchoModel(), Losing(instead), list[str]()

    def note(prompt: str) -> bool:
        judged.append(prompt)
        return False

    model.judge_failing = note
    async with (
        LocalServer(model=model, profile=profile, wrap=losing.wrap) as server,
        AsyncClient(
            base_url=server.url, api_key=server.api_key, options=BatchOptions(settle=0.1)
        ) as client,
    ):
        template = await client.prompt_templates.create("Say {{x}}.", "T")
        criteria = await client.criterion_sets.create("S", ["Is it?"])
        await client.criterion_sets.link_template(criteria, template)
        collection = await client.collections.create("C", columns=["x"])
        (row,) = await client.template_variables.add_many([{"x": "a"}], collection=collection)
        experiment = await client.experiments.create(
            "E", prompt_template=template, collection=collection
        )
        tasks = await client.collections.create(
            "A", variables=[{"task": "t0", "instruction": "i"}], collection_type="AGENTIC"
        )
        agents = await client.experiments.create(
            "Agents", collection=tasks, criterion_set=criteria, evaluation_mode="AGENTIC"
        )
        scenarios = await client.scenario_sets.create("Scenarios")
        (response,) = await client.responses.add_many(
            ["b"], template_variables=[row], experiment=experiment
        )
        yield World(
            client=client,
            losing=losing,
            model=model,
            judged=judged,
            template=template,
            criteria=criteria,
            collection=collection,
            row=row,
            experiment=experiment,
            agents=agents,
            scenarios=scenarios,
            response=response,
        )


@dataclass(frozen=True, slots=True)
class Making:
    """A call that makes one thing.

    Attributes:
        path: Of its POST.
        act: The call.
        count: How many of such things there are.
    """

    path: str
    act: Callable[[World], Awaitable[object]]
    count: Callable[[World], Awaitable[int]]


async def responses(at: World) -> int:
    return len(await at.client.responses.list(experiment=at.experiment))


async def results(at: World) -> int:
    return len(await at.client.agent_results.list(at.agents))


async def asked(at: World) -> int:
    return len(at.judged)


async def experiments(at: World) -> int:
    return len(await at.client.experiments.list())


async def rows(at: World) -> int:
    return len(await at.client.template_variables.list(at.collection))


async def sets(at: World) -> int:
    return len(await at.client.scenario_sets.list())


async def fields(at: World) -> int:
    return len((await at.client.scenario_sets.get(id=at.scenarios.id)).fields)


async def scenarios(at: World) -> int:
    return len(await at.client.scenarios.list(at.scenarios))


async def templates(at: World) -> int:
    return len(await at.client.prompt_templates.list())


async def collections(at: World) -> int:
    return len(await at.client.collections.list())


async def criterion_sets(at: World) -> int:
    return len(await at.client.criterion_sets.list())


async def configurations(at: World) -> int:
    return len(await at.client.llm_configs.list())


async def questions(at: World) -> int:
    return len(await at.client.criteria.list(at.template))


async def add_scenarios(at: World) -> object:
    batch = await at.client.scenarios.add_many(
        [{"goal": "g", "expected_conversation_outcome": "o"}],
        scenario_set=at.scenarios,
        skip_existing=False,
    )
    return batch[0]


async def add_rows(at: World) -> object:
    batch = await at.client.template_variables.add_many(
        [{"x": "c"}], collection=at.collection, skip_existing=False
    )
    return batch[0]


MAKINGS = {
    "responses.generate": Making(
        "responses/generate",
        lambda at: at.client.responses.generate(
            template_variables=at.row, experiment=at.experiment
        ),
        responses,
    ),
    "responses.add": Making(
        "responses",
        lambda at: at.client.responses.add(
            "b", template_variables=at.row, experiment=at.experiment
        ),
        responses,
    ),
    "ratings.rate": Making("ratings", lambda at: at.client.ratings.rate(at.response), asked),
    "agent_results.upload": Making(
        r"experiments/\d+/agent-results",
        lambda at: at.client.agent_results.upload(
            at.agents, [{"task_name": "t0", "messages": [{"role": "assistant", "content": "x"}]}]
        ),
        results,
    ),
    "experiments.create": Making(
        "experiments",
        lambda at: at.client.experiments.create(
            "New", prompt_template=at.template, collection=at.collection
        ),
        experiments,
    ),
    "experiments.clone": Making(
        "experiments", lambda at: at.client.experiments.clone(at.experiment, "Twin"), experiments
    ),
    "template_variables.generate": Making(
        r"collections/\d+/entries",
        lambda at: at.client.template_variables.generate(
            collection=at.collection, prompt_template=at.template
        ),
        rows,
    ),
    "template_variables.add_many": Making(r"collections/\d+/entries/batches", add_rows, rows),
    "prompt_templates.create": Making(
        "prompt_templates",
        lambda at: at.client.prompt_templates.create("Tell {{x}}.", "T"),
        templates,
    ),
    "collections.create": Making(
        "collections", lambda at: at.client.collections.create(columns=["x"]), collections
    ),
    "criterion_sets.create": Making(
        "criterion_sets",
        lambda at: at.client.criterion_sets.create("New", ["Is it?"]),
        criterion_sets,
    ),
    "llm_configs.create": Making(
        "llm_configs", lambda at: at.client.llm_configs.create("New", "gpt"), configurations
    ),
    "criteria.add_many": Making(
        "criteria",
        lambda at: at.client.criteria.add_many(["Was it?"], criterion_set=at.criteria),
        questions,
    ),
    "criteria.generate_many": Making(
        "criteria",
        lambda at: at.client.criteria.generate_many(
            at.template, delete_existing=True, cascade=True
        ),
        asked,
    ),
    "scenario_sets.create": Making(
        "scenario-sets", lambda at: at.client.scenario_sets.create("New"), sets
    ),
    "scenario_sets.add_field": Making(
        r"scenario-sets/\d+/fields",
        lambda at: at.client.scenario_sets.add_field(at.scenarios, "tone"),
        fields,
    ),
    "scenarios.add": Making(
        r"scenario-sets/\d+/scenarios",
        lambda at: at.client.scenarios.add(
            {"goal": "g", "expected_conversation_outcome": "o"}, scenario_set=at.scenarios
        ),
        scenarios,
    ),
    "scenarios.add_many": Making(r"scenario-sets/\d+/scenarios/batch", add_scenarios, scenarios),
}

LOST = pytest.mark.parametrize(
    "instead", [HTML, EMPTY, NULL, BAD_GATEWAY], ids=["html", "empty", "null", "502"]
)


@LOST
@pytest.mark.usefixtures("quick_back_off")
async def test_with_keys_a_lost_answer_is_asked_for_again(instead: tuple[int, bytes]) -> None:
    """It is sent a second time, under its key: the call gets its answer, and one thing is made."""
    async with world(WireProfile(), instead) as at:
        for name, making in MAKINGS.items():
            before = await making.count(at)
            at.losing.arm("POST", making.path)
            assert await making.act(at), name
            assert (at.losing.seen, await making.count(at) - before) == (2, 1), name


@LOST
async def test_without_keys_a_lost_answer_is_an_unknown_outcome(instead: tuple[int, bytes]) -> None:
    """It is sent once, and the error says how to look for what it made."""
    async with world(WireProfile.hosted(), instead) as at:
        for name, making in MAKINGS.items():
            before = await making.count(at)
            at.losing.arm("POST", making.path, times=9)
            with pytest.raises(OutcomeUnknownError) as caught:
                await making.act(at)
            assert "many" in name or "client." in str(caught.value), name
            assert (at.losing.seen, await making.count(at) - before) == (1, 1), name


@pytest.mark.usefixtures("quick_back_off")
async def test_an_answer_that_is_never_readable_ends_unknown() -> None:
    """Asked for `max_attempts` times with keys; it was done once, and nobody can say so."""
    async with world(WireProfile(), HTML) as at:
        at.losing.arm("POST", "responses/generate", times=99)
        with pytest.raises(OutcomeUnknownError, match="Sign in") as caught:
            await MAKINGS["responses.generate"].act(at)

        assert caught.value.attempts == at.losing.seen == at.client.options.max_attempts
        assert await responses(at) == 2


@pytest.mark.usefixtures("quick_back_off")
async def test_a_refusal_after_an_unreadable_answer_proves_nothing() -> None:
    """The first said that it was done: that the second is a 400 does not undo it."""
    async with world(WireProfile(), HTML) as at:
        at.losing.then = REFUSED
        for name in ("responses.generate", "template_variables.add_many"):
            making = MAKINGS[name]
            before = await making.count(at)
            at.losing.arm("POST", making.path, times=9)
            with pytest.raises(OutcomeUnknownError):
                await making.act(at)
            assert (at.losing.seen, await making.count(at) - before) == (2, 1), name


async def test_a_project_is_created_under_no_key() -> None:
    """A key is of a project, so that nobody can ask again: whether it is there is not known."""
    for instead in (HTML, BAD_GATEWAY):
        async with world(WireProfile(), instead) as at:
            at.losing.arm("POST", "projects", times=9)
            with pytest.raises(OutcomeUnknownError, match=r"client\.projects\.get"):
                await at.client.projects.create("New")
            assert at.losing.seen == 1
            assert (await at.client.projects.get("New")).name == "New"


async def test_get_or_create_tells_that_it_created() -> None:
    """Also where the answer to its creation was lost: the same request, under its key, is asked."""
    async with world(WireProfile(), BAD_GATEWAY) as at:
        at.losing.arm("POST", "prompt_templates")
        made, created = await at.client.prompt_templates.get_or_create("New {{x}}", "T")
        assert (at.losing.seen, made.version, created) == (2, 2, True)


Deleting = Callable[[World], Awaitable[object]]

# In an order in which each is there yet.
DELETIONS: dict[str, tuple[str, Deleting]] = {
    "scenarios": (
        r"scenario-sets/\d+/scenarios/\d+",
        lambda at: at.client.scenarios.delete(1, scenario_set=at.scenarios),
    ),
    "fields": (
        r"scenario-sets/\d+/fields/\d+",
        lambda at: at.client.scenario_sets.delete_field(at.scenarios, 1),
    ),
    "scenario_sets": (
        r"scenario-sets/\d+",
        lambda at: at.client.scenario_sets.delete(at.scenarios),
    ),
    "responses": (r"responses/\d+", lambda at: at.client.responses.delete(at.response)),
    "template_variables": (
        r"collections/\d+/entries/\d+",
        lambda at: at.client.template_variables.delete(at.row, collection=at.collection),
    ),
    "criteria": (r"criteria/\d+", lambda at: at.client.criteria.delete(1)),
    "experiments": (r"experiments/\d+", lambda at: at.client.experiments.delete(at.experiment)),
    "llm_configs": (r"llm_configs/\d+", lambda at: at.client.llm_configs.delete(2)),
    "criterion_sets": (
        r"criterion_sets/\d+",
        lambda at: at.client.criterion_sets.delete(at.criteria),
    ),
    "prompt_templates": (
        r"prompt_templates/\d+",
        lambda at: at.client.prompt_templates.delete(at.template),
    ),
    "collections": (r"collections/\d+", lambda at: at.client.collections.delete(at.collection)),
}


@pytest.mark.usefixtures("quick_back_off")
async def test_a_deletion_whose_answer_was_lost_has_succeeded() -> None:
    """Its repetition finds nothing any more, which is what was asked for; another call is 404."""
    async with world(WireProfile(), BAD_GATEWAY) as at:
        await at.client.llm_configs.create("Spare", "gpt")
        await at.client.scenario_sets.add_field(at.scenarios, "tone")
        await at.client.scenarios.add(
            {"goal": "g", "expected_conversation_outcome": "o"}, scenario_set=at.scenarios
        )
        for name, (path, act) in DELETIONS.items():
            at.losing.arm("DELETE", path)
            await act(at)
            assert at.losing.seen == 2, name
            with pytest.raises(NotFoundError):
                await act(at)


NOT_MADE_ONCE = {
    "version/compatible",  # asks
    "experiments/1/agent-results/preview",  # asks
    "projects",  # see above
    # Jobs, which tests/flow is about.
    "responses/batches",
    "ratings/batches",
    "experiments/1/run",
    "experiments/1/retry-failed",
}


async def test_every_post_of_the_protocol_is_in_the_table() -> None:
    """Each route that is posted to is asked again by its key, or stands here by its name."""
    async with LocalServer() as server, aiohttp.ClientSession() as session:
        headers = {"X-API-Key": server.api_key}
        async with session.get(f"{server.url}/api/v0/openapi.json", headers=headers) as answer:
            paths = (await answer.json())["paths"]
    posts = {path for path, methods in paths.items() if "post" in methods}
    below = [re.sub(r"^/api/v0/(projects/\{\w+\}/)?", "", path) for path in posts]
    left = {re.sub(r"\{\w+\}", "1", path) for path in below} - NOT_MADE_ONCE
    known = {making.path for making in MAKINGS.values()}
    assert [path for path in left if not any(re.fullmatch(one, path) for one in known)] == []
