"""Deleting takes no responses and ratings along, which were paid for, unless that is said."""

from __future__ import annotations

import json
from asyncio import Event, create_task
from typing import TYPE_CHECKING

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import QUESTIONS, Api

if TYPE_CHECKING:
    from asyncio import Task
    from pathlib import Path

    from aiohttp import ClientSession

    from tests.server.api import Answer, ScriptedModel


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


NOUNS = {
    "prompt template": "/prompt_templates/1",
    "criterion set": "/criterion_sets/1",
    "collection": "/collections/1",
    "rows": "/collections/1/entries",
    "row": "/collections/1/entries/1",
    "criterion": "/criteria/1",
    "LLM config": "/llm_configs/2",
}


async def prepare(api: Api) -> None:
    """An experiment on one row, with a configuration and a criterion of its own."""
    await api.template()
    await api.add_criteria(["Is it?"])
    await api.post("/collections", {"name": "C", "variables": [{"word": "a"}]})
    config = await api.post("/llm_configs", {"name": "L", "llm_model_name": "m"})
    body = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
    await api.post("/experiments", {**body, "llm_config_id": config["id"]})


@pytest.mark.parametrize("noun", NOUNS)
async def test_what_is_referred_to_stays(api: Api, noun: str) -> None:
    """409 that tells how much there is and where; with ``cascade`` it goes, and that with it."""
    await prepare(api)
    await api.generate(1, [1])
    await api.rate([1])

    refused = await api("DELETE", NOUNS[noun])

    assert refused.status == 409
    assert "1 response with 1 rating, of the experiment 'E'" in refused.body["detail"]
    assert "cascade=true" in refused.body["detail"]
    counts = {"responses": 1, "ratings": 1, "experiments": 1, "in_flight": 0}
    assert refused.body["references"] == counts
    (response,) = await api.items("/responses")
    assert len(response["ratings"]) == 1
    assert (await api("DELETE", f"{NOUNS[noun]}?cascade=true")).status == 204
    left = await api.items("/responses")
    # A configuration's responses keep what they tell of it.
    assert len(left) == (1 if noun in ("criterion", "LLM config") else 0)
    assert [len(one["ratings"]) for one in left] == {"criterion": [0], "LLM config": [1]}.get(
        noun, []
    )


@pytest.mark.parametrize("noun", NOUNS)
async def test_what_nothing_paid_refers_to_goes(api: Api, noun: str) -> None:
    """As ever, with its experiments; nobody need ask for more than that.

    Experiments would not go with a configuration: they count themselves.
    """
    await prepare(api)
    refused = await api("DELETE", NOUNS[noun])
    if noun == "LLM config":
        assert "is referred to by the experiment 'E'" in refused.body["detail"]
        assert refused.body["references"]["experiments"] == 1
        return
    assert refused.status == 204
    assert (await api("DELETE", "/experiments/1")).status in (204, 404)


async def in_flight(api: Api, model: ScriptedModel, path: str, body: object) -> Task[Answer]:
    """A request whose call of the model waits for ``model.gate``."""
    model.gate = Event()
    calls = len(model.calls)
    sent = create_task(api("POST", path, body))
    await model.reached(calls + 1)
    return sent


ONE: dict[str, object] = {"experiment_id": 1, "template_variables_id": 1, "messages": []}
WORK: dict[str, object] = {
    "/responses/generate": ONE,
    "/ratings": {"prompt_response_id": 1},
    "/ratings/batches": {"prompt_response_ids": [1]},
    "/experiments/1/retry-failed": {},
}


