"""Agents' results by the client: what is uploaded, what is not taken, the wait for the judge."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from elluminate_async import (
    AgentResult,
    AsyncClient,
    CriterionRatingIn,
    DeadlineError,
    Experiment,
    InputError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    PartialUploadError,
    RatingValue,
    RejectedError,
    TaskMatchError,
)
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing.raw import Connection, RawServer, Received, reply
from tests.flow.bench import Recorder
from tests.server.api import ScriptedModel

TRAJECTORY: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1"},
    "steps": [{"step_id": 1, "source": "agent", "message": "Sorted."}],
}


@asynccontextmanager
async def staged(
    model: ScriptedModel | None = None, **arguments: Any
) -> AsyncGenerator[tuple[AsyncClient, Experiment]]:
    """An experiment of two tasks and one criterion."""
    async with (
        LocalServer(model=model or ScriptedModel(), **arguments) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        rows = [{"task": name, "instruction": f"{name} it."} for name in ("sort", "find")]
        collection = await client.collections.create("tasks", variables=rows)
        criteria = await client.criterion_sets.create("asked", ["Is it polite?"])
        experiment = await client.experiments.create(
            "agents", collection=collection, criterion_set=criteria, evaluation_mode="AGENTIC"
        )
        yield client, experiment


async def test_results_are_uploaded_and_judged() -> None:
    """Matched before, told of by each status, rated at the end, and listed in order."""
    async with staged() as (client, experiment):
        definition = await client.agent_results.definition(experiment)
        results = [
            AgentResult(task_id=definition.tasks[0].task_id, trajectory=TRAJECTORY),
            {"task_name": "find", "messages": [{"role": "assistant", "content": "here"}]},
        ]
        found = await client.agent_results.preview(experiment, results)
        assert (found.matched, found.unmatched_results) == (2, [])
        upload = await client.agent_results.upload(experiment, results, epoch=3)
        assert (upload.created_responses, upload.pending_evaluations) == (2, 2)
        task = upload.evaluation_task_id
        statuses = [one async for one in client.agent_results.stream(experiment, task)]
        assert statuses[-1].status == "SUCCESS"
        ended = await client.agent_results.wait(experiment, task)
        assert (ended.completed_ratings, ended.total_responses) == (2, 2)
        responses = await client.agent_results.list(experiment)
        assert [one.response_str for one in responses] == ["Sorted.", "here"]
        assert [one.epoch for one in responses] == [3, 3]
        assert responses[0].trajectory == TRAJECTORY
        assert [one.ratings[0].rating for one in responses] == [RatingValue.YES] * 2
        assert (await client.agent_results.wait(experiment)).status == "SUCCESS"


async def test_what_was_not_taken_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """By a warning, or by an error that has the answer; of no task at all by one with the tasks."""
    async with staged() as (client, experiment):
        results = [
            AgentResult(
                task_name="sort",
                criterion_ratings=[CriterionRatingIn(label="polite", rating=RatingValue.NO)],
            ),
            {"task_name": "no"},
        ]
        upload = await client.agent_results.upload(experiment, results)
        assert len(upload.errors) == 2
        assert "no task named 'no'" in caplog.text
        with pytest.raises(PartialUploadError, match="do not send all of it again") as partial:
            await client.agent_results.upload(experiment, results, raise_on_partial=True)
        assert partial.value.upload == upload
        with pytest.raises(TaskMatchError, match="no task named 'no'") as unmatched:
            await client.agent_results.upload(experiment, results[1:])
        assert unmatched.value.accepted_tasks == {1: "sort", 2: "find"}
        assert unmatched.value.accepted_tasks_total == 2
        assert len(unmatched.value.reasons) == 1
        assert await client.agent_results.list(experiment) == []


async def test_a_wait_ends_in_time_and_by_failure() -> None:
    """Leaving it leaves the evaluation, a failure is raised, and an unknown id is not found."""
    model = ScriptedModel()
    model.gate.clear()
    async with staged(model) as (client, experiment):
        results = [{"task_id": 1, "trajectory": TRAJECTORY}]
        upload = await client.agent_results.upload(experiment, results)
        with pytest.raises(DeadlineError):
            await client.agent_results.wait(experiment, timeout=0.2)
        async with client.agent_results.stream(experiment) as statuses:
            assert (await anext(statuses)).status in ("PENDING", "STARTED")
        model.errors["Sorted."] = TimeoutError("gone")
        model.gate.set()
        with pytest.raises(JobError, match="gone"):
            await client.agent_results.wait(experiment, upload.evaluation_task_id)
        with pytest.raises(JobError, match="the service failed"):
            await client.agent_results.wait(experiment)
        with pytest.raises(NotFoundError):
            await client.agent_results.wait(experiment, "nothing")


NONE: list[tuple[Any, str]] = [
    ([{"task_id": 1, "turns": 3}], r"results\[0\] has no key 'turns'"),
    ([{}], r"results\[0\] cannot be sent: .*task_id or task_name"),
    ([{"task_id": 1, "reward": 3}], r"results\[0\] .*reward"),
    ([{"task_id": 1, "metadata": {"x": {1}}}], r"results\[0\].*metadata"),
    ({"task_id": 1}, r"pass \[x\] for one"),
    ([3], r"results\[0\] must be AgentResult"),
    (3, r"must be a list of results, not 3"),
]


@pytest.mark.parametrize(("results", "text"), NONE)
async def test_what_is_no_result_is_refused(results: Any, text: str) -> None:
    """Before anything is sent."""
    async with staged() as (client, experiment):
        with pytest.raises(InputError, match=text):
            await client.agent_results.upload(experiment, results)


@pytest.mark.parametrize("has_keys", [True, False])
async def test_an_answer_that_is_lost(has_keys: bool) -> None:
    """Sent again under its key it is stored once; without keys its outcome is unknown."""
    recorder = Recorder()
    profile = WireProfile() if has_keys else WireProfile.hosted()
    async with staged(profile=profile, wrap=recorder.wrap) as (client, experiment):
        recorder.lose = "agent-results"
        results = [{"task_id": 1, "trajectory": TRAJECTORY}]
        if has_keys:
            upload = await client.agent_results.upload(experiment, results)
            assert upload.created_responses == 1
            await client.agent_results.wait(experiment, upload.evaluation_task_id)
        else:
            with pytest.raises(OutcomeUnknownError, match=r"client\.agent_results\.list"):
                await client.agent_results.upload(experiment, results)
        assert recorder.lose is None
        assert recorder.count("/agent-results$", "POST") == (2 if has_keys else 1)
        assert len(await client.agent_results.list(experiment)) == 1


@pytest.mark.parametrize("has_keys", [True, False])
async def test_scenarios_whose_answer_is_lost(has_keys: bool) -> None:
    """The same; where equal ones are skipped it is sent again in any case, and none comes twice."""
    recorder = Recorder()
    profile = WireProfile() if has_keys else WireProfile.hosted()
    async with staged(profile=profile, wrap=recorder.wrap) as (client, _):
        made = await client.scenario_sets.create("s")
        given = [{"goal": goal, "expected_conversation_outcome": "o"} for goal in "aba"]
        recorder.lose = "batch"
        batch = await client.scenarios.add_many(given, scenario_set=made)
        assert [one.id for one in batch] == [1, 2, 1]
        recorder.lose = "batch"
        if has_keys:
            again = await client.scenarios.add_many(given, scenario_set=made, skip_existing=False)
            assert [one.id for one in again] == [3, 4, 5]
        else:
            with pytest.raises(OutcomeUnknownError, match=r"client\.scenarios\.list"):
                await client.scenarios.add_many(given, scenario_set=made, skip_existing=False)
        assert len(await client.scenarios.list(made)) == 5


def status(name: str, job: str | None, **more: Any) -> bytes:
    return json.dumps({"status": name, "generation_task_id": job, **more}).encode()


CASES: dict[str, tuple[dict[str, bytes], str | type[Exception]]] = {
    "handed over": ({"a": status("SUCCESS", "b"), "b": status("SUCCESS", "b")}, "SUCCESS"),
    "released": ({"a": status("SUCCESS", None)}, "SUCCESS"),
    "failed": ({"a": status("SUCCESS", None, has_internal_error=True)}, JobError),
    "never heard of": ({"a": status("PENDING", None)}, NotFoundError),
    "of before": ({"a": b'{"status":"SUCCESS"}'}, "SUCCESS"),
    "revoked": ({"a": status("REVOKED", "b")}, JobError),
}


@pytest.mark.parametrize(("told", "end"), CASES.values(), ids=CASES)
async def test_what_the_service_tells_of_an_evaluation(
    told: dict[str, bytes], end: str | type[Exception]
) -> None:
    """It may give it to another job, be rid of it, or know nothing, which is not waited for."""

    async def script(request: Received, connection: Connection) -> bytes:
        if request.path.endswith("/projects"):
            return reply(200, b'{"items":[{"id":1,"name":"P"}],"count":1}')
        if request.path.endswith("/stream"):
            return reply(404)
        return reply(200, told[request.path.rsplit("/", 1)[1]])

    async with (
        RawServer(script) as server,
        AsyncClient(base_url=server.url, api_key="k", skip_version_check=True) as client,
    ):
        if isinstance(end, str):
            assert (await client.agent_results.wait(1, "a")).status == end
        else:
            with pytest.raises(end):
                await client.agent_results.wait(1, "a")


@pytest.mark.parametrize(("refusals", "ends"), [(2, True), (100, False)])
async def test_a_status_that_cannot_be_read_is_asked_for_again(refusals: int, ends: bool) -> None:
    """A few times: what is refused for good is told, and not waited for."""
    asked = 0

    async def script(request: Received, connection: Connection) -> bytes:
        nonlocal asked
        if request.path.endswith("/projects"):
            return reply(200, b'{"items":[{"id":1,"name":"P"}],"count":1}')
        if request.path.endswith("/stream"):
            return reply(404)
        asked += 1
        return reply(400) if asked <= refusals else reply(200, status("SUCCESS", "a"))

    async with (
        RawServer(script) as server,
        AsyncClient(base_url=server.url, api_key="k", skip_version_check=True) as client,
    ):
        waiting = client.agent_results.wait(1, "a")
        if ends:
            assert (await waiting).status == "SUCCESS"
        else:
            with pytest.raises(RejectedError):
                await waiting
            assert asked < 10
