"""Operations on experiments, responses, ratings, scenarios and agents, by the official client."""

from elluminate.schemas import AgentTrialResult, RatingMode
from elluminate.schemas.agent_results import AgentTrialTaskRef
from elluminate.schemas.response import PromptResponseFilter

from operations import ids, of, operation

TRAJECTORY = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1"},
    "steps": [{"step_id": 1, "source": "agent", "message": "Sorted."}],
}


def told(found):
    return [(one.id, one.response_str) for one in found]


@operation("create an experiment")
async def _(client, at):
    made = await client.create_experiment("new", at.template, at.collection, criterion_set=at.loose)
    return made.id


@operation("get an experiment by name")
async def _(client, at):
    found = await client.get_experiment(name="run", fetch_responses=False)
    return [found.id, found.results.num_rated_responses]


@operation("list experiments")
async def _(client, at):
    return ids(await client.list_experiments(prompt_template=at.template))


@operation("run an experiment")
async def _(client, at):
    run = await of(client, at.defined).arun(rating_mode=RatingMode.FAST, n_epochs=2)
    return [run.id, run.results.num_rated_responses]


@operation("retry what failed of an experiment")
async def _(client, at):
    run = await of(client, at.failed).aretry_failed()
    return [run.results.num_rated_responses, run.results.num_failed_responses]


@operation("clone an experiment")
async def _(client, at):
    made = await of(client, at.defined).aclone("copy")
    return [made.id, made.description]


@operation("delete an experiment")
async def _(client, at):
    await client.delete_experiment(at.run)


@operation("read the map of an experiment")
async def _(client, at):
    found = await client._experiments.aget_map(at.run)
    return [one.response_id for sample in found.samples for one in sample.responses]


@operation("generate a response")
async def _(client, at):
    return told([await client._responses.agenerate(at.rows[0], at.defined)])


@operation("generate responses")
async def _(client, at):
    return told(await client._responses.agenerate_many(at.defined, template_variables=at.rows))


@operation("add a response")
async def _(client, at):
    return told([await client._responses.aadd("given", at.rows[0], at.defined, epoch=2)])


@operation("add responses")
async def _(client, at):
    return told(await of(client, at.defined).aadd_responses(["x", "y"], at.rows))


@operation("get a response")
async def _(client, at):
    return told([await client._responses.aget(id=at.responses[0].id)])


@operation("list responses of an experiment")
async def _(client, at):
    return told(await client._responses.alist(experiment=at.run))


@operation("list responses by filters")
async def _(client, at):
    filters = PromptResponseFilter(experiment_id=at.run.id, epoch=2, input_tokens_min=1)
    return told(await client._responses.alist(filters=filters))


@operation("read samples")
async def _(client, at):
    found = await client._responses.alist_samples(at.run, exclude_perfect_responses=True)
    return [one.prompt_response_ids for one in found]


@operation("compare samples of two experiments")
async def _(client, at):
    found = await client.list_comparison_samples(at.run, at.failed)
    return [one.prompt_response_ids for one in found]


@operation("read statistics")
async def _(client, at):
    return (await client._responses.aget_stats(days=7)).total_responses


@operation("annotate a response")
async def _(client, at):
    return (await client._responses.aupdate_annotation(at.responses[0], "odd")).annotation


@operation("delete a response")
async def _(client, at):
    await client._responses.adelete(at.responses[0])


@operation("list ratings")
async def _(client, at):
    return ids(await client._ratings.alist(at.responses[0]))


@operation("rate a response")
async def _(client, at):
    return ids(await client._ratings.arate(at.responses[0], RatingMode.FAST))


@operation("rate responses")
async def _(client, at):
    return [ids(one) for one in await client._ratings.arate_many(at.responses)]


@operation("rate responses, seen as it goes")
async def _(client, at):
    events = [one async for one in client.stream_batch_rate(at.responses)]
    return [ids(one) for one in events[-1].result]


@operation("create a scenario set")
async def _(client, at):
    made = await client.create_scenario_set("calls", "d", ["tone"])
    return [made.id, ids(made.fields)]


@operation("get a scenario set by name")
async def _(client, at):
    return (await client.get_scenario_set(name="talks")).id


@operation("update a scenario set")
async def _(client, at):
    return (await client._scenario_sets.aupdate(at.scenarios, description="d")).name


@operation("add a field to a scenario set")
async def _(client, at):
    made = await of(client, at.scenarios).aadd_field("plan", default_value="free")
    return [made.id, made.name]


@operation("rename a field of a scenario set")
async def _(client, at):
    return (await of(client, at.scenarios).arename_field(at.scenarios.fields[0], "mood")).name


@operation("delete a scenario set")
async def _(client, at):
    await client.delete_scenario_set(at.scenarios)


@operation("add scenarios")
async def _(client, at):
    goals = [{"goal": goal, "expected_conversation_outcome": "o"} for goal in ("buy", "ask")]
    return ids(await of(client, at.scenarios).aadd_scenarios(goals))


@operation("list scenarios")
async def _(client, at):
    return ids(await of(client, at.scenarios).alist_scenarios())


@operation("update a scenario")
async def _(client, at):
    changed = at.scenario.model_copy(update={"goal": "stay"})
    return (await of(client, at.scenarios).aupdate_scenario(changed)).goal


@operation("delete a scenario")
async def _(client, at):
    await of(client, at.scenarios).adelete_scenario(at.scenario)


@operation("read the tasks of agents")
async def _(client, at):
    found = await client.get_agent_results_definition(at.agents)
    return [one.task_name for one in found.tasks]


@operation("match agents' results")
async def _(client, at):
    refs = [AgentTrialTaskRef(task_name="sort")]
    return (await client.preview_agent_results_matching(at.agents, refs)).matched


@operation("upload agents' results, and wait")
async def _(client, at):
    results = [AgentTrialResult(task_name="sort", trajectory=TRAJECTORY)]
    upload = await client.upload_agent_results(at.agents, results, epoch=2)
    ended = await client.wait_for_agent_evaluation(at.agents, upload.evaluation_task_id)
    return [upload.created_responses, ended.status.value]
