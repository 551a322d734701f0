"""Agents' results over plain HTTP: matching, partial acceptance, evaluation, restarts."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.server.store import sizes
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


TASKS = [
    {"task": "sort", "instruction": "Sort the list.", "size": 3},
    {"task": "find", "instruction": "Find the file.", "size": 4},
    {"task": "find", "instruction": "Find the other file.", "size": 5},
]
PATH = "/experiments/1/agent-results"
TRAJECTORY: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1"},
    "steps": [
        {"step_id": 1, "source": "user", "message": "Sort it."},
        {
            "step_id": 2,
            "source": "agent",
            "message": [{"type": "text", "text": "I sort."}],
            "tool_calls": [
                {"tool_call_id": "c", "function_name": "run", "arguments": {"cmd": "sort x"}}
            ],
            "observation": {"results": [{"source_call_id": "c", "content": "1 2 3"}]},
        },
        {"step_id": 3, "source": "agent", "message": "Sorted."},
    ],
    "final_metrics": {"total_prompt_tokens": 7, "total_completion_tokens": 5},
    "kept": {"as": "it is"},
}


async def setup(api: Api) -> None:
    """An experiment of three tasks and two criteria."""
    columns = [{"name": "task"}, {"name": "instruction"}, {"name": "size"}]
    body = {"name": "C", "collection_type": "AGENTIC", "columns": columns, "variables": TASKS}
    await api.post("/collections", body)
    criteria = [
        {"criterion_str": "Are there {{size}} steps?", "label": "steps"},
        {"criterion_str": "Is it polite?"},
    ]
    await api.post("/criterion_sets", {"name": "S", "criteria": criteria})
    experiment = {
        "name": "E",
        "description": "",
        "prompt_template_id": None,
        "collection_id": 1,
        "criterion_set_id": 1,
        "evaluation_mode": "AGENTIC",
    }
    made = await api.post("/experiments", experiment)
    assert (made["evaluation_mode"], made["prompt_template"]) == ("AGENTIC", None)


async def test_the_definition_has_tasks_and_criteria(api: Api) -> None:
    """As of the experiment's making: names that changed and rows that are gone are told."""
    await setup(api)
    await api.post("/collections/1/entries", {"input_values": {"task": "later"}})
    renamed = {"input_values": {**TASKS[0], "task": "order"}}
    await api("PUT", "/collections/1/entries/1", renamed)
    await api("DELETE", "/collections/1/entries/3")
    found = await api.get(f"{PATH}/definition")
    assert (found["version"], found["task_name_column"]) == (1, "task")
    assert [
        (one["task_id"], one["task_name"], one["current_task_name"], one["row_exists"])
        for one in found["tasks"]
    ] == [(1, "sort", "order", True), (2, "find", None, True), (3, "find", None, False)]
    assert found["tasks"][1]["criteria"] == [
        {
            "criterion_id": 1,
            "label": "steps",
            "scope": "shared",
            "rendered_criterion_str": "Are there 4 steps?",
        },
        {
            "criterion_id": 2,
            "label": "",
            "scope": "shared",
            "rendered_criterion_str": "Is it polite?",
        },
    ]


async def test_results_are_matched_with_tasks(api: Api) -> None:
    """By id, by the name then or now; a preview stores nothing, and its reasons are an upload's."""
    await setup(api)
    await api("PUT", "/collections/1/entries/1", {"input_values": {**TASKS[0], "task": "order"}})
    await api("DELETE", "/collections/1/entries/3")
    refs = [
        {"task_name": "sort"},
        {"task_name": "order"},
        {"task_id": 2, "task_name": "find"},
        {"task_name": "find"},
        {"task_name": "no"},
        {"task_id": 3},
        {"task_id": 9},
        {"task_id": 1, "task_name": "find"},
    ]
    found = await api.post(f"{PATH}/preview", {"results": refs})
    assert (found["task_name_column"], found["matched"], found["unmatched"]) == ("task", 3, 5)
    assert [one["task_id"] for one in found["results"][:3]] == [1, 1, 2]
    reasons = [one["reason"] for one in found["results"][3:]]
    assert [reason.partition(":")[0] for reason in reasons] == [
        "2 tasks are named 'find'",
        "the experiment has no task named 'no'",
        "the row of the task 'find' was deleted",
        "the experiment has no task of the id 9",
        "the task 1 is named 'sort', and not 'find'",
    ]
    assert await api.items("/responses") == []
    assert (await api("POST", PATH, {"results": [{"task_name": " "}]})).status == 422


