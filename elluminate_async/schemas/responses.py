"""Responses: what a model answered to a filled-in prompt."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from elluminate_async.schemas.base import ItemsOf, ListOf, Once, WireModel, check_one_of
from elluminate_async.schemas.llm_configs import SAMPLING_WORDS, LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.template_variables import TemplateVariables


class Message(WireModel):
    """One chat message; keys of other message kinds are kept as extra attributes."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | ListOf[dict[str, Any]] | None = None
    tool_calls: ListOf[dict[str, Any]] | None = None


class GenerationMetadata(WireModel):
    """How a response came about; a figure that is not known is None, never 0.

    Attributes:
        trajectory_ingest_error: Why the trajectory that was uploaded with it was not taken.
    """

    llm_model_config: Once[LLMConfig | None] = None
    duration_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    custom_api_info: dict[str, Any] | None = None
    trajectory_ingest_error: str | None = None

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Those of the prompt and of the answer; None where one is not known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens, self.output_tokens


class Prompt(WireModel):
    """A template filled in with one entry of template variables."""

    id: int
    prompt_template: Once[PromptTemplate | None] = None
    template_variables: TemplateVariables
    messages: ListOf[dict[str, Any]] = []
    created_at: datetime | None = None


class PromptResponse(WireModel):
    """One response.

    Attributes:
        messages: The output only, oldest first; empty when generation failed.
        error: Why generation failed; None when it did not.
        epoch: Which repetition of the same variables it is, from 1.
        termination_reason: Why an agent's run ended.
        trajectory: The steps of an agent's run.
        ratings: Its ratings at the time it was read.
    """

    id: int
    prompt: Prompt
    messages: ListOf[Message] = []
    generation_metadata: GenerationMetadata | None = None
    error: str | None = None
    epoch: int = 1
    termination_reason: str | None = None
    trajectory: dict[str, Any] | None = None
    ratings: ListOf[Rating] = []
    annotation: str = ""
    created_at: datetime | None = None

    @property
    def response_str(self) -> str:
        """Text of the last assistant message; empty when there is none."""
        for message in reversed(self.messages):
            if message.role == "assistant":
                if isinstance(message.content, str):
                    return message.content
                return "".join(str(part.get("text", "")) for part in message.content or [])
        return ""


def readable_metadata(metadata: GenerationMetadata | None) -> GenerationMetadata | None:
    """Raise `ValueError` for metadata that readers of the response would stumble over."""
    if metadata is None:
        return None
    for field, words in SAMPLING_WORDS.items():
        value = getattr(metadata.llm_model_config, field, None)
        check_one_of(value, words, f"llm_model_config.{field}")
    info = metadata.custom_api_info
    if info is not None:
        texts = {key: info.get(key) for key in ("api_request_id", "track_request_url")}
        texts["provider"] = info.get("provider", 0)
        for key, value in texts.items():
            if not isinstance(value, str) and (value is not None or key == "provider"):
                raise ValueError(f"custom_api_info.{key} must be a text, not {value!r:.60}")
    return metadata


class ResponseIn(WireModel):
    """One response to generate (``messages`` empty) or to store; every key is sent.

    Attributes:
        prompt_template_id: Read by services up to 0.6; later the experiment decides.
    """

    prompt_template_id: int | None = None
    template_variables_id: int
    experiment_id: int
    epoch: int = Field(default=1, ge=1)
    llm_config_id: int | None = None
    messages: ListOf[dict[str, Any]] = []
    metadata: Annotated[GenerationMetadata | None, AfterValidator(readable_metadata)] = None


class ResponseBatchRequest(WireModel):
    """Body of ``POST responses/batches``."""

    prompt_response_ins: ItemsOf[ResponseIn]


class AnnotateRequest(WireModel):
    """Body of ``PATCH responses/{id}``."""

    annotation: str
