"""An experiment's failures are done again, and only they; runs and retries are begun once a key."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer, ModelError, OfflineModel
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, edit

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


KEY = {"Idempotency-Key": "run:1"}
WORDS = ["apple", "berry", "cherry", "date", "elder"]
FAST = {"rating_mode": "fast"}


async def done(api: Api, begun: Any) -> Any:
    """The last document of the job that an experiment was answered with."""
    assert begun["generation_task_id"] is not None
    return await api.ended(f"/experiments/{begun['id']}/generation/{begun['generation_task_id']}")


async def ran(api: Api, model: ScriptedModel, failing: list[str], **body: Any) -> list[Any]:
    """The responses of a run in which some words failed; from then on none does."""
    await api.setup(WORDS, criteria=["Is it a word?"])
    model.errors = {word: ModelError("overloaded") for word in failing}
    await done(api, await api.post("/experiments/1/run", {**FAST, **body}))
    model.errors = {}
    model.calls.clear()
    return await api.items("/responses?experiment_id=1")


async def retried(api: Api, **body: Any) -> Any:
    return await done(api, await api.post("/experiments/1/retry-failed", {**FAST, **body}))


def asked(model: ScriptedModel) -> Counter[str]:
    """How often each word was asked to be generated."""
    said = [call for call in model.calls if call.startswith("Say ")]
    return Counter(call.removeprefix("Say ").removesuffix(".") for call in said)


async def test_exactly_what_failed_is_generated_again(api: Api, model: ScriptedModel) -> None:
    """In its place, and rated; the good ones are the same to the last byte, ratings included."""
    before = await ran(api, model, ["berry", "date"], n_epochs=2)
    end = await retried(api)
    after = await api.items("/responses?experiment_id=1")

    assert asked(model) == {"berry": 2, "date": 2}
    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert [one for one in after if one in before] == [one for one in before if not one["error"]]
    assert all(not row["error"] and len(row["ratings"]) == 1 for row in after)
    places = [(row["prompt"]["template_variables"]["id"], row["epoch"]) for row in after]
    assert len(set(places)) == len(places) == 10
    counts = ("completed_responses", "completed_ratings", "total_responses")
    assert [end[name] for name in counts] == [4, 4, 4]
    experiment = await api.get("/experiments/1")
    assert experiment["generation_task_id"] is None
    assert experiment["results"]["num_rated_responses"] == 10
    assert "retry: 4 responses to be generated again, 0 to be rated\n" in experiment["logs"]


async def test_a_missing_verdict_is_asked_for_and_no_other(api: Api, model: ScriptedModel) -> None:
    """A good response whose rating failed is rated, not generated, and keeps what it has."""
    await api.setup(WORDS[:2], criteria=["Is it a word?", "Is it short?"])
    await done(api, await api.post("/experiments/1/run", FAST))
    await edit(api, "DELETE FROM ratings WHERE criterion_id = 2")
    before = await api.items("/responses?experiment_id=1")
    model.calls.clear()
    model.whole.clear()

    end = await retried(api)
    after = await api.items("/responses?experiment_id=1")

    assert not asked(model)
    assert len(model.calls) == end["completed_ratings"] == end["completed_responses"] == 2
    assert all("Is it a word?" not in call for call in model.whole)
    for old, new in zip(before, after, strict=True):
        assert new["messages"] == old["messages"]
        assert [one["id"] for one in new["ratings"]][:1] == [one["id"] for one in old["ratings"]]
        assert len(new["ratings"]) == 2


async def test_criteria_that_came_later_are_not_asked_of_what_is_rated(
    api: Api, model: ScriptedModel
) -> None:
    """Replaced or added: what failed is rated by them, the rest is the same to the last byte."""
    before = await ran(api, model, ["berry"])
    body = {"prompt_template_id": 1, "delete_existing": True}
    await api.post("/criteria", {**body, "criteria": [{"criterion_str": "Is it short?"}]})
    await retried(api)
    after = await api.items("/responses?experiment_id=1")

    assert [one for one in after if one in before] == [one for one in before if not one["error"]]
    assert [one["criterion"]["id"] for row in after for one in row["ratings"]] == [1, 2, 1, 1, 1]
    assert len(model.calls) == 2
    await api.add_criteria(["Is it red?"])
    assert (await api.post("/experiments/1/retry-failed", FAST))["generation_task_id"] is None
    for of_jobs in ("job_criteria", "jobs"):
        await edit(api, f"DELETE FROM {of_jobs}")
        assert (await api.post("/experiments/1/retry-failed", FAST))["generation_task_id"] is None
    assert await api.items("/responses?experiment_id=1") == after


async def test_with_nothing_to_do_no_job_is_made(api: Api, model: ScriptedModel) -> None:
    """The answer says so by the missing task, and no model is asked."""
    await ran(api, model, [])
    answer = await api.post("/experiments/1/retry-failed", FAST)
    assert answer["generation_task_id"] is None
    assert not model.calls
    assert (await api("POST", "/experiments/99/retry-failed", FAST)).status == 404


async def test_what_fails_again_has_the_later_error_and_may_be_retried(
    api: Api, model: ScriptedModel
) -> None:
    """One response to each place at any time, whatever becomes of the retry."""
    before = await ran(api, model, ["berry"])
    model.errors = {"berry": ModelError("refused")}
    assert (await retried(api))["status"] == "FAILURE"
    (failed,) = [one for one in await api.items("/responses?experiment_id=1") if one["error"]]
    assert "refused" in failed["error"]
    model.errors = {}
    assert (await retried(api))["status"] == "SUCCESS"
    assert len(await api.items("/responses?experiment_id=1")) == len(before)


async def test_annotations_are_lost_only_by_leave(api: Api, model: ScriptedModel) -> None:
    """Of a failed response: 409 that names it; with ``discard_annotations`` it is gone."""
    rows = await ran(api, model, ["berry"])
    for number in (0, 1):
        path = f"/responses/{rows[number]['id']}"
        await api("PATCH", path, {"annotation": "mine"})
        assert (await api.get(path))["annotation"] == "mine"
    refused = await api("POST", "/experiments/1/retry-failed", FAST)
    assert refused.status == 409
    assert f"failed responses {rows[1]['id']} would be lost" in refused.body["detail"]
    assert not model.calls
    await retried(api, discard_annotations=True)
    after = await api.items("/responses?experiment_id=1")
    assert [row["annotation"] for row in after] == ["mine", "", "", "", ""]


async def test_no_annotation_goes_over_to_a_successor(api: Api, model: ScriptedModel) -> None:
    """While it is being made: 409 for the failed response, and for no other."""
    good, bad, *_ = await ran(api, model, ["berry"])
    model.gate.clear()
    begun = await api.post("/experiments/1/retry-failed", FAST)
    await model.reached(1)
    refused = await api("PATCH", f"/responses/{bad['id']}", {"annotation": "it failed"})
    assert refused.status == 409
    assert begun["generation_task_id"] in refused.body["detail"]
    await api("PATCH", f"/responses/{good['id']}", {"annotation": "mine"})
    model.gate.set()
    await done(api, begun)
    path = f"/responses/{bad['id']}"
    assert (await api.get(path))["annotation"] == ""
    assert (await api("PATCH", path, {"annotation": "better"})).body["annotation"] == "better"
    assert (await api.get(f"/responses/{good['id']}"))["annotation"] == "mine"


async def test_a_retry_waits_for_nobody_and_goes_beside_nobody(
    api: Api, model: ScriptedModel
) -> None:
    """While a job works on the experiment or on what is to be retried, it is 409, with its task."""
    rows = await ran(api, model, ["berry"])
    model.gate.clear()
    first = await api.post("/experiments/1/retry-failed", FAST)
    second = await api("POST", "/experiments/1/retry-failed", FAST)
    assert second.status == 409
    assert first["generation_task_id"] in second.body["detail"]
    model.gate.set()
    await done(api, first)
    await edit(api, "DELETE FROM ratings")
    model.gate.clear()
    task = await api.post("/ratings/batches", {"prompt_response_ids": [rows[0]["id"]]})
    third = await api("POST", "/experiments/1/retry-failed", FAST)
    assert third.status == 409
    assert task in third.body["detail"]
    model.gate.set()


async def test_a_retry_asks_no_verdict_that_a_single_call_is_asking(
    api: Api, model: ScriptedModel
) -> None:
    """409 that names the response, until that call is answered; then there is nothing to retry."""
    rows = await ran(api, model, [])
    await edit(api, "DELETE FROM ratings WHERE response_id = 2")
    model.gate.clear()
    single = asyncio.create_task(api("POST", "/ratings", {"prompt_response_id": rows[1]["id"]}))
    await model.reached(1)
    refused = await api("POST", "/experiments/1/retry-failed", FAST)
    assert refused.status == 409
    assert "response 2 is being rated by a single call" in refused.body["detail"]
    model.gate.set()
    assert (await single).status == 201
    assert (await api.post("/experiments/1/retry-failed", FAST))["generation_task_id"] is None
    assert len(model.calls) == 1


async def test_nobody_rates_what_a_retry_is_rating(api: Api, model: ScriptedModel) -> None:
    """409 with its task, for a batch and for one alone; the others can be rated meanwhile."""
    rows = await ran(api, model, [])
    await edit(api, "DELETE FROM ratings WHERE response_id <= 2")
    model.gate.clear()
    begun = await api.post("/experiments/1/retry-failed", FAST)
    await model.reached(2)
    ids = [row["id"] for row in rows]
    for path, body in (
        ("/ratings/batches", {"prompt_response_ids": ids[1:]}),
        ("/ratings", {"prompt_response_id": ids[0]}),
    ):
        refused = await api("POST", path, body)
        assert refused.status == 409
        assert begun["generation_task_id"] in refused.body["detail"]
    await api.post("/ratings/batches", {"prompt_response_ids": ids[2:]})
    model.gate.set()
    await done(api, begun)
    await api.rate(ids)
    assert len(model.calls) == 2 + 3 + 5


async def test_a_cancelled_retry_leaves_the_failures_as_they_were(
    api: Api, model: ScriptedModel
) -> None:
    """Nothing is lost by it: what was not made again failed, as before."""
    before = await ran(api, model, ["berry", "date"])
    model.gate.clear()
    begun = await api.post("/experiments/1/retry-failed", FAST)
    await model.reached(2)
    path = f"/experiments/1/generation/{begun['generation_task_id']}"
    assert (await api("DELETE", path)).status == 204
    assert await api.items("/responses?experiment_id=1") == before


async def test_a_cancelled_run_is_gone_on_with_by_a_retry(api: Api, model: ScriptedModel) -> None:
    """The rest of the run is failed, so that each place has its one response in the end."""
    await api.setup(WORDS, criteria=["Is it a word?"])
    model.gate.clear()
    begun = await api.post("/experiments/1/run", FAST)
    await model.reached(5)
    await api("DELETE", f"/experiments/1/generation/{begun['generation_task_id']}")
    rows = await api.items("/responses?experiment_id=1")
    assert [row["error"] for row in rows] == [
        "the run was cancelled before this response was generated"
    ] * 5
    model.gate.set()
    assert (await retried(api))["status"] == "SUCCESS"
    after = await api.items("/responses?experiment_id=1")
    assert [row["id"] for row in after] == [row["id"] for row in rows]
    assert all(row["ratings"] for row in after)


async def test_a_restart_goes_on_with_a_retry(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A response made again before the end is not made once more; each other is, in its place."""
    model = ScriptedModel()
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=model, max_model_calls=1) as server:
        api = Api(session, server)
        before = await ran(api, model, WORDS)
        model.calls.clear()
        begun = await api.post("/experiments/1/retry-failed", FAST)
        await model.reached(5)  # two are done, each with its rating
        model.gate.clear()
    first, second = asked(model), ScriptedModel()
    async with LocalServer(db=path, model=second, judge=OfflineModel()) as server:
        api = Api(session, server)
        assert (await done(api, begun))["status"] == "SUCCESS"
        after = await api.items("/responses?experiment_id=1")
    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert all(not row["error"] and len(row["ratings"]) == 1 for row in after)
    both = first + asked(second)
    assert set(both) == set(WORDS)
    assert both.total() - len(WORDS) <= 1  # in flight at the end


