"""Any endpoint that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from elluminate_async.errors import MissingExtraError
from elluminate_async.server.llms.base import BusyError, ModelError
from elluminate_async.server.llms.forms import Form, shaped, traits_of
from elluminate_async.server.llms.pieces import Pieces, arguments_of_call, quoted
from elluminate_async.server.llms.reading import parse_object
from elluminate_async.server.llms.retrying import seconds_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from openai import APIStatusError, AsyncOpenAI, AsyncStream

    from elluminate_async.schemas import LLMConfig
    from elluminate_async.server.llms.addresses import Reach
    from elluminate_async.server.llms.base import JsonSchema, ModelAnswer, ModelRequest
    from elluminate_async.server.llms.forms import Traits

    class _Response(Protocol):
        """The parts of a response that are read here; whose library's it is, varies."""

        @property
        def headers(self) -> Mapping[str, str]: ...

        def aiter_bytes(self) -> AsyncIterator[bytes]: ...


_SAMPLING = (
    "max_tokens",
    "top_p",
    "temperature",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
)
_CONNECT_TIMEOUT = 10.0
_DRAINED_FOR = 0.5
_MOST_BYTES = 16 << 20
_THROTTLED = (429, 529)
_VERSION = re.compile(r"/v\d")
_NO_KEY = "none"  # the library insists on one, local endpoints do not