@pytest.mark.parametrize("path", WORK)
async def test_what_work_in_flight_refers_to_stays(
    api: Api, model: ScriptedModel, path: str
) -> None:
    """Of single calls as of jobs: 409 that says so for each noun, and what is paid for is kept."""
    await prepare(api)
    rates = path != "/responses/generate"
    if rates:
        await api.generate(1, [1])
    sent = await in_flight(api, model, path, WORK[path])
    for noun, object_path in NOUNS.items():
        if noun == "criterion" and not rates:
            continue
        refused = await api("DELETE", object_path)
        assert refused.status == 409, noun
        assert "by work in flight (1 item): wait for its end" in refused.body["detail"]
        assert refused.body["references"]["in_flight"] == 1
    model.gate.set()
    answer = await sent
    if path == "/ratings/batches":
        await api.ended(f"{path}/{answer.body}")
    if path == "/experiments/1/retry-failed":
        await api.ended(f"/experiments/1/generation/{answer.body['generation_task_id']}")
    (response,) = await api.items("/responses")
    assert [one["criterion"]["id"] for one in response["ratings"]] == ([1] if rates else [])
    # The work is over, and the responses are left.
    for noun, object_path in NOUNS.items():
        if noun != "criterion":
            detail = (await api("DELETE", object_path)).body["detail"]
            assert "1 response" in detail, noun
            assert "in flight" not in detail, noun


async def test_a_deleted_configuration_leaves_a_stand_in(
    session: ClientSession, model: ScriptedModel, tmp_path: Path
) -> None:
    """It is shown where it was used, and nothing is generated by it or by another in its place.

    Calls under way are kept; what a restart finds left to do fails with that reason.
    """
    async with LocalServer(db=tmp_path / "s.db", model=model, max_model_calls=1) as server:
        api = Api(session, server)
        await prepare(api)
        await api.post("/collections/1/entries", {"input_values": {"word": "b"}})
        one = await in_flight(api, model, "/responses/generate", ONE)
        job = await api.post("/experiments/1/run", {})
        gate, model.gate = model.gate, Event()
        deleted = await api("DELETE", "/llm_configs/2?cascade=true")
        assert deleted.status == 204
        gate.set()
        answer = await one
        assert (answer.status, answer.body["messages"][0]["content"]) == (201, "SAY A.")

        assert (await api("GET", "/llm_configs/2")).status == 404
        assert (await api("DELETE", "/llm_configs/2?cascade=true")).status == 404
        assert [config["id"] for config in await api.items("/llm_configs")] == [1]
        again = await api.post("/llm_configs", {"name": "L", "llm_model_name": "m"})
        assert again["id"] == 3
        shown = (await api.get("/experiments/1"))["llm_config"]
        assert (shown["id"], shown["name"], shown["llm_model_name"]) == (
            2,
            "L (deleted, id 2)",
            "m",
        )
    model.gate.set()
    calls = len(model.calls)
    async with LocalServer(db=tmp_path / "s.db", model=model) as server:
        api = Api(session, server)
        path = f"/experiments/1/generation/{job['generation_task_id']}"
        assert (await api.ended(path))["status"] == "FAILURE"
        errors = [one["error"] for one in await api.items("/responses") if one["error"]]
        assert len(errors) == 2
        refused = [
            await api("POST", "/experiments/1/retry-failed", {}),
            await api("POST", "/responses/generate", ONE),
            await api("POST", "/responses/batches", {"prompt_response_ins": [ONE]}),
        ]
        for told in [*errors, *(one.body["detail"] for one in refused)]:
            assert told.startswith("the LLM config 'L' was deleted, and no other one takes its")
        assert [one.status for one in refused] == [400, 400, 400]
        assert len(model.calls) == calls


@pytest.mark.parametrize("path", ["/ratings", "/ratings/batches"])
async def test_verdicts_on_criteria_replaced_meanwhile_are_kept(
    api: Api, model: ScriptedModel, path: str
) -> None:
    """They are of the old criteria, and give way to verdicts by the new ones, whichever is last."""
    await prepare(api)
    await api.generate(1, [1])
    new = {"prompt_template_id": 1, "delete_existing": True}

    async def rated(*, meanwhile: bool) -> list[int]:
        sent = await in_flight(api, model, path, WORK[path])
        gate = model.gate
        made = await api.post("/criteria", {**new, "criteria": [{"criterion_str": "Is it so?"}]})
        if meanwhile:
            model.gate = Event()
            model.gate.set()
            await api.rate([1])
        gate.set()
        answer = (await sent).body
        if path != "/ratings":
            answer = (await api.ended(f"{path}/{answer}"))["result"][0]
        assert [one["criterion"]["id"] for one in answer] == [made[0]["id"] - 1]
        return [one["criterion"]["id"] for one in (await api.get("/responses/1"))["ratings"]]

    assert await rated(meanwhile=False) == [1]
    await api.rate([1])
    assert await rated(meanwhile=True) == [3]


