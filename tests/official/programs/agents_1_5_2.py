"""Agents' results by both clients, each method; it checks what comes back."""

import asyncio

from elluminate import AsyncClient, Client
from elluminate.exceptions import NotFoundError, PartialUploadError, TaskMatchError
from elluminate.schemas import AgentTrialResult, ATIFTrajectory, CriterionRatingIn

import whole

whole.watch()

TRAJECTORY = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1"},
    "steps": [
        {"step_id": 1, "source": "agent", "message": "I look.", "metrics": {"prompt_tokens": 3}}
    ],
}
ROWS = [
    {"task": "sort", "instruction": "Sort it."},
    {"task": "find", "instruction": "Find it."},
]


def trial(name: str, **fields: object) -> AgentTrialResult:
    return AgentTrialResult(task_name=name, **fields)


def check_partial(error: PartialUploadError) -> None:
    assert error.response.created_responses == 0
    assert "trajectory dropped" in str(error)
    assert "schema_version" in str(error)


def blocking() -> None:
    client = Client()
    collection = client.create_collection("tasks", variables=ROWS, collection_type="AGENTIC")
    criteria = client.create_criterion_set("asked", ["Is it polite?", "Is it {{task}}?"])
    experiment = client.create_experiment(
        name="agents",
        prompt_template=None,
        collection=collection,
        criterion_set=criteria,
        evaluation_mode="AGENTIC",
        agent_config={"name": "a"},
    )
    assert experiment.evaluation_mode == "AGENTIC"
    definition = experiment.get_agent_results_definition()
    assert definition == client.get_agent_results_definition(experiment)
    assert [task.task_name for task in definition.tasks] == ["sort", "find"]
    sort, _ = definition.tasks
    polite = sort.criteria[0].criterion_id
    assert [one.rendered_criterion_str for one in sort.criteria] == ["Is it polite?", "Is it sort?"]

    results = [
        AgentTrialResult(task_id=sort.task_id, trajectory=TRAJECTORY),
        trial("find", trajectory=ATIFTrajectory.model_validate(TRAJECTORY), cost_usd=0.5),
    ]
    preview = experiment.preview_agent_results_matching([*results, trial("no")])
    assert (preview.matched, len(preview.unmatched_results)) == (2, 1)
    upload = experiment.upload_agent_results(results)
    assert (upload.created_responses, upload.pending_evaluations) == (2, 2)
    event = experiment.wait_for_evaluation(upload.evaluation_task_id, polling_interval=0.1)
    assert event.is_success
    assert (event.progress.responses_rated, event.progress.responses_generated) == (2, 2)
    assert client.wait_for_agent_evaluation(experiment, polling_interval=0.1).is_success
    experiment.fetch_responses()
    first = next(iter(experiment.responses()))
    assert first.trajectory == TRAJECTORY
    assert first.response_str == "I look."
    assert len(first.ratings) == 2
    assert client.get_experiment(id=experiment.id).has_internal_error is False

    rated = [
        trial("sort", criterion_ratings=[CriterionRatingIn(criterion_id=polite, rating="NO")]),
        trial("sort", criterion_ratings=[CriterionRatingIn(label="polite", rating="NO")]),
    ]
    upload = client.upload_agent_results(experiment, results=rated, epoch=2)
    assert (upload.created_ratings, len(upload.errors)) == (1, 1)
    assert upload.evaluation_task_id is None
    try:
        broken = [trial("sort", trajectory={"schema_version": "1"})]
        client.upload_agent_results(experiment, results=broken, raise_on_partial=True)
    except PartialUploadError as error:
        check_partial(error)
    else:
        raise AssertionError("taken")
    try:
        client.upload_agent_results(experiment, results=[trial("no")])
    except TaskMatchError as error:
        tasks = [task.task_name for task in error.accepted_tasks]
        found = (tasks, error.accepted_tasks_total, len(error.reasons))
    assert found == (["sort", "find"], 2, 1)
    try:
        client.wait_for_agent_evaluation(experiment, task_id="nothing")
    except (NotFoundError, ValueError):
        pass
    else:
        raise AssertionError("waited")


async def later() -> None:
    async with AsyncClient() as client:
        experiment = await client.get_experiment(name="agents")
        definition = await experiment.aget_agent_results_definition()
        assert definition == await client.get_agent_results_definition(experiment.id)
        results = [trial("sort", trajectory=TRAJECTORY), trial("find", error="crashed")]
        preview = await client.preview_agent_results_matching(experiment, results)
        assert preview == await experiment.apreview_agent_results_matching(results)
        upload = await client.upload_agent_results(experiment, results=results, epoch=3)
        events = [
            event
            async for event in client.stream_agent_evaluation(
                experiment, task_id=upload.evaluation_task_id
            )
        ]
        assert events[-1].is_success
        upload = await experiment.aupload_agent_results(results, evaluate=False)
        assert upload.evaluation_task_id is None
        ended = [event async for event in client.stream_agent_evaluation(experiment)]
        assert [event.is_success for event in ended] == [True]
        assert (await client.wait_for_agent_evaluation(experiment)).is_success
        assert (await experiment.await_for_evaluation(polling_interval=0.1)).is_success


blocking()
asyncio.run(later())
print("ok")
