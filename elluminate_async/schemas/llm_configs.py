"""LLM configurations: which model answers, and how it is called."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict, get_args

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
)

from elluminate_async.schemas.base import WireModel, check_one_of

InferenceType: TypeAlias = Literal["openai", "botario", "custom_api"]
"""By which protocol a model is called."""

ReasoningEffort: TypeAlias = Literal["minimal", "low", "medium", "high"]
"""How much a reasoning model thinks."""

Verbosity: TypeAlias = Literal["low", "medium", "high"]
"""How much a model writes."""

SAMPLING_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "inference_type": get_args(InferenceType),
    "reasoning_effort": get_args(ReasoningEffort),
    "verbosity": get_args(Verbosity),
}
"""The words of those fields of `Sampling` that are no free text."""


class Sampling(WireModel):
    """How a model is called, whoever says so."""

    llm_model_name: str | None = None
    description: str = ""
    llm_base_url: str | None = None
    api_version: str | None = None
    max_connections: int = 10
    inference_type: str = "openai"
    max_retries: int | None = None
    timeout: int | None = None
    system_message: str | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    best_of: int | None = None
    top_k: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    custom_api_config: dict[str, Any] | None = None
    custom_response_parser: str | None = None
    input_price_per_mtok: float | None = None
    output_price_per_mtok: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, serialize: SerializerFunctionWrapHandler):
        # Of no declared type, which would stand for all that is described of the fields.
        # Fields of the embedded server's that the hosted service need not know.
        document: dict[str, Any] = serialize(self)
        for name in ("requests_per_minute", "tokens_per_minute"):
            if document.get(name) is None:
                document.pop(name, None)
        return document


def _word_of(field: str) -> AfterValidator:
    def check(value: str | None) -> str | None:
        check_one_of(value, SAMPLING_WORDS[field], field)
        return value

    return AfterValidator(check)


class CheckedSampling(Sampling):
    """`Sampling` that is sent: its words are known, its numbers in bounds."""

    max_connections: Annotated[int, Field(ge=1)] = 10
    inference_type: Annotated[str, _word_of("inference_type")] = "openai"
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    reasoning_effort: Annotated[str | None, _word_of("reasoning_effort")] = None
    verbosity: Annotated[str | None, _word_of("verbosity")] = None


class LLMConfigFields(TypedDict, total=False):
    """The fields of a configuration but name and model, as `llm_configs.create` takes them."""

    description: str
    llm_base_url: str | None
    api_version: str | None
    max_connections: int
    inference_type: InferenceType
    max_retries: int | None
    timeout: int | None
    system_message: str | None
    max_tokens: int | None
    top_p: float | None
    temperature: float | None
    best_of: int | None
    top_k: int | None
    logprobs: bool | None
    top_logprobs: int | None
    reasoning_effort: ReasoningEffort | None
    verbosity: Verbosity | None
    custom_api_config: dict[str, Any] | None
    custom_response_parser: str | None
    input_price_per_mtok: float | None
    output_price_per_mtok: float | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    api_key: str | SecretStr | None


class LLMConfig(Sampling):
    """A stored configuration. Its API key is write-only and never comes back."""

    id: int | None = None
    name: str | None = None
    api_key: None = None

    @field_validator("api_key", mode="before")
    @classmethod
    def _drop(cls, _value: object) -> None:
        # Metadata of an uploaded response may embed a configuration with its key.
        return None


class CreateLLMConfigRequest(CheckedSampling):
    """Body of ``POST llm_configs``; nulls are sent.

    Attributes:
        api_key: Key of the model's endpoint; hidden in `repr`, sent in the body.
    """

    name: str
    api_key: SecretStr | None = None
    input_price_per_mtok: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    output_price_per_mtok: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @field_serializer("api_key", when_used="json-unless-none")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()
