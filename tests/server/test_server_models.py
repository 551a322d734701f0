"""The OpenAI-compatible model, against a small endpoint that speaks the protocol."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.responses import JSONResponse

from elluminate_async import AsyncClient, ConfigurationError
from elluminate_async.schemas import LLMConfig
from elluminate_async.server import LocalServer, ModelAnswer, ModelError, ModelRequest, OpenAIModel
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import QUESTIONS, Api, flow
from tests.server.endpoint import completion, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    import aiohttp

    from tests.server.endpoint import Endpoint


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.fixture
async def openai_model(endpoint: Endpoint) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel("m", base_url=endpoint.url, api_key="sk-canary")
    yield model
    await model.aclose()


async def test_prompt_and_sampling_arrive(endpoint: Endpoint, openai_model: OpenAIModel) -> None:
    """Messages, system message and sampling are sent; usage comes back."""
    sampling = LLMConfig(llm_model_name="other", temperature=0.5, system_message="Be brief.")
    messages = [{"role": "user", "content": "hi"}]
    answer = await openai_model.complete(ModelRequest(messages, sampling=sampling))
    assert answer.text == "HI"
    assert (answer.input_tokens, answer.output_tokens, answer.reasoning_tokens) == (3, 4, None)
    (sent,) = endpoint.requests
    assert sent["model"] == "other"
    assert sent["temperature"] == 0.5
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert "top_p" not in sent
    assert endpoint.keys == ["Bearer sk-canary"]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (refusal(401, "bad key sk-canary"), "AuthenticationError"),
        (refusal(400, "too long"), "too long"),
        (completion(None), "answered with nothing"),
        (completion(None, refusal="I will not"), "refused: I will not"),
        (JSONResponse({"id": "1", "choices": None}), "holds no message"),
    ],
)
async def test_failures_are_model_errors_without_the_key(
    endpoint: Endpoint, openai_model: OpenAIModel, reply: JSONResponse, text: str
) -> None:
    """Whatever the endpoint does is a ModelError that says what, and no key."""
    endpoint.reply = lambda _body: reply
    with pytest.raises(ModelError, match=text) as caught:
        await openai_model.complete(ModelRequest([{"role": "user", "content": "hi"}]))
    assert "sk-canary" not in str(caught.value)


async def test_retries_are_the_configuration_s(
    endpoint: Endpoint, openai_model: OpenAIModel
) -> None:
    """max_retries of 0 means one request."""
    endpoint.reply = lambda _body: refusal(503, "busy")
    request = ModelRequest([{"role": "user", "content": "hi"}], sampling=LLMConfig(max_retries=0))
    with pytest.raises(ModelError, match="busy"):
        await openai_model.complete(request)
    assert len(endpoint.requests) == 1


async def test_nobody_there() -> None:
    """An endpoint that cannot be reached is a ModelError."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    model = OpenAIModel("m", base_url=f"http://127.0.0.1:{port}/v1")
    request = ModelRequest([{"role": "user", "content": "hi"}], sampling=LLMConfig(max_retries=0))
    with pytest.raises(ModelError, match="Connection"):
        await model.complete(request)
    await model.aclose()


