"""Batches, experiments and ratings over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from elluminate_async.server import LocalServer, ModelAnswer, ModelError, WireProfile
from elluminate_async.server.llms.base import text_of
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch, keep_none_of

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from elluminate_async.server import ModelRequest


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_results_come_in_the_order_of_the_items(api: Api) -> None:
    """The terminal document has one response an item, and the listing the same order."""
    experiment, entries = await api.setup(["a", "b", "c"])
    status = await api.generate(experiment, [entries[2], entries[0], entries[1], entries[0]])
    texts = [one["messages"][-1]["content"] for one in status["result"]]
    assert texts == ["SAY C.", "SAY A.", "SAY B.", "SAY A."]
    assert status["status"] == "SUCCESS"
    assert status["progress"] == {"processed": 4, "total": 4, "failed": 0}
    listed = await api.items(f"/responses?experiment_id={experiment}")
    assert [one["id"] for one in listed] == [one["id"] for one in status["result"]]


async def test_event_framing(api: Api, model: ScriptedModel) -> None:
    """Each event is one data line and a blank one; the first comes at once, PENDING or STARTED."""
    experiment, entries = await api.setup(["a"])
    model.gate.clear()
    task = await api.post("/responses/batches", batch(experiment, entries))
    url = api.url(f"/responses/batches/{task}/stream?polling_interval=0.1")
    async with api.session.get(url, headers=api.headers) as response:
        first = await response.content.readuntil(b"\n\n")
        second = await response.content.readuntil(b"\n\n")
        model.gate.set()
        rest = await response.content.read()
    assert json.loads(first.removeprefix(b"data: "))["status"] in ("PENDING", "STARTED")
    assert json.loads(second.removeprefix(b"data: "))["status"] == "STARTED"
    *_, last, end = rest.split(b"\n\n")
    assert end == b""
    assert b"\n" not in last
    assert json.loads(last.removeprefix(b"data: "))["status"] == "SUCCESS"


async def test_late_stream_gets_the_end_at_once(api: Api) -> None:
    """A stream opened after the end has one event, the terminal one."""
    experiment, entries = await api.setup(["a"])
    task = await api.post("/responses/batches", batch(experiment, entries))
    await api.ended(f"/responses/batches/{task}")
    started = time.monotonic()
    text = await api.stream(f"/responses/batches/{task}/stream")
    assert time.monotonic() - started < 0.3
    assert text.count(b"data: ") == 1


async def test_end_is_not_held_back(api: Api) -> None:
    """The terminal event does not wait for the polling interval."""
    experiment, entries = await api.setup(["a"])
    started = time.monotonic()
    task = await api.post("/responses/batches", batch(experiment, entries))
    await api.stream(f"/responses/batches/{task}/stream?polling_interval=10")
    assert time.monotonic() - started < 1


async def test_empty_batch_is_null(api: Api) -> None:
    """A batch of nothing starts nothing."""
    assert await api.post("/responses/batches", {"prompt_response_ins": []}) is None
    assert await api.post("/ratings/batches", {"prompt_response_ids": []}) is None


async def test_a_stream_whose_job_is_deleted_ends(
    api: Api, model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a terminal event, and without a fault in the log."""
    experiment, entries = await api.setup(["a"])
    model.gate.clear()
    task = await api.post("/responses/batches", batch(experiment, entries))
    path = f"/responses/batches/{task}/stream?polling_interval=0.1"
    async with api.session.get(api.url(path), headers=api.headers) as stream:
        assert stream.status == 200
        await model.reached(1)
        assert (await api("DELETE", f"/experiments/{experiment}")).status == 204
        model.gate.set()
        assert b"SUCCESS" not in await stream.read()
    assert not [record for record in caplog.records if record.exc_info]


async def test_unknown_task_is_404(api: Api) -> None:
    """A task nobody knows is 404, polled or streamed; so is one of the other kind."""
    experiment, entries = await api.setup(["a"])
    task = await api.post("/responses/batches", batch(experiment, entries))
    assert (await api("GET", "/responses/batches/none")).status == 404
    assert (await api("GET", "/responses/batches/none/stream")).status == 404
    assert (await api("GET", f"/ratings/batches/{task}")).status == 404