@pytest.mark.parametrize(
    ("ref", "kind"), [({"task_name": "no"}, "unmatched_tasks"), ({"task_id": 3}, "nothing_stored")]
)
async def test_an_upload_of_no_task_stores_nothing(api: Api, ref: Any, kind: str) -> None:
    """It is a 400 that has the tasks, how many they are, and the reason of each result."""
    await setup(api)
    await api("DELETE", "/collections/1/entries/3")
    refused = await api("POST", PATH, {"results": [ref]})
    assert refused.status == 400
    assert (refused.body["kind"], refused.body["accepted_tasks_total"]) == (kind, 2)
    assert refused.body["accepted_tasks"][0] == {"task_id": 1, "task_name": "sort"}
    (reason,) = refused.body["results"]
    assert reason.startswith("result 0")
    assert reason in refused.body["detail"]
    assert await api.items("/responses") == []


async def test_what_can_be_is_taken(api: Api, model: ScriptedModel) -> None:
    """Results of tasks are stored in order; each part that is not taken has its error."""
    await setup(api)
    results = [
        {"task_name": "no"},
        {"task_id": 1, "trajectory": {**TRAJECTORY, "schema_version": "1"}, "error": "crashed"},
        {
            "task_id": 2,
            "messages": [{"role": "assistant", "content": "done"}],
            "duration_seconds": 2.5,
            "metadata": {"termination_reason": "goal"},
            "criterion_ratings": [
                {"label": "steps", "rating": "YES"},
                {"criterion_id": 77, "rating": "NO"},
                {"criterion_id": 2, "rating": "NO", "reasoning": "rude"},
            ],
        },
    ]
    body = {"results": results, "epoch": 2, "evaluate": True}
    made = await api.post(PATH, body)
    errors = made.pop("errors")
    assert made == {
        "created_responses": 2,
        "created_ratings": 1,
        "pending_evaluations": 0,
        "evaluation_task_id": None,
    }
    assert [error.split(": ")[0] for error in errors] == [
        "result 0 (task 'no')",
        "result 1 (task 'sort')",
        "result 2 (task 'find')",
        "result 2 (task 'find')",
    ]
    assert "trajectory dropped: schema_version" in errors[1]
    assert "by the label 'steps' alone" in errors[2]
    first, second = await api.items("/responses?experiment_id=1")
    assert (first["error"], first["trajectory"], first["epoch"]) == ("crashed", None, 2)
    dropped = first["generation_metadata"]["trajectory_ingest_error"]
    assert dropped.startswith("schema_version")
    assert second["termination_reason"] == "goal"
    assert second["prompt"]["messages"] == [{"role": "user", "content": "Find the file."}]
    assert second["prompt"]["prompt_template"] is None
    assert [(one["rating"], one["reasoning"]) for one in second["ratings"]] == [("NO", "rude")]
    again = await api.post(PATH, body)
    assert again["created_responses"] == 2
    assert len(await api.items("/responses?experiment_id=1")) == 4
    assert model.calls == []
    results = (await api.get("/experiments/1"))["results"]
    assert (results["num_failed_responses"], results["num_rated_responses"]) == (2, 2)


async def test_a_trajectory_is_judged(api: Api, model: ScriptedModel) -> None:
    """By its text and the task's own criteria, in a job that tells how far it is."""
    await setup(api)
    body = {"results": [{"task_name": "sort", "trajectory": TRAJECTORY}]}
    made = await api.post(PATH, body, headers={"Idempotency-Key": "k"})
    assert (made["pending_evaluations"], made["errors"]) == (1, [])
    task = made["evaluation_task_id"]
    ended = await api.ended(f"/experiments/1/generation/{task}")
    assert {key: ended[key] for key in ended if key not in ("logs_delta", "error_msg")} == {
        "status": "SUCCESS",
        "completed_responses": 1,
        "completed_ratings": 1,
        "total_responses": 1,
        "generation_task_id": task,
        "has_internal_error": False,
    }
    polled = await api.get(f"/experiments/1/generation/{task}?connection_uuid={uuid.UUID(int=1)}")
    assert polled["status"] == "SUCCESS"
    assert await api.post(PATH, body, headers={"Idempotency-Key": "k"}) == made
    (response,) = await api.items("/responses?experiment_id=1")
    assert response["trajectory"] == TRAJECTORY
    assert response["messages"][0]["content"] == "Sorted."
    assert response["generation_metadata"]["input_tokens"] == 7
    assert [one["rating"] for one in response["ratings"]] == ["YES", "YES"]
    (asked,) = model.calls
    for told in ("Sort the list.", "I sort.", '"cmd": "sort x"', "1 2 3", "Sorted."):
        assert told in asked
    experiment = await api.get("/experiments/1")
    assert experiment["generation_task_id"] is None
    assert experiment["results"]["mean_all_ratings"]["yes"] == 1


