"""Any endpoint that speaks the OpenAI chat protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from elluminate_async.errors import MissingExtraError
from elluminate_async.server.models.base import ModelAnswer, ModelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from openai import AsyncOpenAI, OpenAIError
    from openai.types.chat import ChatCompletion

    from elluminate_async.schemas import LLMConfig
    from elluminate_async.server.models.addresses import Reach
    from elluminate_async.server.models.base import ModelRequest

_SAMPLING = (
    "max_tokens",
    "top_p",
    "temperature",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
)
_DEFAULT_MAX_RETRIES = 2
_DEFAULT_TIMEOUT = 120.0
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
        """Ask the endpoint.

        Raises:
            ModelError: It did not answer, refused, or answered with nothing.
        """
        client = self._connect()
        from openai import OpenAIError

        from elluminate_async.server.models.outbound import refusal_in

        config = request.sampling
        retries = config.max_retries if config else None
        try:
            # The arguments are what users wrote: the endpoint checks them, not the types.
            create = cast(
                "Callable[..., Awaitable[ChatCompletion]]",
                client.with_options(
                    max_retries=_DEFAULT_MAX_RETRIES if retries is None else retries,
                    timeout=(config.timeout if config else None) or _DEFAULT_TIMEOUT,
                ).chat.completions.create,
            )
            completion = await create(**_arguments(request, self._name))
        except OpenAIError as error:
            raise refusal_in(error) or ModelError(self._explain(error)) from None
        try:
            return _answer(completion)
        except (AttributeError, TypeError):
            # The library takes any JSON, and a text too, for what was asked for.
            raise ModelError(
                "the endpoint's answer is no chat completion: is its URL right, /v1 included?"
            ) from None

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

                from elluminate_async.server.models.outbound import (
                    endpoint_client,
                    operator_client,
                )
            except ImportError:
                raise MissingExtraError("an OpenAI-compatible model", "server") from None

            key = self._api_key or _NO_KEY
            http = operator_client() if self._reach is None else endpoint_client(self._reach, key)
            self._client = AsyncOpenAI(base_url=self._base_url, api_key=key, http_client=http)
        return self._client

    def _explain(self, error: OpenAIError) -> str:
        text = f"{type(error).__name__}: {error}"
        # Some endpoints quote the key they refuse.
        return text.replace(self._api_key, "***") if self._api_key else text


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
    if request.json_schema is not None:
        arguments["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": request.json_schema.name,
                "schema": request.json_schema.schema,
                "strict": True,
            },
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


def _answer(completion: ChatCompletion) -> ModelAnswer:
    # An endpoint is free to leave out what the library's types promise.
    choices = cast("list[Any] | None", completion.choices)
    message = choices[0].message if choices else None
    if message is None:
        raise ModelError("the endpoint's answer holds no message")
    if refusal := getattr(message, "refusal", None):
        raise ModelError(f"the model refused: {refusal}")
    calls = [call.model_dump(mode="json") for call in message.tool_calls or ()]
    if not message.content and not calls:
        raise ModelError("the model answered with nothing")
    usage = completion.usage
    output = usage.completion_tokens_details if usage else None
    prompt = usage.prompt_tokens_details if usage else None
    return ModelAnswer(
        text=message.content or "",
        tool_calls=calls or None,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        reasoning_tokens=output.reasoning_tokens if output else None,
        cached_tokens=prompt.cached_tokens if prompt else None,
    )