async def test_bad_item_refuses_the_whole_batch(api: Api) -> None:
    """One unknown reference is 404 that names it, and no row is made."""
    experiment, entries = await api.setup(["a"])
    answer = await api("POST", "/responses/batches", batch(experiment, [*entries, 77]))
    assert answer.status == 404
    assert "77" in answer.body["detail"]
    assert await api.items("/responses") == []


async def test_failed_item_is_a_row_with_an_error(api: Api, model: ScriptedModel) -> None:
    """A model that fails for one prompt costs one item: its row holds the error."""
    experiment, entries = await api.setup(["a", "b"])
    model.errors["Say b."] = TimeoutError("no answer in 30 s")
    status = await api.generate(experiment, entries)
    assert status["status"] == "SUCCESS"
    assert "1 of 2" in status["error_msg"]
    assert status["result"][1]["error"] == "TimeoutError: no answer in 30 s"
    assert status["result"][1]["messages"] == []
    assert status["item_failures"] == [
        {"index": 1, "code": "generation_failed", "message": "TimeoutError: no answer in 30 s"}
    ]


async def test_half_of_a_character_costs_nobody_anything(session: aiohttp.ClientSession) -> None:
    """What no file can hold of an answer becomes U+FFFD, and its neighbours are kept."""

    class Torn(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelAnswer:
            prompt, odd = text_of(request.messages[-1]), [{"x": float("nan")}]
            if "b" in prompt:
                call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
                return ModelAnswer("torn: \ud83d", tool_calls=[{"id": "\ud83d", "ü": 1, **call}])
            return ModelAnswer("fine", tool_calls=odd if "c" in prompt else None)

    async with LocalServer(model=Torn()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["x", "b", "c"])
        x, b, c = (await api.generate(experiment, entries))["result"]
    assert x["messages"][0]["content"] == "fine"
    assert b["messages"][0]["content"] == "torn: \ufffd"
    (call,) = b["messages"][0]["tool_calls"]
    assert (call["id"], call["ü"], call["function"]["name"]) == ("\ufffd", 1, "f")
    assert "not JSON compliant" in c["error"]


async def test_batch_fails_when_all_items_do(api: Api, model: ScriptedModel) -> None:
    """FAILURE with a text, and the rows are there all the same."""
    experiment, entries = await api.setup(["a"])
    model.errors["Say"] = ModelError("the endpoint is gone")
    status = await api.generate(experiment, entries)
    assert status["status"] == "FAILURE"
    assert "the endpoint is gone" in status["error_msg"]
    assert len(await api.items("/responses")) == 1


async def test_deleted_experiment_has_no_job(api: Api, model: ScriptedModel) -> None:
    """The status of a job is 404 as soon as its experiment is deleted, also while it runs."""
    experiment, _ = await api.setup(["a"])
    model.gate.clear()
    await api.post(f"/experiments/{experiment}/run", {})
    task = (await api.get(f"/experiments/{experiment}"))["generation_task_id"]
    await model.reached(1)
    path = f"/experiments/{experiment}/generation/{task}"
    assert (await api.get(path))["status"] == "STARTED"
    await api("DELETE", f"/experiments/{experiment}")
    assert (await api("GET", path)).status == 404
    assert (await api("GET", f"{path}/stream")).status == 404


async def test_failed_job_stays_failed(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """An answer that cannot be kept ends its job; those that come meanwhile do not revive it."""

    class Staggered(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelAnswer:
            number = int(text_of(request.messages[-1]).split()[1].rstrip("."))
            await asyncio.sleep(number * 0.002)
            return ModelAnswer("fine", input_tokens=77 if number == 3 else 1)

    async with LocalServer(db=tmp_path / "s.db", model=Staggered()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([str(number) for number in range(60)])
        keep_none_of(tmp_path / "s.db", input_tokens=77)
        task = await api.post("/responses/batches", batch(experiment, entries))
        assert (await api.ended(f"/responses/batches/{task}"))["status"] == "FAILURE"
        await asyncio.sleep(0.1)
        assert (await api.get(f"/responses/batches/{task}"))["status"] == "FAILURE"


async def test_stored_responses(api: Api, model: ScriptedModel) -> None:
    """Items with messages are stored as given; an embedded key is dropped."""
    experiment, entries = await api.setup(["a"])
    body = batch(experiment, entries)
    body["prompt_response_ins"][0] |= {
        "messages": [{"role": "assistant", "content": "mine"}],
        "metadata": {"llm_model_config": {"llm_model_name": "m", "api_key": "sk-canary"}},
    }
    task = await api.post("/responses/batches", body)
    status = await api.ended(f"/responses/batches/{task}")
    assert status["result"][0]["messages"][0]["content"] == "mine"
    assert "sk-canary" not in json.dumps(status)
    assert model.calls == []


async def test_single_response(api: Api) -> None:
    """POST responses generates without messages and stores with them; generate generates."""
    experiment, entries = await api.setup(["a"])
    (item,) = batch(experiment, entries)["prompt_response_ins"]
    assert (await api.post("/responses", item))["messages"][0]["content"] == "SAY A."
    assert (await api.post("/responses/generate", item))["messages"][0]["content"] == "SAY A."
    item["messages"] = [{"role": "assistant", "content": "mine"}]
    stored = await api.post("/responses", item)
    assert stored["messages"][0]["content"] == "mine"
    path = f"/responses/{stored['id']}"
    assert (await api("PATCH", path, {"annotation": "fine"})).body["annotation"] == "fine"
    assert (await api("DELETE", path)).status == 204
    assert len(await api.items("/responses")) == 2


async def test_filters(api: Api) -> None:
    """Listings are limited by what the query names, words for none left out of account."""
    experiment, entries = await api.setup(["a", "b"])
    await api.generate(experiment, entries)

    async def ids(query: str) -> list[int]:
        return [one["id"] for one in await api.items(f"/responses?{query}")]

    assert await ids(f"template_variables_id={entries[1]}&epoch=None") == [2]
    assert await ids("response_ids=2&response_ids=1&response_ids=9") == [1, 2]
    assert await ids("input_tokens_min=1&input_tokens_max=1") == [1, 2]
    assert await ids("input_tokens_min=2") == []
    assert await ids("llm_model_name=scripted&collection_id=1&prompt_template_id=1") == [1, 2]


async def test_long_request_line(api: Api) -> None:
    """Forty thousand ids in the query are read."""
    experiment, entries = await api.setup(["a"])
    await api.generate(experiment, entries)
    query = "&".join(f"response_ids={number}" for number in range(1, 40_001))
    assert len(await api.items(f"/responses?{query}")) == 1


async def test_ratings_belong_to_their_responses(api: Api, model: ScriptedModel) -> None:
    """Result i is the list of ratings of item i, one a criterion, repeated items included."""
    experiment, entries = await api.setup(["a", "b"], criteria=["x?", "y?"])
    await api.generate(experiment, entries)
    calls = len(model.calls)
    status = await api.rate([2, 1, 2])
    assert [len(ratings) for ratings in status["result"]] == [2, 2, 2]
    assert status["result"][0] == status["result"][2]
    assert len(model.calls) - calls == 2
    listed = await api.items("/responses?response_ids=1&response_ids=2")
    assert [one["ratings"] for one in listed] == [status["result"][1], status["result"][0]]
    assert status["result"][0][0]["reasoning"] == "so"


async def test_rating_again_takes_the_place(api: Api) -> None:
    """A second rating supersedes the first; the first job's result stays what it was."""
    experiment, entries = await api.setup(["a"], criteria=["x?"])
    await api.generate(experiment, entries)
    body = {"prompt_response_ids": [1], "rating_mode": "detailed"}
    first = await api.post("/ratings/batches", body)
    before = await api.ended(f"/ratings/batches/{first}")
    after = await api.rate([1])
    assert before["result"][0][0]["id"] != after["result"][0][0]["id"]
    assert await api.items("/ratings?prompt_response_id=1") == after["result"][0]
    assert (await api.get(f"/ratings/batches/{first}"))["result"] == before["result"]
    assert before["result"][0][0]["reasoning"] == "so"


async def test_judge_failure_is_not_a_no(api: Api, model: ScriptedModel) -> None:
    """A judge that fails twice leaves no rating, and a failure that says why."""
    experiment, entries = await api.setup(["a"], criteria=["x?"])
    await api.generate(experiment, entries)
    model.verdicts = [ModelError("down"), "no idea"]
    status = await api.rate([1])
    assert status["result"] == [[]]
    assert status["status"] == "FAILURE"
    assert status["item_failures"][0]["code"] == "rating_failed"
    assert await api.items("/ratings?prompt_response_id=1") == []


async def test_judge_is_asked_once_more_for_what_is_missing(api: Api, model: ScriptedModel) -> None:
    """Verdicts that came are kept; what is neither YES nor NO counts as missing."""
    experiment, entries = await api.setup(["a"], criteria=["x?", "y?"])
    await api.generate(experiment, entries)
    partly = json.dumps({"criterion_1": {"verdict": "NO"}, "criterion_2": {"verdict": "MAYBE"}})
    model.verdicts = [partly]
    status = await api.rate([1])
    assert [one["rating"] for one in status["result"][0]] == ["NO", "YES"]
    model.verdicts = [partly, "{}"]
    status = await api.rate([1])
    assert [one["rating"] for one in status["result"][0]] == ["NO"]
    assert "1 of 2 criteria" in status["item_failures"][0]["message"]


async def test_failed_response_is_not_judged(api: Api, model: ScriptedModel) -> None:
    """Where there is no answer, the judge is not asked."""
    experiment, entries = await api.setup(["a", "b"], criteria=["x?"])
    model.errors["Say b."] = ModelError("no")
    await api.generate(experiment, entries)
    calls = len(model.calls)
    status = await api.rate([1, 2])
    assert len(model.calls) - calls == 1
    assert [len(ratings) for ratings in status["result"]] == [1, 0]
    assert [one["index"] for one in status["item_failures"]] == [1]


async def test_rating_needs_criteria(api: Api) -> None:
    """Without criteria, rating is refused: one with 400, a batch as a whole."""
    experiment, entries = await api.setup(["a"])
    await api.generate(experiment, entries)
    assert (await api("POST", "/ratings", {"prompt_response_id": 1})).status == 400
    assert (await api("POST", "/ratings/batches", {"prompt_response_ids": [1]})).status == 400
    assert (await api("POST", "/ratings/batches", {"prompt_response_ids": [9]})).status == 404


async def test_rating_one(api: Api, model: ScriptedModel) -> None:
    """A single rating answers with the list; a failing judge is 424, not a NO."""
    experiment, entries = await api.setup(["a"], criteria=["x?"])
    await api.generate(experiment, entries)
    (rating,) = await api.post("/ratings", {"prompt_response_id": 1, "rating_mode": "detailed"})
    assert (rating["rating"], rating["reasoning"]) == ("YES", "so")
    model.verdicts = ["?", "?"]
    assert (await api("POST", "/ratings", {"prompt_response_id": 1})).status == 424


async def test_experiment_generates_and_rates(api: Api) -> None:
    """An experiment with generate runs entries times epochs, and ends with results."""
    await api.setup(["a", "b"], criteria=["x?"])
    body = {"name": "G", "prompt_template_id": 1, "collection_id": 1}
    made = await api.post("/experiments", {**body, "generate": True, "n_epochs": 2})
    path = f"/experiments/{made['id']}/generation/{made['generation_task_id']}"
    end = await api.ended(path)
    assert end["status"] == "SUCCESS"
    counts = ("completed_responses", "completed_ratings", "total_responses")
    assert [end[name] for name in counts] == [4, 4, 4]
    # A poll between the last row and the job's end takes the last line with it.
    assert end["logs_delta"] is None or "4 of 4" in end["logs_delta"]
    experiment = await api.get(f"/experiments/{made['id']}")
    assert experiment["results"]["mean_all_ratings"] == {"yes": 1, "no": 0}
    assert experiment["results"]["num_rated_responses"] == 4
    assert experiment["generation_task_id"] is None
    listed = await api.items(f"/responses?experiment_id={made['id']}")
    assert [one["epoch"] for one in listed] == [1, 2, 1, 2]
    assert (await api("POST", "/experiments", {**body})).status == 409
    assert (await api("POST", f"/experiments/{made['id']}/run", {})).status == 400


async def test_experiment_is_run_later(api: Api) -> None:
    """An experiment made without generate is run by its own endpoint; without criteria too."""
    experiment, _ = await api.setup(["a"])
    started = await api.post(f"/experiments/{experiment}/run", {"rating_mode": "fast"})
    task = started["generation_task_id"]
    assert (await api.ended(f"/experiments/{experiment}/generation/{task}"))["status"] == "SUCCESS"
    assert (await api.items("/experiments?experiment_name=E"))[0]["results"] is None
    assert await api.items("/experiments?experiment_name=unknown") == []
    assert (await api("DELETE", f"/experiments/{experiment}")).status == 204
    assert await api.items("/responses") == []


async def test_unknown_means_by_client(api: Api, model: ScriptedModel) -> None:
    """A mean that is not known is null, and 0 for clients that cannot read null."""
    experiment, entries = await api.setup(["a"], criteria=["x?"])
    await api.generate(experiment, entries)
    await api.rate([1])
    results = (await api.get(f"/experiments/{experiment}"))["results"]
    assert results["mean_reasoning_tokens"] is None
    answer = await api("GET", f"/experiments/{experiment}", headers={"SDK-Version": "1.0.6"})
    assert answer.body["results"]["mean_reasoning_tokens"] == 0


async def test_pages_are_full(session: aiohttp.ClientSession) -> None:
    """Every page but the last has the page size, and count is the total."""
    async with LocalServer(profile=WireProfile(page_size=2)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(list("abcde"))
        await api.generate(experiment, entries)
        pages = [await api.get(f"/responses?page={number}") for number in (1, 2, 3)]
        assert [len(page["items"]) for page in pages] == [2, 2, 1]
        assert {page["count"] for page in pages} == {5}
        assert [one["id"] for page in pages for one in page["items"]] == [1, 2, 3, 4, 5]


async def test_hosted_profile(session: aiohttp.ClientSession) -> None:
    """As the hosted service: no capabilities, a bare status, a shuffled but stable listing."""
    profile = WireProfile.hosted(page_size=4, listing_seed=7)
    async with LocalServer(profile=profile) as server:
        api = Api(session, server)
        answer = await api.post("//version/compatible", {"current_sdk_version": "1.5.2"})
        assert "capabilities" not in answer
        experiment, entries = await api.setup(list("abcdefgh"))
        body = batch(experiment, entries)
        key = {"Idempotency-Key": "k"}
        first = await api.post("/responses/batches", body, headers=key)
        assert set(await api.ended(f"/responses/batches/{first}")) == {"status", "error_msg"}
        assert await api.post("/responses/batches", body, headers=key) != first
        query = "&".join(f"response_ids={number}" for number in range(1, 9))
        seen = [
            one["id"]
            for number in (1, 2)
            for one in await api.items(f"/responses?{query}&page={number}")
        ]
        assert sorted(seen) == list(range(1, 9))
        assert seen != sorted(seen)


async def test_model_calls_are_bounded(session: aiohttp.ClientSession) -> None:
    """No more than max_model_calls are in flight, over all jobs."""
    model = ScriptedModel()
    async with LocalServer(model=model, max_model_calls=3) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([str(number) for number in range(20)])
        await asyncio.gather(*(api.generate(experiment, entries) for _ in range(3)))
    assert len(model.calls) == 60
    assert model.most_active == 3


async def test_offline_model_judges_alike(session: aiohttp.ClientSession) -> None:
    """The offline judge's verdicts follow from response and criterion, not from the call."""
    async with LocalServer() as server:
        api = Api(session, server)
        words = [str(number) for number in range(30)]
        experiment, entries = await api.setup(words, criteria=["x?", "y?"])
        status = await api.generate(experiment, entries)
        texts = {one["messages"][0]["content"] for one in status["result"]}
        assert len(texts) == 30
        assert all(text.startswith("[offline model, no LLM was called] ") for text in texts)
        ids = [one["id"] for one in status["result"]]

        async def verdicts() -> list[str]:
            rated = (await api.rate(ids, "detailed"))["result"]
            assert all("offline" in one["reasoning"] for ratings in rated for one in ratings)
            return [one["rating"] for ratings in rated for one in ratings]

        first = await verdicts()
        assert first == await verdicts()
        assert 0.4 < first.count("YES") / len(first) < 0.95
