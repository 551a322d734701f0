"""Calls of models: when they are made again, what they wait for, and who else is served."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.responses import Response, StreamingResponse

from elluminate_async import AsyncClient, BatchOptions, InputError
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, OpenAIModel
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch
from tests.server.endpoint import completion, refusal, running_endpoint, streamed
from tests.server.program import environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import aiohttp

    from tests.matrix import Fired
    from tests.server.endpoint import Endpoint


RUNNING = ("PENDING", "STARTED")


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Own:
    """A server with an experiment whose configuration names an endpoint."""

    def __init__(self, api: Api, endpoint_url: str, **config: Any) -> None:
        self.api = api
        self._config = {"name": "own", "llm_base_url": endpoint_url, **config}

    async def generate(self, words: list[str]) -> Any:
        made = await self.api.post("/llm_configs", {"llm_model_name": "m", **self._config})
        await self.api.template()
        variables = [{"word": word} for word in words]
        collection = await self.api.post("/collections", {"name": "C", "variables": variables})
        body = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
        await self.api.post("/experiments", {**body, "llm_config_id": made["id"]})
        entries = [one["id"] for one in collection["variables"]]
        task = await self.api.post("/responses/batches", batch(1, entries))
        # Looked at seldom: hours of virtual time then cost next to nothing.
        status = await self.api.get(f"/responses/batches/{task}")
        while status["status"] in RUNNING:
            await asyncio.sleep(1)
            status = await self.api.get(f"/responses/batches/{task}")
        return status


def texts(status: Any) -> list[str]:
    return [one["messages"][0]["content"] for one in status["result"] if one["messages"]]


async def test_an_endpoint_that_says_too_much_is_left_alone_and_asked_again(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """After a 429 nobody is asked until `Retry-After` is over; then all are answered."""
    refusals = iter([refusal(429, "slow down", retry_after="10")])
    endpoint.reply = lambda _body: next(refusals, None) or completion("fine")
    async with LocalServer() as server:
        status = await Own(Api(session, server), endpoint.url, max_connections=1).generate(
            ["a", "b", "c"]
        )
    assert texts(status) == ["fine"] * 3
    assert len(endpoint.requests) == 4
    assert endpoint.at[1] - endpoint.at[0] >= 10


async def test_an_endpoint_that_asks_for_a_day_is_not_waited_for(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Nor is it asked by each item: all fail, with how long it wants to be left alone."""
    endpoint.reply = lambda _body: refusal(429, "quota", retry_after="86400")
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, max_connections=1)
        status = await own.generate([str(number) for number in range(20)])
    assert len(status["item_failures"]) == 20
    assert "left alone for 86" in status["item_failures"][-1]["message"]
    assert len(endpoint.requests) == 1


async def test_an_endpoint_that_starts_late_is_waited_for(session: aiohttp.ClientSession) -> None:
    """A refused connection pays for nothing: it is tried again until somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with LocalServer() as server:
        own = Own(Api(session, server), f"http://127.0.0.1:{port}/v1")
        job = asyncio.create_task(own.generate(["a"]))
        await asyncio.sleep(3)
        async with running_endpoint(port) as endpoint:
            status = await job
    assert texts(status) == ["SAY A."]
    assert len(endpoint.requests) == 1


async def test_an_endpoint_that_is_not_there_is_not_waited_for_by_each_item(
    session: aiohttp.ClientSession,
) -> None:
    """Fifty items, one at a time, fail within the patience of one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with LocalServer() as server:
        own = Own(Api(session, server), f"http://127.0.0.1:{port}/v1", max_connections=1)
        started = time.monotonic()
        status = await own.generate([str(number) for number in range(50)])
        seconds = time.monotonic() - started
    assert len(status["item_failures"]) == 50
    assert 10 <= seconds < 40