async def test_ratings_stay_with_the_text_that_they_answer(api: Api, model: ScriptedModel) -> None:
    """Another text is another question: its verdicts are to come; another label changes nothing."""
    await prepare(api)
    await api.add_criteria(["Is it short?"])
    await api.generate(1, [1])
    sent = await in_flight(api, model, "/ratings", {"prompt_response_id": 1})
    refused = await api("PUT", "/criteria/1", {"criterion_str": "Is it not?"})
    assert refused.status == 409
    assert "work in flight" in refused.body["detail"]
    model.gate.set()
    assert (await sent).status == 201

    async def edited(body: object) -> list[tuple[int, str]]:
        answer = await api("PUT", "/criteria/1", body)
        assert (answer.status, answer.body["id"]) == (200, 1)
        return await shown()

    async def shown() -> list[tuple[int, str]]:
        criteria = [one["criterion"] for one in (await api.get("/responses/1"))["ratings"]]
        return [(one["id"], one["criterion_str"]) for one in criteria]

    as_rated = [(1, "Is it?"), (2, "Is it short?")]
    assert await edited({"criterion_str": "Is it?", "label": "L"}) == as_rated
    assert await edited({}) == as_rated
    kept = [(2, "Is it short?"), (3, "Is it?")]
    assert await edited({"criterion_str": "Is it not?"}) == kept
    criteria = await api.items("/criteria?prompt_template_id=1")
    assert [(one["id"], one["label"]) for one in criteria] == [(1, "L"), (2, None)]
    refused = await api("PUT", "/criteria/3", {"criterion_str": "Is it not?"})
    assert refused.status == 409
    assert "was replaced" in refused.body["detail"]

    calls = len(model.calls)
    run = await api.post("/experiments/1/retry-failed", {})
    await api.ended(f"/experiments/1/generation/{run['generation_task_id']}")
    assert len(model.calls) == calls + 1
    assert await shown() == [(1, "Is it not?"), (2, "Is it short?")]


@pytest.mark.parametrize(
    ("path", "body", "owner"),
    [
        ("/criteria", {"prompt_template_id": 1, "criteria": None}, "/prompt_templates/1"),
        ("/collections/1/entries", {"prompt_template_id": 1}, "/collections/1"),
    ],
)
async def test_what_a_model_is_making_a_part_of_stays(
    api: Api, model: ScriptedModel, path: str, body: object, owner: str
) -> None:
    """409 while it proposes criteria or invents a row, which are kept where they belong."""
    await api.template()
    await api.post("/collections", {"name": "C"})
    model.verdicts = ['{"criteria": ["Is it a?", "Is it b?", "Is it c?"], "word": "a"}']
    sent = await in_flight(api, model, path, body)
    refused = await api("DELETE", owner)
    assert refused.status == 409
    assert "by work in flight (1 item): wait for its end" in refused.body["detail"]
    model.gate.set()
    assert (await sent).status == 201
    assert (await api("DELETE", owner)).status == 204


async def test_what_is_deleted_with_cascade_is_told_to_who_waits(
    api: Api, model: ScriptedModel
) -> None:
    """404 where the answer has no place any more."""
    await prepare(api)
    await api.generate(1, [1])
    sent = await in_flight(api, model, "/ratings", {"prompt_response_id": 1})
    assert (await api("DELETE", "/criteria/1?cascade=true")).status == 204
    model.gate.set()
    assert (await sent).status == 404