@pytest.mark.parametrize(
    ("given", "change", "tokens"),
    [
        ({"input_tokens": 2}, {}, (2, 5)),
        ({}, {"final_metrics": None}, (None, None)),
        ({}, {"final_metrics": None, "steps": "counted"}, (9, 1)),
    ],
)
async def test_tokens_of_a_result(api: Api, given: Any, change: Any, tokens: Any) -> None:
    """As it tells them; else as its trajectory does, as a whole or step by step."""
    await setup(api)
    trajectory = {**TRAJECTORY, **change}
    if trajectory["steps"] == "counted":
        figures = [{"prompt_tokens": 4, "completion_tokens": 1}, {"prompt_tokens": 5}, None]
        steps = zip(TRAJECTORY["steps"], figures, strict=True)
        trajectory["steps"] = [{**step, "metrics": metrics} for step, metrics in steps]
    result = {"task_id": 1, "trajectory": trajectory, **given}
    made = await api.post(PATH, {"results": [result], "evaluate": False})
    assert made["errors"] == []
    (response,) = await api.items("/responses")
    metadata: dict[str, Any] = response["generation_metadata"] or {}
    assert (metadata.get("input_tokens"), metadata.get("output_tokens")) == tokens


async def test_a_judge_that_fails_is_an_internal_error(api: Api, model: ScriptedModel) -> None:
    """The job is a failure, the experiment tells it, and nothing is rated."""
    await setup(api)
    model.errors["Sorted."] = TimeoutError("gone")
    made = await api.post(PATH, {"results": [{"task_name": "sort", "trajectory": TRAJECTORY}]})
    ended = await api.ended(f"/experiments/1/generation/{made['evaluation_task_id']}")
    assert (ended["status"], ended["has_internal_error"]) == ("FAILURE", True)
    assert (await api.get("/experiments/1"))["has_internal_error"] is True
    (response,) = await api.items("/responses")
    assert response["ratings"] == []


async def test_the_slot_is_of_an_evaluation_that_goes_on(api: Api, model: ScriptedModel) -> None:
    """Of two evaluations the later has it; once that has ended, the other."""
    await setup(api)
    model.gate.clear()
    first = await api.post(PATH, {"results": [{"task_id": 1, "trajectory": TRAJECTORY}]})
    second = await api.post(PATH, {"results": [{"task_id": 2, "trajectory": TRAJECTORY}]})
    slot = (await api.get("/experiments/1"))["generation_task_id"]
    assert slot == second["evaluation_task_id"]
    await api("DELETE", f"/experiments/1/generation/{slot}")
    slot = (await api.get("/experiments/1"))["generation_task_id"]
    assert slot == first["evaluation_task_id"]
    model.gate.set()
    await api.ended(f"/experiments/1/generation/{slot}")
    assert (await api.get("/experiments/1"))["generation_task_id"] is None


async def test_without_evaluation_nobody_is_asked(api: Api, model: ScriptedModel) -> None:
    """``evaluate`` of false stores, and that is all."""
    await setup(api)
    results = [{"task_id": 1, "trajectory": TRAJECTORY}]
    made = await api.post(PATH, {"results": results, "evaluate": False})
    assert (made["created_responses"], made["pending_evaluations"]) == (1, 0)
    assert made["evaluation_task_id"] is None
    assert model.calls == []


async def test_pages_of_long_tasks_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a task's row has counts, be its instruction short, and its prompt shared."""
    await setup(api)
    long = {"input_values": {**TASKS[0], "solution": "x" * 20_000}}
    await api("PUT", "/collections/1/entries/1", long)
    again = {"name": "F", "collection_id": 1, "criterion_set_id": 1, "evaluation_mode": "AGENTIC"}
    await api.post("/experiments", again)
    for path in (PATH, PATH.replace("1", "2", 1)):
        results = [{"task_id": 1, "messages": [{"role": "assistant", "content": "done"}]}] * 9
        await api.post(path, {"results": results, "evaluate": False})
    monkeypatch.setattr(sizes, "PAGE_BYTES", 128 << 10)
    for experiment in (1, 2):
        page = await api.get(f"/responses?experiment_id={experiment}")
        assert (page["count"], len(page["items"])) == (9, 3)