class OpenAIModel:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        model: The model's name at the endpoint; a request's sampling may name another.
        base_url: The endpoint, with ``/v1`` where it has that; None is OpenAI's own.
        api_key: Its key; never shown.
        reach: How far it may connect, where others have chosen the endpoint; nothing but
            the key above is then sent of this process's own. None is for the operator's
            choice: anywhere, with what variables of the environment add.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._reach = reach
        self._name = model
        self._base_url = base_url
        self._api_key = api_key
        self._client: AsyncOpenAI | None = None

    @property
    def name(self) -> str:
        """The model's name at the endpoint."""
        return self._name

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Ask the endpoint; it answers in pieces where it can.

        Raises:
            BusyError: It did not take the request.
            ModelError: It refused, broke off, or answered with nothing.
        """
        model = (request.sampling.llm_model_name if request.sampling else None) or self._name
        schema = request.json_schema
        own = schema is not None and request.purpose == "generate"
        traits = traits_of(self._base_url, model, own_schema=own)
        arguments = _arguments(request, model)
        if schema is None:
            return await self._ask(request, traits, arguments)
        return await self._ask_for_json(request, schema, traits, arguments)

    async def _ask_for_json(
        self, request: ModelRequest, schema: JsonSchema, traits: Traits, arguments: dict[str, Any]
    ) -> ModelAnswer:
        """Down the ladder of forms to the first that the endpoint takes."""
        first: _StatusError | None = None
        form: Form | None = traits.first_for(schema)
        while form is not None:
            try:
                answer = await self._ask(request, traits, shaped(arguments, form, schema))
            except _StatusError as refusal:
                if not traits.refuses(form, refusal.status, refusal.said):
                    raise first or refusal from None
                first, form = first or refusal, form.next
                continue
            if form is Form.TEXT and traits.calls_tools and not _has_form(answer.text, schema):
                answer, form = await self._by_tool(request, schema, traits, arguments, answer)
            traits.settle(form, self._named(arguments), schema)
            return _as_text(answer, form, schema, request)
        assert first is not None
        raise first

    async def _by_tool(
        self,
        request: ModelRequest,
        schema: JsonSchema,
        traits: Traits,
        arguments: dict[str, Any],
        answer: ModelAnswer,
    ) -> tuple[ModelAnswer, Form]:
        """A tool call that takes the answer, where prose was not in form; else that prose."""
        if Form.TEXT in traits.proven or request.tools:
            return answer, Form.TEXT
        try:
            called = await self._ask(request, traits, shaped(arguments, Form.TOOL, schema))
        except ModelError as error:
            if isinstance(error, BusyError) and not isinstance(error, _StatusError):
                raise
            called = answer
        if arguments_of_call(called) is None:
            traits.calls_tools = False
            return answer, Form.TEXT
        return called, Form.TOOL

    async def _ask(
        self, request: ModelRequest, traits: Traits, arguments: dict[str, Any]
    ) -> ModelAnswer:
        """One question; again where the endpoint says how it wants to be asked."""
        is_ours = "max_tokens" not in arguments and request.max_tokens is not None
        while True:
            sent = dict(arguments)
            traits.bound(sent, request.max_tokens)
            traits.stream(sent)
            try:
                pieces = await self._exchange(sent, request.alive)
            except _StatusError as refusal:
                if not traits.adapts(refusal.status, refusal.said, sent):
                    raise
                continue
            if is_ours and pieces.thought_only and not traits.thinks:
                traits.thinks = True
                continue
            if is_ours and pieces.is_cut and request.purpose == "generate":
                traits.tell_of_cut(self._named(arguments))
            return pieces.answer()

    async def _exchange(self, arguments: dict[str, Any], alive: Callable[[], None]) -> Pieces:
        client = self._connect()
        from openai import APIConnectionError, APIStatusError, Omit, OpenAIError, Timeout

        from elluminate_async.server.llms.outbound import refusal_in

        try:
            # The arguments are what users wrote: the endpoint checks them, not the types.
            create = cast(
                "Callable[..., Awaitable[AsyncStream[object]]]",
                client.with_options(
                    # The server asks again, where that does not pay twice, and keeps the time.
                    max_retries=0,
                    timeout=Timeout(None, connect=_CONNECT_TIMEOUT),
                ).chat.completions.create,
            )
            # Where there is no key, none is sent: some refuse one that they do not know.
            headers = {} if self._api_key else {"Authorization": Omit()}
            stream = await create(**{**arguments, "stream": True, "extra_headers": headers})
            async with stream:
                return await _received(stream.response, alive)
        except APIStatusError as error:
            raise self._refusal(error) from None
        except APIConnectionError as error:
            if refusal := refusal_in(error):
                raise refusal from None
            text = self._blotted(f"{self._shown_url}: {_causes(error)}")
            if _was_not_sent(error):
                raise BusyError(text, reason="away") from None
            raise ModelError(text) from None
        except OpenAIError as error:
            text = self._blotted(f"{type(error).__name__}: {error}")
            raise refusal_in(error) or ModelError(text) from None
        except ModelError:
            raise
        except Exception as error:
            # The library reads the answer through another, whose errors it does not translate
            # while pieces come.
            raise ModelError(
                self._blotted(f"the endpoint broke off: {type(error).__name__}: {error}")
            ) from None

    @property
    def base_url(self) -> str | None:
        """The endpoint; None is OpenAI's own."""
        return self._base_url

    def _named(self, arguments: Mapping[str, Any]) -> str:
        return f"{arguments['model']} at {self._shown_url}"

    @property
    def _shown_url(self) -> str:
        return self._base_url or "OpenAI's own endpoint"

    def _refusal(self, error: APIStatusError) -> _StatusError | BusyError:
        status = error.status_code
        text = self._blotted(f"{type(error).__name__}: {quoted(str(error))}")
        retry_after = seconds_of(error.response.headers)
        if status in _THROTTLED or (status == 503 and retry_after is not None):
            return BusyError(text, retry_after=retry_after)
        if status == 404:
            text = f"{self._not_found()}; {text}"
        return _StatusError(text, status, said=str(error))

    def _not_found(self) -> str:
        hint = "is the URL right, and the model's name?"
        if self._base_url is not None and not _VERSION.search(self._base_url):
            hint = f"is its URL {self._base_url.rstrip('/')}/v1?"
        return f"{self._shown_url} answers 404: {hint}"

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connect(self) -> AsyncOpenAI:
        if self._client is None:
            # Here and not above: the import takes longer than the start of a server.
            try:
                from openai import AsyncOpenAI

                from elluminate_async.server.llms.outbound import endpoint_client, operator_client
            except ImportError:
                raise MissingExtraError("an OpenAI-compatible model", "server") from None

            key = self._api_key or _NO_KEY
            http = (
                operator_client()
                if self._reach is None
                else endpoint_client(self._reach, self._api_key)
            )
            self._client = AsyncOpenAI(base_url=self._base_url, api_key=key, http_client=http)
        return self._client

    def _blotted(self, text: str) -> str:
        # Some endpoints quote the key they refuse.
        return text.replace(self._api_key, "***") if self._api_key else text


