"""Operations on experiments, responses, ratings, scenarios and agents' results, by this SDK."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from elluminate_async import AgentResult, AsyncClient, PromptResponse, RatingMode
from tests.official.differential.given import Given
from tests.official.differential.registry import ids, operation

TRAJECTORY: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1"},
    "steps": [{"step_id": 1, "source": "agent", "message": "Sorted."}],
}


def told(found: Iterable[PromptResponse]) -> list[tuple[int | None, str]]:
    """Ids and texts of responses."""
    return [(one.id, one.response_str) for one in found]


@operation("create an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.experiments.create(
        "new", prompt_template=at.template, collection=at.collection, criterion_set=at.loose
    )
    return made.id


@operation("get an experiment by name")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.experiments.get("run")
    assert found.results is not None
    return [found.id, found.results.num_rated_responses]


@operation("list experiments")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.experiments.list(prompt_template=at.template))


@operation("run an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    run = await client.experiments.run(at.defined, rating_mode=RatingMode.FAST, n_epochs=2)
    assert run.results is not None
    return [run.id, run.results.num_rated_responses]


@operation("retry what failed of an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    run = await client.experiments.retry_failed(at.failed)
    assert run.results is not None
    return [run.results.num_rated_responses, run.results.num_failed_responses]


@operation("clone an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.experiments.clone(at.defined, "copy")
    return [made.id, made.description]


@operation("delete an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.experiments.delete(at.run)


@operation("read the map of an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.experiments.map(at.run)
    return [one.response_id for sample in found for one in sample.responses]


@operation("generate a response")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.responses.generate(template_variables=at.rows[0], experiment=at.defined)
    return told([made])


@operation("generate responses")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.responses.generate_many(template_variables=at.rows, experiment=at.defined)
    return told(made)


@operation("add a response")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.responses.add(
        "given", template_variables=at.rows[0], experiment=at.defined, epoch=2
    )
    return told([made])


@operation("add responses")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.responses.add_many(
        ["x", "y"], template_variables=at.rows, experiment=at.defined
    )
    return told(made)


@operation("get a response")
async def _(client: AsyncClient, at: Given) -> Any:
    return told([await client.responses.get(at.responses[0].id or 0)])


@operation("list responses of an experiment")
async def _(client: AsyncClient, at: Given) -> Any:
    return told(await client.responses.list(experiment=at.run))


@operation("list responses by filters")
async def _(client: AsyncClient, at: Given) -> Any:
    return told(await client.responses.list(experiment=at.run, epoch=2, input_tokens=(1, None)))


@operation("read samples")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.responses.samples(at.run, exclude_perfect=True)
    return [one.prompt_response_ids for one in found]


@operation("compare samples of two experiments")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.responses.compare_samples(at.run, at.failed)
    return [one.prompt_response_ids for one in found]


@operation("read statistics")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.responses.stats(days=7)).total_responses


@operation("annotate a response")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.responses.update(at.responses[0], annotation="odd")).annotation


@operation("delete a response")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.responses.delete(at.responses[0])


@operation("list ratings")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.ratings.list(at.responses[0]))


@operation("rate a response")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.ratings.rate(at.responses[0], rating_mode=RatingMode.FAST))


@operation("rate responses")
async def _(client: AsyncClient, at: Given) -> Any:
    return [ids(one) for one in await client.ratings.rate_many(at.responses)]


@operation("rate responses, seen as it goes")
async def _(client: AsyncClient, at: Given) -> Any:
    outcomes = dict([one async for one in client.ratings.stream_rate_many(at.responses)])
    return [ids(outcomes[place]) for place in range(len(outcomes))]  # type: ignore[arg-type]


@operation("create a scenario set")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.scenario_sets.create("calls", description="d", fields=["tone"])
    return [made.id, ids(made.fields)]


@operation("get a scenario set by name")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.scenario_sets.get("talks")).id


@operation("update a scenario set")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.scenario_sets.update(at.scenarios, description="d")).name


@operation("add a field to a scenario set")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.scenario_sets.add_field(at.scenarios, "plan", default_value="free")
    return [made.id, made.name]


@operation("rename a field of a scenario set")
async def _(client: AsyncClient, at: Given) -> Any:
    field = at.scenarios.fields[0]
    return (await client.scenario_sets.rename_field(at.scenarios, field, "mood")).name


@operation("delete a scenario set")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.scenario_sets.delete(at.scenarios)


@operation("add scenarios")
async def _(client: AsyncClient, at: Given) -> Any:
    goals = [{"goal": goal, "expected_conversation_outcome": "o"} for goal in ("buy", "ask")]
    added = await client.scenarios.add_many(goals, scenario_set=at.scenarios, skip_existing=False)
    return ids(added)


@operation("list scenarios")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.scenarios.list(at.scenarios))


@operation("update a scenario")
async def _(client: AsyncClient, at: Given) -> Any:
    changed = at.scenario.model_copy(update={"goal": "stay"})
    return (await client.scenarios.update(changed, scenario_set=at.scenarios)).goal


@operation("delete a scenario")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.scenarios.delete(at.scenario, scenario_set=at.scenarios)


@operation("read the tasks of agents")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.agent_results.definition(at.agents)
    return [one.task_name for one in found.tasks]


@operation("match agents' results")
async def _(client: AsyncClient, at: Given) -> Any:
    found = await client.agent_results.preview(at.agents, [{"task_name": "sort"}])
    return found.matched


@operation("upload agents' results, and wait")
async def _(client: AsyncClient, at: Given) -> Any:
    results = [AgentResult(task_name="sort", trajectory=TRAJECTORY)]
    upload = await client.agent_results.upload(at.agents, results, epoch=2)
    ended = await client.agent_results.wait(at.agents, upload.evaluation_task_id)
    return [upload.created_responses, str(ended.status)]
