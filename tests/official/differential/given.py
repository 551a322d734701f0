"""The store that the two sides of a differential test begin with, and its objects."""

from __future__ import annotations

from typing import NamedTuple

from elluminate_async import (
    AsyncClient,
    Collection,
    Criterion,
    CriterionSet,
    Experiment,
    LLMConfig,
    PromptResponse,
    PromptTemplate,
    Scenario,
    ScenarioSet,
    TemplateVariables,
)


class Given(NamedTuple):
    """Objects of the store that all begin with.

    Attributes:
        template: Version 1 of T, with two criteria of its own.
        unused: A template that nothing refers to.
        collection: C, with two rows.
        rows: Those two.
        spare: A collection with two rows that nothing refers to.
        spare_rows: Those two.
        criterion: The first one of the template.
        loose: A set of one criterion that nothing refers to.
        config: A configuration that nothing refers to.
        defined: An experiment that was not run.
        run: One that was run and rated, twice for each row.
        failed: One that was run, of which one response failed.
        responses: Those of ``run``.
        agents: An experiment for agents' results.
        scenarios: A set with a field and two scenarios.
        scenario: The first one of that set.
    """

    template: PromptTemplate
    unused: PromptTemplate
    collection: Collection
    rows: list[TemplateVariables]
    spare: Collection
    spare_rows: list[TemplateVariables]
    criterion: Criterion
    loose: CriterionSet
    config: LLMConfig
    defined: Experiment
    run: Experiment
    failed: Experiment
    responses: list[PromptResponse]
    agents: Experiment
    scenarios: ScenarioSet
    scenario: Scenario


async def seed(client: AsyncClient) -> None:
    """Fill the store that all begin with; the model does not answer ``Say bad.`` yet."""
    template = await client.prompt_templates.create("Say {{word}}.", "T")
    await client.criteria.add_many(["Is it short?", "Is it a word?"], prompt_template=template)
    await client.prompt_templates.create("Tell {{word}}.", "U")
    collection = await client.collections.create("C", variables=[{"word": "a"}, {"word": "bad"}])
    await client.collections.create("D", variables=[{"word": "x"}, {"word": "y"}])
    await client.criterion_sets.create("S", ["Is it true?"])
    await client.llm_configs.create("L", "m", api_key="secret", temperature=0.5)
    await client.experiments.create(
        "defined", prompt_template=template, collection=collection, description="d"
    )
    first = await client.collections.create("E", variables=[{"word": "a"}, {"word": "b"}])
    run = await client.experiments.create("run", prompt_template=template, collection=first)
    await client.experiments.run(run, n_epochs=2)
    failed = await client.experiments.create(
        "failed", prompt_template=template, collection=collection
    )
    await client.experiments.run(failed)
    tasks = await client.collections.create(
        "tasks", variables=[{"task": "sort", "instruction": "Sort."}], collection_type="AGENTIC"
    )
    asked = await client.criterion_sets.create("asked", ["Is it polite?"])
    await client.experiments.create(
        "agents", collection=tasks, criterion_set=asked, evaluation_mode="AGENTIC"
    )
    talks = await client.scenario_sets.create("talks", fields=["tone"])
    goals = [{"goal": goal, "expected_conversation_outcome": "o"} for goal in ("leave", "pay")]
    await client.scenarios.add_many(goals, scenario_set=talks)


async def given(client: AsyncClient) -> Given:
    """Read the objects."""
    collections = {one.name: one for one in await client.collections.list()}
    experiments = {one.name: one for one in await client.experiments.list()}
    template = await client.prompt_templates.get("T")
    scenarios = await client.scenario_sets.get("talks")
    return Given(
        template=template,
        unused=await client.prompt_templates.get("U"),
        collection=collections["C"],
        rows=await client.template_variables.list(collections["C"]),
        spare=collections["D"],
        spare_rows=await client.template_variables.list(collections["D"]),
        criterion=(await client.criteria.list(template))[0],
        loose=await client.criterion_sets.get("S"),
        config=await client.llm_configs.get("L"),
        defined=experiments["defined"],
        run=experiments["run"],
        failed=experiments["failed"],
        responses=await client.responses.list(experiment=experiments["run"]),
        agents=experiments["agents"],
        scenarios=scenarios,
        scenario=(await client.scenarios.list(scenarios))[0],
    )
