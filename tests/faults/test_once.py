"""What makes something makes it once, whatever becomes of the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Collection,
    CriterionSet,
    Experiment,
    OutcomeUnknownError,
    PromptResponse,
    PromptTemplate,
    ScenarioSet,
    TemplateVariables,
)
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.faults.losing import BAD_GATEWAY, EMPTY, HTML, NULL, Losing
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


async def verdicts(at: World) -> int:
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
    "ratings.rate": Making("ratings", lambda at: at.client.ratings.rate(at.response), verdicts),
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