async def test_tool_calls_are_kept(endpoint: Endpoint, openai_model: OpenAIModel) -> None:
    """An answer that calls a tool instead of speaking is an answer."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    endpoint.reply = lambda _body: completion(None, tool_calls=[call])
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = ModelRequest([{"role": "user", "content": "hi"}], tools=tools, tool_choice="auto")
    answer = await openai_model.complete(request)
    assert answer.tool_calls is not None
    assert answer.tool_calls[0]["function"]["name"] == "f"
    assert endpoint.requests[0]["tools"] == tools


async def test_whole_flow(
    endpoint: Endpoint, openai_model: OpenAIModel, session: aiohttp.ClientSession
) -> None:
    """Criteria, responses and verdicts come from the endpoint, prose around JSON allowed."""

    def reply(body: dict[str, Any]) -> JSONResponse:
        form = body.get("response_format")
        if form is None:
            return completion(body["messages"][-1]["content"].upper())
        properties = form["json_schema"]["schema"]["properties"]
        if "criteria" in properties:
            return completion(f"Sure:\n```json\n{json.dumps({'criteria': QUESTIONS})}\n```")
        verdicts = {key: {"verdict": "NO", "reasoning": "because"} for key in properties}
        return completion(f"Here you are: {json.dumps(verdicts)}")

    endpoint.reply = reply
    async with LocalServer(model=openai_model) as server:
        ratings = await flow(Api(session, server), "detailed")
    assert ratings[0]["rating"] == "NO"
    assert ratings[0]["reasoning"] == "because"


async def test_experiment_with_its_own_endpoint(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A configuration that names an endpoint is asked there, with its own key."""
    async with LocalServer() as server:
        api = Api(session, server)
        config = {
            "name": "own",
            "llm_model_name": "big",
            "llm_base_url": endpoint.url,
            "api_key": "sk-own",
        }
        made = await api.post("/llm_configs", config)
        await api.template()
        await api.post("/collections", {"name": "C", "variables": [{"word": "a"}]})
        body = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
        params = {"temperature": 0.3}
        await api.post(
            "/experiments",
            {**body, "llm_config_id": made["id"], "generation_params": params},
        )
        status = await api.generate(1, [1])
    assert status["result"][0]["messages"][0]["content"] == "SAY A."
    assert status["result"][0]["generation_metadata"]["llm_model_config"]["name"] == "own"
    assert endpoint.keys == ["Bearer sk-own"]
    assert (endpoint.requests[0]["model"], endpoint.requests[0]["temperature"]) == ("big", 0.3)


class _Nameless:
    async def complete(self, request: ModelRequest) -> ModelAnswer:
        return ModelAnswer(text="x")


class _Mute:
    name = "mute"


class _Yielding:
    name = "yielding"

    async def complete(self, request: ModelRequest) -> AsyncIterator[ModelAnswer]:
        yield ModelAnswer(text="x")


@pytest.mark.parametrize("argument", ["model", "judge"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (_Nameless(), "this _Nameless does not have a name"),
        (_Mute(), r"this _Mute does not have the method `async def complete\("),
        (object(), "does not have a name, .* and the method"),
        (_Yielding(), "a `complete` that returns one ModelAnswer"),
        (OpenAIModel, "is the class OpenAIModel: pass an object of it"),
    ],
    ids=["name", "complete", "both", "yields", "class"],
)
def test_what_is_no_model_is_refused_at_once(argument: str, given: Any, text: str) -> None:
    """By the argument, with what is missing, before anything is opened."""
    with pytest.raises(ConfigurationError, match=f"^{argument} .*{text}"):
        LocalServer(**{argument: given})


async def test_a_model_that_is_not_async_is_told_so(session: aiohttp.ClientSession) -> None:
    """By the item's error, which says what to write instead."""

    class Plain:
        name = "plain"

        def complete(self, request: ModelRequest) -> ModelAnswer:
            return ModelAnswer(text="x")

    model: Any = Plain()
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        status = await api.generate(experiment, entries)
    said = status["item_failures"][0]["message"]
    assert "this Plain returned a ModelAnswer that cannot be awaited" in said
    assert "async def complete(self, request)" in said


async def test_a_model_may_return_what_can_be_awaited(session: aiohttp.ClientSession) -> None:
    """A plain function that hands on another's coroutine is as good as an async one."""

    class Handing:
        name = "handing"

        def complete(self, request: ModelRequest) -> Awaitable[ModelAnswer]:
            return _Nameless().complete(request)

    model: Any = Handing()
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        status = await api.generate(experiment, entries)
    assert status["result"][0]["messages"][0]["content"] == "x"


async def test_a_server_shows_where_it_listens_and_no_key() -> None:
    """Its repr is its address, once it has one."""
    server = LocalServer(api_key="canary")
    assert repr(server) == "<LocalServer not entered>"
    async with server:
        assert repr(server) == f"<LocalServer {server.url}>"
    assert "canary" not in repr(server)


async def test_a_model_is_any_object_that_answers() -> None:
    """A name and `complete` are all that a server asks of one that it does not close."""

    class Least(_Nameless):
        name = "least"

    async with (
        LocalServer(model=Least()) as server,  # type: ignore[arg-type]
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("{{x}}", name="T")
        collection, _ = await client.collections.get_or_create("C")
        rows = await client.template_variables.add_many([{"x": "a"}], collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        batch = await client.responses.generate_many(template_variables=rows, experiment=experiment)
    assert batch[0].response_str == "x"
