"""Responses: what a model answered to a filled-in prompt."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from elluminate_async.schemas.base import (
    MOST_ITEMS,
    FirstErrorEnds,
    ItemKey,
    ItemsOf,
    ListOf,
    Once,
    WireModel,
    check_one_of,
    without_null,
)
from elluminate_async.schemas.generation_metadata import GenerationMetadata
from elluminate_async.schemas.llm_configs import SAMPLING_WORDS
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.schemas.trajectories import TrajectoryObject


class Message(WireModel):
    """One chat message; keys of other message kinds are kept as extra attributes."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | ListOf[dict[str, Any]] | None = None
    tool_calls: ListOf[dict[str, Any]] | None = None


class Prompt(WireModel):
    """A template filled in with one entry of template variables.

    Attributes:
        messages: The filled-in ones.
        resolved_tools: What the model was given, as of the template.
        resolved_tool_choice: The same.
        resolved_response_format: The same.
        is_stale: Whether the entry was changed since it was filled in.
    """

    id: int
    prompt_template: Once[PromptTemplate | None] = None
    template_variables: TemplateVariables
    messages: ListOf[dict[str, Any]] = []
    created_at: datetime | None = None
    resolved_tools: ListOf[dict[str, Any]] | None = None
    resolved_tool_choice: str | dict[str, Any] | None = None
    resolved_response_format: dict[str, Any] | None = None
    is_stale: bool = False


class PromptResponse(WireModel):
    """One response.

    Attributes:
        messages: The output only, oldest first; empty when generation failed.
        error: Why generation failed; None when it did not.
        epoch: Which repetition of the same variables it is, from 1.
        termination_reason: Why an agent's or a conversation's run ended.
        trajectory: The steps of an agent's run, as the service has them.
        ratings: Its ratings at the time it was read.
        annotation: A note of a person's; empty without one.
    """

    id: int
    prompt: Prompt
    messages: ListOf[Message] = []
    generation_metadata: GenerationMetadata | None = None
    error: str | None = None
    epoch: int = 1
    termination_reason: str | None = None
    ratings: ListOf[Rating] = []
    trajectory: TrajectoryObject | None = None
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
    """One response to generate (``messages`` empty) or to store; every key but the last is sent.

    Attributes:
        prompt_template_id: Read by services up to 0.6; later the experiment decides.
        item_key: Of an item of a batch: within its experiment it is made once, whatever job asks
            for it. Sent where there is one, to services that offer `Capability.ITEM_KEYS`.
    """

    prompt_template_id: int | None = None
    template_variables_id: int
    experiment_id: int
    epoch: int = Field(default=1, ge=1)
    llm_config_id: int | None = None
    messages: ListOf[dict[str, Any]] = []
    metadata: Annotated[GenerationMetadata | None, AfterValidator(readable_metadata)] = None
    item_key: ItemKey | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, serialize: SerializerFunctionWrapHandler):
        # Of no declared type, which would stand for all that is described of the fields.
        return without_null(serialize(self), "item_key")


class ResponseBatchRequest(WireModel):
    """Body of ``POST responses/batches``.

    Attributes:
        retry_failed: Whether responses that are known by their keys, and have failed, are made
            anew under these. Sent where it is true, to services that offer
            `Capability.ITEM_KEYS`.
    """

    prompt_response_ins: ItemsOf[ResponseIn]
    retry_failed: bool = False

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, serialize: SerializerFunctionWrapHandler):
        # Of no declared type, which would stand for all that is described of the fields.
        document = serialize(self)
        if not self.retry_failed:
            document.pop("retry_failed", None)
        return document


class AnnotateRequest(WireModel):
    """Body of ``PATCH responses/{id}``."""

    annotation: str


class SampleSort(StrEnum):
    """Orders of samples: by the mean of their responses' figures, unknown ones last."""

    RATING_ASC = "rating-asc"
    RATING_DESC = "rating-desc"
    INPUT_TOKENS_ASC = "input-tokens-asc"
    INPUT_TOKENS_DESC = "input-tokens-desc"
    OUTPUT_TOKENS_ASC = "output-tokens-asc"
    OUTPUT_TOKENS_DESC = "output-tokens-desc"
    DURATION_ASC = "duration-asc"
    DURATION_DESC = "duration-desc"


class ResponsesSample(WireModel):
    """The responses of one experiment to one row of the collection.

    Attributes:
        prompt_response_ids: In order of creation.
    """

    experiment_id: int
    template_variables_id: int
    prompt_response_ids: ListOf[int]


class Samples(RootModel[Annotated[list[ResponsesSample], FirstErrorEnds(MOST_ITEMS)]]):
    """All samples in one answer, which has no pages."""


class DailyUsage(WireModel):
    """Responses of one day in UTC, and their known tokens."""

    date: date
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class ResponsesStats(WireModel):
    """Usage of some days. Averages are over the responses whose figure is known.

    Attributes:
        average_rating: Share of YES among the ratings, 0 to 1; None without any.
        daily_usage: One entry for each day, oldest first, today's last.
    """

    total_responses: int
    average_duration_seconds: float | None = None
    min_duration_seconds: float | None = None
    max_duration_seconds: float | None = None
    total_input_tokens: int
    total_output_tokens: int
    average_input_tokens: float
    average_output_tokens: float
    average_rating: float | None = None
    daily_usage: ListOf[DailyUsage]