async def test_a_retry_judges_and_generates_nothing(api: Api, model: ScriptedModel) -> None:
    """A failed result stays failed, as no model answers for it; one that came rated stays so."""
    await setup(api)
    results = [
        {"task_id": 1, "error": "crashed", "messages": [{"role": "assistant", "content": "oh"}]},
        {"task_id": 1, "trajectory": TRAJECTORY},
        {
            "task_id": 2,
            "trajectory": TRAJECTORY,
            "criterion_ratings": [{"criterion_id": 1, "rating": "NO"}],
        },
    ]
    await api.post(PATH, {"results": results, "evaluate": False})
    before = await api.items("/responses")
    begun = await api.post("/experiments/1/retry-failed", {"rating_mode": "fast"})
    await api.ended(f"/experiments/1/generation/{begun['generation_task_id']}")
    assert len(model.calls) == 1
    failed, judged, rated = await api.items("/responses")
    assert [failed, rated] == [before[0], before[2]]
    assert [one["rating"] for one in judged["ratings"]] == ["YES", "YES"]
    again = await api.post("/experiments/1/retry-failed", {"rating_mode": "fast"})
    assert again["generation_task_id"] is None


@pytest.mark.parametrize(
    "result",
    [
        {"task_id": 1, "reward": 2},
        {"task_id": 1, "input_tokens": -1},
        {"task_id": 1, "messages": [{"role": "tool", "content": "x"}]},
        {"task_id": 1, "messages": [{"role": "developer", "content": "x"}]},
        {"task_id": 1, "criterion_ratings": [{"rating": "YES"}]},
    ],
)
async def test_results_that_nobody_could_read_are_refused(api: Api, result: Any) -> None:
    """With 422, and nothing of the request is stored."""
    await setup(api)
    assert (await api("POST", PATH, {"results": [{"task_id": 2}, result]})).status == 422
    assert await api.items("/responses") == []


async def test_an_experiment_without_agents(api: Api) -> None:
    """It refuses results, and says what to make instead."""
    await api.setup(["a"])
    for method, path in [("GET", "/definition"), ("POST", "/preview"), ("POST", "")]:
        refused = await api(method, PATH + path, {"results": [{"task_id": 1}]})
        assert (refused.status, "AGENTIC" in refused.body["detail"]) == (400, True)


BROKEN: list[tuple[str, Any]] = [
    ("steps.0.source", {"steps": [{"step_id": 1, "source": "x", "message": ""}]}),
    ("agent", {"agent": None}),
    ("subagent_trajectories", {"subagent_trajectories": [{**TRAJECTORY}]}),
    ("total_cost_usd", {"final_metrics": {"total_cost_usd": -1}}),
    ("steps", {"steps": [{"step_id": 1, "source": "user", "message": ""}] * 10_001}),
]


@pytest.mark.parametrize(("where", "change"), BROKEN, ids=[where for where, _ in BROKEN])
async def test_trajectories_that_are_none(api: Api, where: str, change: Any) -> None:
    """The error says where, and a result of nothing else is not stored: it is sent again whole."""
    await setup(api)
    result = {"task_id": 1, "trajectory": {**TRAJECTORY, **change}}
    told = {**result, "messages": [{"role": "assistant", "content": "I tried."}]}
    made = await api.post(PATH, {"results": [result, told], "evaluate": False})
    assert made["created_responses"] == 1
    errors = made["errors"]
    assert all(where in error for error in errors)
    assert [error.split(": ")[1].split(" (")[0] for error in errors] == [
        "not stored",
        "trajectory dropped",
    ]
    await api.post(PATH, {"results": [{"task_id": 1, "trajectory": TRAJECTORY}], "epoch": 2})
    assert [one["epoch"] for one in await api.items("/responses")] == [1, 2]