@pytest.mark.parametrize(("max_retries", "requests"), [(None, 1), (2, 3)])
async def test_a_fault_that_may_have_been_paid_for_is_repeated_on_demand_only(
    endpoint: Endpoint,
    session: aiohttp.ClientSession,
    max_retries: int | None,
    requests: int,
) -> None:
    """A plain 500 is the item's own error, unless its configuration says how often to try."""
    endpoint.reply = lambda _body: refusal(500, "out of memory")
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, max_retries=max_retries)
        status = await own.generate(["a"])
    assert "out of memory" in status["item_failures"][0]["message"]
    assert len(endpoint.requests) == requests


async def test_a_call_that_timed_out_is_not_made_again(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A slow model is asked once and paid once; the item says how long it had."""
    endpoint.delay = 1000
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, timeout=4, max_retries=3)
        started = time.monotonic()
        status = await own.generate(["a"])
        seconds = time.monotonic() - started
    assert "no answer within 4 s" in status["item_failures"][0]["message"]
    assert len(endpoint.requests) == 1
    assert 4 <= seconds < 8


async def test_a_call_that_may_have_been_paid_for_is_not_made_again(
    session: aiohttp.ClientSession,
) -> None:
    """A connection that breaks after the request was read is the item's own error."""
    asked = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, LocalServer() as server:
        status = await Own(Api(session, server), f"http://127.0.0.1:{port}/v1").generate(["a"])
    assert f"http://127.0.0.1:{port}/v1" in status["item_failures"][0]["message"]
    assert asked == 1


async def test_pieces_keep_a_slow_model_alive(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Ten pieces, each within the timeout, are one answer, whatever they take together."""
    endpoint.reply = lambda _body: streamed(*"abcdefghij", seconds=3)
    async with LocalServer() as server:
        status = await Own(Api(session, server), endpoint.url, timeout=4).generate(["a"])
    (response,) = status["result"]
    assert response["messages"][0]["content"] == "abcdefghij"
    assert response["generation_metadata"]["input_tokens"] == 5
    assert response["generation_metadata"]["output_tokens"] == 10
    assert endpoint.requests[0]["stream"] is True


async def test_a_model_whose_own_work_is_cancelled_fails_that_item(
    session: aiohttp.ClientSession,
) -> None:
    """Such as by a task of its own that was ended: the job goes on, and the others have theirs."""

    class Cancelled(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelAnswer:
            if "b" in request.messages[-1]["content"]:
                raise asyncio.CancelledError
            return ModelAnswer("fine")

    async with LocalServer(model=Cancelled()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b", "c"])
        status = await api.generate(experiment, entries)
    assert status["status"] == "SUCCESS"
    (failure,) = status["item_failures"]
    assert failure["index"] == 1
    assert failure["message"] == "the model's own work was cancelled"


class Halt(BaseException):
    """No `Exception`, as what a test framework ends a test by."""


class Raising(ScriptedModel):
    """Raises for prompts, or verdicts on answers, that have "b" in them."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        if "b" in request.messages[-1]["content"]:
            raise self._error
        return await super().complete(request)


@pytest.mark.parametrize(
    "error",
    [Halt("enough"), BaseExceptionGroup("some", [Halt("enough")]), GeneratorExit("enough")],
    ids=["alone", "group", "of a generator"],
)
async def test_a_model_that_raises_what_is_no_exception_fails_that_item(
    session: aiohttp.ClientSession, error: BaseException
) -> None:
    """Its job ends, and the others have their answers."""
    async with LocalServer(model=Raising(error)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b", "c"])
        status = await api.generate(experiment, entries)
        proposed = await api("POST", "/prompt_templates", {
            "name": "b", "messages": [{"role": "user", "content": "b"}]
        })  # fmt: skip
        path = {"prompt_template_id": proposed.body["id"], "criteria": None}
        refused = await api("POST", "/criteria", path)
    assert status["status"] == "SUCCESS"
    (failure,) = status["item_failures"]
    assert failure["index"] == 1
    assert failure["message"].startswith(f"{type(error).__name__}: ")
    assert texts(status) == ["SAY A.", "SAY C."]
    assert refused.status == 424


@pytest.mark.parametrize(("error", "code"), [("SystemExit(7)", 7), ("KeyboardInterrupt()", -2)])
def test_a_model_that_ends_the_process_ends_it(tmp_path: Path, error: str, code: int) -> None:
    """An exit is none of an item's errors, and the job is there for the next start."""
    db = tmp_path / "s.db"
    program = f"""
import asyncio, aiohttp
from elluminate_async.server import LocalServer
from tests.server.api import Api, batch
from tests.server.test_server_calls import Raising

async def main():
    server = LocalServer(db={str(db)!r}, model=Raising({error}))
    async with server, aiohttp.ClientSession() as session:
        api = Api(session, server)
        await api.generate(*await api.setup(["b"]))

asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False, capture_output=True, env=environment(), timeout=300,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    with closing(sqlite3.connect(db)) as raw:
        assert raw.execute("SELECT processed FROM jobs").fetchone() == (0,)


async def test_a_model_that_falls_silent_has_failed(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """The time between pieces is bounded; half an answer is none."""
    endpoint.reply = lambda _body: streamed("half", ends=False)
    async with LocalServer() as server:
        status = await Own(Api(session, server), endpoint.url, timeout=4).generate(["a"])
    assert status["result"][0]["messages"] == []
    assert "nothing more of the answer within 4 s" in status["item_failures"][0]["message"]


async def test_an_endpoint_that_cannot_stream_is_asked_for_the_whole(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """What it refuses of that is left out, and remembered."""

    def reply(body: dict[str, Any]) -> Response:
        if "stream_options" in body:
            return refusal(400, "unknown parameter: stream_options")
        return refusal(422, "stream is not supported") if body.get("stream") else completion("fine")

    endpoint.reply = reply
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, max_connections=1)
        assert texts(await own.generate(["a", "b"])) == ["fine", "fine"]
    assert len(endpoint.requests) == 4


async def test_calls_at_once_all_learn_that_an_endpoint_cannot_stream(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Those that were sent before the first refusal came are asked for the whole as well."""
    endpoint.delay = 1.0
    endpoint.reply = lambda body: (
        refusal(400, "stream is not supported") if body.get("stream") else completion("fine")
    )
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, max_connections=5)
        status = await own.generate([str(number) for number in range(20)])
    assert texts(status) == ["fine"] * 20


async def test_comments_do_not_keep_a_model_alive(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A stream that only says that it is there has not answered within the timeout."""

    async def comments() -> AsyncGenerator[str]:
        while True:
            yield ": ping\n\n"
            await asyncio.sleep(1)

    endpoint.reply = lambda _body: StreamingResponse(comments(), media_type="text/event-stream")
    async with LocalServer() as server:
        status = await Own(Api(session, server), endpoint.url, timeout=4).generate(["a"])
    assert "no answer within 4 s" in status["item_failures"][0]["message"]


async def test_a_bad_event_after_the_end_costs_no_answer(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """What was said to have ended is whole, and paid for."""
    ends = {"choices": [{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(ends)}\n\ndata: {{oops\n\n"
    endpoint.reply = lambda _body: Response(body, media_type="text/event-stream")
    async with LocalServer() as server:
        assert texts(await Own(Api(session, server), endpoint.url).generate(["a"])) == ["fine"]


async def test_an_answer_that_is_cut_is_told_of_once(
    endpoint: Endpoint, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as it is, and the log says by what it was cut and what to set."""
    body = json.loads(bytes(completion("fine, and").body))
    body["choices"][0]["finish_reason"] = "length"
    endpoint.reply = lambda _body: Response(json.dumps(body), media_type="application/json")
    async with LocalServer() as server:
        status = await Own(Api(session, server), endpoint.url).generate(["a", "b"])
    assert texts(status) == ["fine, and"] * 2
    assert [record.getMessage().count("set max_tokens") for record in caplog.records] == [1]


async def test_without_a_key_none_is_sent(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Not even a stand-in, which an endpoint may refuse."""
    async with LocalServer() as server:
        assert texts(await Own(Api(session, server), endpoint.url).generate(["a"])) == ["SAY A."]
    assert endpoint.keys == [None]


async def test_a_configuration_s_key_goes_through_the_client(endpoint: Endpoint) -> None:
    """`llm_configs.create` takes it, and the endpoint gets it."""
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        config = await client.llm_configs.create(
            "own", "m", llm_base_url=endpoint.url, api_key="sk-given"
        )
        template, _ = await client.prompt_templates.get_or_create("{{word}}", name="T")
        collection, _ = await client.collections.get_or_create(name="C")
        rows = await client.template_variables.add_many([{"word": "a"}], collection=collection)
        experiment = await client.experiments.create(
            "E", prompt_template=template, collection=collection, llm_config=config
        )
        responses = await client.responses.generate_many(
            experiment=experiment, template_variables=rows
        )
        assert [row.response_str for row in responses] == ["A"]
    assert endpoint.keys == ["Bearer sk-given"]


async def test_a_key_that_is_no_text_is_refused_without_showing_it() -> None:
    """Half a character in it is named by its place."""
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        with pytest.raises(InputError, match="api_key has half a character") as caught:
            await client.llm_configs.create("own", "m", api_key="sk-secret\ud800")
    assert "sk-secret" not in str(caught.value)


async def test_a_configuration_has_its_connections(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """No more calls at once than it allows, though the server would take more."""
    endpoint.holds_after = 0
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, max_connections=3)
        job = asyncio.create_task(own.generate([str(number) for number in range(20)]))
        await endpoint.reached(3)
        await asyncio.sleep(5)
        assert len(endpoint.requests) == 3
        endpoint.released.set()
        assert len(texts(await job)) == 20


async def test_requests_of_a_configuration_are_inside_every_minute(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Requests at 10 a minute: in no window of a minute more than ten."""
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, requests_per_minute=10)
        assert len(texts(await own.generate([str(number) for number in range(13)]))) == 13
    at = endpoint.at
    assert all(later - earlier >= 59.9 for earlier, later in zip(at, at[10:], strict=False))


async def test_tokens_are_estimated_first_and_counted_as_told_afterwards(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A model that tells 1,000 tokens a call is called three times in any minute of 3,000."""
    usage = {"prompt_tokens": 10, "completion_tokens": 990, "total_tokens": 1000}
    body = json.loads(bytes(completion("fine").body))
    endpoint.reply = lambda _body: Response(
        json.dumps({**body, "usage": usage}), media_type="application/json"
    )
    async with LocalServer() as server:
        own = Own(Api(session, server), endpoint.url, tokens_per_minute=3000, max_connections=1)
        assert len(texts(await own.generate([str(number) for number in range(6)]))) == 6
    at = endpoint.at
    assert all(later - earlier >= 59.9 for earlier, later in zip(at, at[3:], strict=False))
    assert at[-1] - at[0] < 180


@pytest.mark.row(138)
async def test_an_endpoint_that_hangs_leaves_permits_for_the_others(
    endpoint: Endpoint, session: aiohttp.ClientSession, fired: Fired
) -> None:
    """A configuration with all connections there are, none of which answers: the rest goes on."""
    endpoint.holds_after = 0
    model = ScriptedModel()
    async with LocalServer(model=model, max_model_calls=4) as server:
        api = Api(session, server)
        own = Own(api, endpoint.url, max_connections=64)
        job = asyncio.create_task(own.generate([str(number) for number in range(20)]))
        await endpoint.reached(3)
        body = {"name": "F", "prompt_template_id": 1, "collection_id": 1}
        other = await api.post("/experiments", body)
        entries = [one["id"] for one in await api.items("/collections/1/entries")]
        async with asyncio.timeout(30):
            status = await api.generate(other["id"], entries)
        assert len(texts(status)) == 20
        assert len(endpoint.requests) == 3
        fired()
        endpoint.released.set()
        assert len(texts(await job)) == 20


@pytest.mark.row(138)
async def test_several_endpoints_that_hang_leave_permits_for_the_others(
    endpoint: Endpoint, session: aiohttp.ClientSession, fired: Fired
) -> None:
    """Each takes what it can, and the server's own model answers all the same."""
    endpoint.holds_after = 0
    async with (
        running_endpoint() as second,
        LocalServer(model=ScriptedModel(), max_model_calls=8) as server,
    ):
        second.holds_after = 0
        api = Api(session, server)
        first = Own(api, endpoint.url, max_connections=64)
        jobs = [asyncio.create_task(first.generate([str(number) for number in range(20)]))]
        await endpoint.reached(7)
        made = await api.post(
            "/llm_configs",
            {"name": "2", "llm_model_name": "m", "llm_base_url": second.url, "max_connections": 9},
        )
        entries = [one["id"] for one in await api.items("/collections/1/entries")]
        body = {"prompt_template_id": 1, "collection_id": 1}
        hanging = await api.post("/experiments", {**body, "name": "F", "llm_config_id": made["id"]})
        jobs.append(asyncio.create_task(api.generate(hanging["id"], entries)))
        other = await api.post("/experiments", {**body, "name": "G"})
        async with asyncio.timeout(30):
            assert len(texts(await api.generate(other["id"], entries))) == 20
        fired()
        endpoint.released.set()
        second.released.set()
        for job in jobs:
            assert len(texts(await job)) == 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", 10**9),
        ("timeout", 0),
        ("timeout", -1),
        ("max_connections", 0),
        ("max_retries", -1),
        ("requests_per_minute", 0),
        ("tokens_per_minute", 0),
    ],
)
async def test_a_bound_that_bounds_nothing_is_refused(api: Api, field: str, value: int) -> None:
    """A configuration is checked when it is given, and the answer names the field."""
    answer = await api("POST", "/llm_configs", {"name": "x", "llm_model_name": "m", field: value})
    assert answer.status == 422
    assert field in json.dumps(answer.body)


async def test_criteria_have_the_time_of_the_call(session: aiohttp.ClientSession) -> None:
    """A model that takes longer than an attempt may proposes criteria all the same."""

    class Slow(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelAnswer:
            await asyncio.sleep(20)
            questions = ["Is it red?", "Is it blue?", "Is it green?"]
            return ModelAnswer(json.dumps({"criteria": questions}))

    options = BatchOptions(attempt_timeout=5)
    async with (
        LocalServer(model=Slow()) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{word}}.", name="T")
        criteria, new = await client.criteria.get_or_generate_many(template)
    assert new
    assert len(criteria) == 3


@pytest.mark.parametrize(
    ("path", "hint"), [("", "/v1?"), ("/v1/chat/completions", "is the URL right")]
)
async def test_a_wrong_url_is_named(endpoint: Endpoint, path: str, hint: str) -> None:
    """A 404 says which URL answered it, and "/v1?" where that is missing."""
    base = endpoint.url.removesuffix("/v1") + path
    model = OpenAIModel("m", base_url=base)
    with pytest.raises(Exception, match="404") as caught:
        await model.complete(ModelRequest([{"role": "user", "content": "hi"}]))
    await model.aclose()
    assert base in str(caught.value)
    assert hint in str(caught.value)


async def test_configurations_of_the_offline_model_differ(api: Api) -> None:
    """Its answers follow from the configuration's name and temperature too."""
    async with LocalServer() as server:
        api = Api(api.session, server)
        await api.template()
        collection = await api.post("/collections", {"name": "C", "variables": [{"word": "a b c"}]})
        entry = collection["variables"][0]["id"]
        told: list[str] = []
        for number, fields in enumerate(
            [
                {"name": "small", "llm_model_name": "x"},
                {"name": "large", "llm_model_name": "x"},
                {"name": "hot", "llm_model_name": "x", "temperature": 1.5},
            ]
        ):
            config = await api.post("/llm_configs", fields)
            body = {"name": f"E{number}", "prompt_template_id": 1, "collection_id": 1}
            made = await api.post("/experiments", {**body, "llm_config_id": config["id"]})
            first = texts(await api.generate(made["id"], [entry]))
            assert first == texts(await api.generate(made["id"], [entry]))
            told += first
    assert len(set(told)) == 3