class _StatusError(BusyError):
    """The endpoint answered with a status that is no success.

    Attributes:
        said: All that it said, of which the error's text shows the beginning.
    """

    def __init__(self, text: str, status: int, *, said: str) -> None:
        super().__init__(text, reason="failed")
        self.status = status
        self.said = said


def _arguments(request: ModelRequest, model: str) -> dict[str, Any]:
    config = request.sampling
    messages = list(request.messages)
    if config is not None and config.system_message:
        messages.insert(0, {"role": "system", "content": config.system_message})
    arguments: dict[str, Any] = {
        "model": (config.llm_model_name if config else None) or model,
        "messages": messages,
        **_sampling(config),
    }
    if request.tools:
        arguments["tools"] = list(request.tools)
        if request.tool_choice is not None:
            arguments["tool_choice"] = request.tool_choice
    return arguments


def _sampling(config: LLMConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    named = {name: getattr(config, name) for name in _SAMPLING}
    extra = {"top_k": config.top_k, "best_of": config.best_of}
    arguments = {name: value for name, value in named.items() if value is not None}
    if unusual := {name: value for name, value in extra.items() if value is not None}:
        arguments["extra_body"] = unusual
    return arguments


async def _received(response: _Response, alive: Callable[[], None]) -> Pieces:
    """The answer that a response holds: one document, or events until the last."""
    pieces = Pieces()
    if "text/event-stream" not in response.headers.get("content-type", ""):
        body = bytearray()
        async for part in response.aiter_bytes():
            alive()
            body += part
            if len(body) > _MOST_BYTES:
                raise ModelError("the endpoint's answer is too long")
        pieces.add(_document(bytes(body)))
        return pieces
    return await _received_in_pieces(response, pieces, alive)


async def _received_in_pieces(
    response: _Response, pieces: Pieces, alive: Callable[[], None]
) -> Pieces:
    rest = b""
    parts_left = aiter(response.aiter_bytes())
    async for part in parts_left:
        *lines, rest = (rest + part).split(b"\n")
        # What is no data, such as a comment, keeps a connection open and is no piece of an answer.
        for data in (line[5:].strip() for line in lines if line.startswith(b"data:")):
            if not data:
                continue
            alive()
            if data == b"[DONE]":
                await _drained(parts_left)
                return pieces
            try:
                pieces.add(_document(data))
            except ModelError:
                if pieces.is_finished:
                    # The answer is whole, and paid for.
                    return pieces
                raise
        if len(rest) > _MOST_BYTES:
            raise ModelError("a piece of the endpoint's answer is too long")
    if not pieces.is_finished:
        raise ModelError("the endpoint broke off in the middle of its answer")
    return pieces


async def _drained(parts: AsyncIterator[bytes]) -> None:
    # Read to its end the connection can be used again; one that is kept open is not waited for.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_FOR):
            async for _ in parts:
                pass


def _document(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ModelError(
            "the endpoint's answer is no chat completion, nor JSON: is its URL right, /v1 "
            f"included? It begins {quoted(data[:200].decode(errors='replace'))!r}"
        ) from None


def _has_form(text: str, schema: JsonSchema) -> bool:
    keys: list[str] = schema.schema.get("required", [])
    try:
        return set(keys) <= parse_object(text, keys).keys()
    except ValueError:
        return False


def _as_text(
    answer: ModelAnswer, form: Form, schema: JsonSchema, request: ModelRequest
) -> ModelAnswer:
    """The answer with its JSON as its text, by whatever way it came."""
    if form is Form.TOOL:
        text = arguments_of_call(answer)
        return answer if text is None else replace(answer, text=text, tool_calls=None)
    is_bare = form is Form.SCHEMA or request.purpose != "generate"
    if is_bare or not _has_form(answer.text, schema):
        return answer
    found = parse_object(answer.text, schema.schema.get("required", []))
    return replace(answer, text=json.dumps(found, ensure_ascii=False))


def _causes(error: BaseException) -> str:
    cause = error.__cause__
    return f"{error} ({cause})" if cause is not None and str(cause) else str(error)


def _was_not_sent(error: BaseException) -> bool:
    cause = error.__cause__
    # By name, as the library has changed the one that it reads through.
    return type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