async def test_an_earlier_rating_of_a_failed_response_goes_with_it(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It was about another answer: the one that takes its place is rated anew."""
    model = ScriptedModel()
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=model) as server:
        api = Api(session, server)
        (row,) = (await ran(api, model, []))[:1]
        await edit(api, f"UPDATE responses SET error = 'bad' WHERE id = {row['id']}")
        await retried(api)
        after = await api.get(f"/responses/{row['id']}")
    assert asked(model) == {"apple": 1}
    assert len(after["ratings"]) == 1
    assert after["ratings"][0]["id"] != row["ratings"][0]["id"]


@pytest.mark.parametrize("route", ["", "/1/run", "/1/retry-failed"])
async def test_a_repeated_post_gets_the_stored_answer(
    api: Api, model: ScriptedModel, route: str
) -> None:
    """Under its key: the same task, a header that says so, and the work once."""
    body: dict[str, Any] = dict(FAST)
    if route == "/1/run":
        await api.setup(WORDS, criteria=["Is it a word?"])
    else:
        await ran(api, model, WORDS)
    if not route:
        new = {"name": "G", "prompt_template_id": 1, "collection_id": 1, "generate": True}
        body |= new
    first = await api("POST", f"/experiments{route}", body, headers=KEY)
    again = await api("POST", f"/experiments{route}", body, headers=KEY)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    await done(api, first.body)
    late = await api("POST", f"/experiments{route}", body, headers=KEY)
    assert late.body == first.body
    assert asked(model) == dict.fromkeys(WORDS, 1)
    assert (await api("DELETE", f"/experiments{route}", headers=KEY)).status == 204


async def test_a_large_run_is_begun_once_too(api: Api, model: ScriptedModel) -> None:
    """Its rows are made in slices, and a twin gets the answer that was stored with the last."""
    await api.setup(["a", "b"])
    body = {**FAST, "n_epochs": 600}
    first = await api("POST", "/experiments/1/run", body, headers=KEY)
    again = await api("POST", "/experiments/1/run", body, headers=KEY)
    assert (first.status, again.body) == (200, first.body)
    await done(api, first.body)
    assert len(model.calls) == (await api.get("/responses?experiment_id=1"))["count"] == 1_200


async def test_a_run_is_ended_by_its_key(api: Api, model: ScriptedModel) -> None:
    """Who has no answer yet can still say that it is not wanted."""
    await api.setup(WORDS)
    model.gate.clear()
    begun = await api.post("/experiments/1/run", FAST, headers=KEY)
    assert (await api("DELETE", "/experiments/1/run", headers=KEY)).status == 204
    assert (await done(api, begun))["status"] == "REVOKED"
    assert not model.active
