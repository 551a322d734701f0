"""How a model's answer came about."""

from __future__ import annotations

from typing import Annotated, Any

from elluminate_async.schemas.base import KeysOf, Once, WireModel
from elluminate_async.schemas.llm_configs import LLMConfig


class CustomApiInfo(WireModel):
    """How a custom endpoint knows an answer of its own; further keys are kept as they are."""

    provider: str | None = None
    api_request_id: str | None = None
    track_request_url: str | None = None


class GenerationMetadata(WireModel):
    """How a response, or a rating, came about; a figure that is not known is None, never 0.

    Attributes:
        cached_tokens: Those of ``input_tokens`` that the model's endpoint had read before.
        trajectory_ingest_error: Why the service did not take the trajectory that was uploaded
            with the response.
    """

    llm_model_config: Once[LLMConfig | None] = None
    duration_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    custom_api_info: Annotated[dict[str, Any], KeysOf(CustomApiInfo)] | None = None
    trajectory_ingest_error: str | None = None

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Those of the prompt and of the answer; None where one is not known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens, self.output_tokens