async def test_what_is_deleted_while_it_is_generated_is_not_judged(
    api: Api, model: ScriptedModel
) -> None:
    """Of a run of two rows one is deleted under its call of the model: one verdict is paid for."""
    await api.setup(["a", "b"], criteria=["Is it?"])
    run = await in_flight(api, model, "/experiments/1/run", {})
    await model.reached(2)
    assert (await api("DELETE", "/collections/1/entries/1?cascade=true")).status == 204
    model.gate.set()
    task = (await run).body["generation_task_id"]
    assert (await api.ended(f"/experiments/1/generation/{task}"))["status"] == "SUCCESS"
    assert len(model.calls) == 3


async def test_many_experiments_are_counted(api: Api) -> None:
    """Three are named, the others counted."""
    await prepare(api)
    for number in range(2, 6):
        name = {"name": f"E{number}", "prompt_template_id": 1, "collection_id": 1}
        await api.post("/experiments", name)
        await api.generate(number, [1])
    refused = await api("DELETE", "/prompt_templates/1")
    assert "4 responses with 0 ratings" in refused.body["detail"]
    assert "the experiments 'E2', 'E3', 'E4' and 1 more" in refused.body["detail"]


@pytest.mark.parametrize("how", ["given", "cleared", "proposed"])
async def test_criteria_that_are_replaced_are_kept_for_their_ratings(
    api: Api, model: ScriptedModel, how: str
) -> None:
    """They are asked no more; no rating is lost until the response is rated again."""
    await prepare(api)
    await api.add_criteria(["Is it unrated?"])
    await api.generate(1, [1])
    await api("DELETE", "/criteria/2")
    await api.rate([1])
    await api.add_criteria(["Is it unrated?"])
    new = {"given": [{"criterion_str": "Is it?"}], "cleared": [], "proposed": None}[how]
    body = {"prompt_template_id": 1, "criteria": new, "delete_existing": True}
    if how == "proposed":
        model.verdicts = [json.dumps({"criteria": QUESTIONS})]

    made = await api.post("/criteria", body)

    asked = [one["id"] for one in await api.items("/criteria?prompt_template_id=1")]
    assert asked == [one["id"] for one in made]
    assert not {1, 2, 3}.intersection(asked)
    assert [one["id"] for one in (await api.get("/criterion_sets/1"))["criteria"]] == asked
    assert (await api.get("/criteria/1"))["criterion_str"] == "Is it?"
    assert (await api("GET", "/criteria/3")).status == 404
    # A retry has nothing to do for criteria that are asked no more.
    if how == "cleared":
        retry = await api.post("/experiments/1/retry-failed", {})
        assert retry["generation_task_id"] is None
    (rating,) = (await api.get("/responses/1"))["ratings"]
    assert rating["criterion"]["id"] == 1
    assert (await api.get("/experiments/1"))["results"]["num_rated_responses"] == 1
    if how == "cleared":
        assert (await api("POST", "/ratings", {"prompt_response_id": 1})).status == 400
        return
    await api.rate([1])
    rated = (await api.get("/responses/1"))["ratings"]
    assert [one["criterion"]["id"] for one in rated] == asked


async def test_replaced_criteria_go_where_that_is_said(api: Api) -> None:
    """With ``cascade`` their ratings go along; those replaced before, without it, keep theirs."""
    await prepare(api)
    await api.generate(1, [1])
    await api.rate([1])
    body: dict[str, object] = {"prompt_template_id": 1, "delete_existing": True}
    await api.post("/criteria", {**body, "criteria": [{"criterion_str": "Is it so?"}]})

    async def cleared() -> list[int]:
        assert await api.post("/criteria?cascade=true", {**body, "criteria": []}) == []
        return [one["criterion"]["id"] for one in (await api.get("/responses/1"))["ratings"]]

    assert await cleared() == [1]
    assert (await api("GET", "/criteria/2")).status == 404
    await api.add_criteria(["Is it?"])
    await api.rate([1])
    assert await cleared() == []
    assert (await api("GET", "/criteria/3")).status == 404