async def test_a_result_of_nothing_is_not_stored(api: Api, model: ScriptedModel) -> None:
    """It could be neither judged nor retried; an empty error is none, and its text is judged."""
    await setup(api)
    said = [{"role": "assistant", "content": "done"}]
    results: list[dict[str, Any]] = [
        {"task_id": 1, "reward": 1.0},
        {"task_id": 2, "messages": [], "error": ""},
        {"task_id": 3, "messages": said, "error": ""},
    ]
    made = await api.post(PATH, {"results": results})
    assert [error.partition(": ")[2].partition(":")[0] for error in made["errors"]] == [
        "not stored",
        "not stored",
    ]
    assert (made["created_responses"], made["pending_evaluations"]) == (1, 1)
    await api.ended(f"/experiments/1/generation/{made['evaluation_task_id']}")
    assert len(model.calls) == 1


async def test_no_judge_is_asked_by_a_criterion_whose_placeholder_has_no_value(
    api: Api, model: ScriptedModel
) -> None:
    """That result alone is not rated, by a job, a batch or a single call, until there is one.

    A column's default is a value.
    """
    await setup(api)
    row = {"task": "sort", "instruction": "Sort the list."}
    await api("PUT", "/collections/1/entries/1", {"input_values": row})
    said = [{"role": "assistant", "content": "done"}]
    results = [{"task_id": task_id, "messages": said} for task_id in (1, 2)]
    made = await api.post(PATH, {"results": results})
    ended = await api.ended(f"/experiments/1/generation/{made['evaluation_task_id']}")
    first, second = await api.items("/responses?experiment_id=1")
    assert (
        "the criterion 1 cannot be asked: the row has no value for {{size}}" in ended["error_msg"]
    )
    assert (len(first["ratings"]), len(second["ratings"])) == (0, 2)
    (failure,) = (await api.rate([first["id"]]))["item_failures"]
    assert (failure["code"], "{{size}}" in failure["message"]) == ("rating_failed", True)
    refused = await api("POST", "/ratings", {"prompt_response_id": first["id"]})
    assert (refused.status, "{{size}}" in refused.body["detail"]) == (400, True)
    assert len(model.calls) == 1

    columns = [{"name": "task"}, {"name": "instruction"}, {"name": "size", "default_value": "7"}]
    assert (await api("PUT", "/collections/1", {"columns": columns})).status == 200
    assert "Are there 7 steps?" in json.dumps(await api.get(f"{PATH}/definition"))
    again = await api.post("/experiments/1/retry-failed", {})
    await api.ended(f"/experiments/1/generation/{again['generation_task_id']}")
    assert "Are there 7 steps?" in model.whole[-1]
    assert len(model.calls) == 2


async def test_ratings_that_contradict(api: Api) -> None:
    """Two by a criterion have the result refused; beside an error none is taken: it failed."""
    await setup(api)

    def rated(task_id: int, *verdicts: str, **more: Any) -> dict[str, Any]:
        ratings = [{"criterion_id": 1, "rating": verdict} for verdict in verdicts]
        said = [{"role": "assistant", "content": "done"}]
        return {"task_id": task_id, "messages": said, "criterion_ratings": ratings, **more}

    results = [rated(1, "YES", "NO"), rated(2, "YES"), rated(3, "YES", error="crashed")]
    made = await api.post(PATH, {"results": results})
    assert (made["created_responses"], made["created_ratings"]) == (2, 1)
    assert [error.partition(": ")[2] for error in made["errors"]] == [
        "not stored: it has 2 ratings by the criterion 1: give one",
        "ratings rejected: the result has an error, and what failed is not rated",
    ]
    assert [len(one["ratings"]) for one in await api.items("/responses")] == [1, 0]
    counted = (await api.get("/experiments/1"))["results"]
    assert (counted["num_rated_responses"], counted["num_failed_responses"]) == (1, 1)


async def test_a_restart_goes_on_with_an_evaluation(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """An evaluation accepted before the restart is done after it, under the same id."""
    path = tmp_path / "s.db"
    model = ScriptedModel()
    model.gate.clear()
    async with LocalServer(db=path, model=model) as server:
        api = Api(session, server)
        await setup(api)
        results = [{"task_id": one, "trajectory": TRAJECTORY} for one in (1, 2)]
        made = await api.post(PATH, {"results": results})
        await model.reached(2)
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        ended = await api.ended(f"/experiments/1/generation/{made['evaluation_task_id']}")
        assert (ended["status"], ended["completed_ratings"]) == ("SUCCESS", 2)
        assert [len(one["ratings"]) for one in await api.items("/responses")] == [2, 2]
