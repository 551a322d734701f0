"""`EventObserver`: an event for each rating, and for each response with its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

from opentelemetry._logs import SeverityNumber

from elluminate_async.integrations.opentelemetry.metrics import PROVIDER
from elluminate_async.schemas import PromptResponse, Rating
from elluminate_async.telemetry import ObservedCall, ObservedChunk, Observer, Rated, Telemetry

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.util.types import AnyValue

_SCORES: Final = {"YES": 1.0, "NO": 0.0}


class EventObserver(Observer):
    """Emits the events of what a chunk, or a single call, brought; within its span.

    Args:
        logger: Emits them.
        ratings: Whether there is one for each rating.
        capture_content: Whether there is one for each response, with its messages, and ratings
            have the judge's reasons.
    """

    def __init__(self, logger: Logger, *, ratings: bool, capture_content: bool) -> None:
        self._logger = logger
        self._ratings = ratings
        self._captures = capture_content
        self._telemetries = WeakSet[Telemetry]()

    def subscribed(self, telemetry: Telemetry) -> None:
        """Blot its credential, too."""
        self._telemetries.add(telemetry)

    def outcomes(
        self,
        of: ObservedChunk | ObservedCall,
        outcomes: Sequence[tuple[int, object]],
        rated: Rated,
    ) -> None:
        """Of what this run has had made: not of what an earlier one had."""
        if isinstance(of, ObservedChunk) and of.kind == "fetched":
            return
        for position, outcome in outcomes:
            if isinstance(outcome, PromptResponse):
                if self._captures:
                    self._emit_response(position, outcome)
            elif self._ratings and isinstance(outcome, list):
                for rating in cast("list[Any]", outcome):
                    if isinstance(rating, Rating):
                        self._emit_rating(position, rating, rated(position))

    def _emit_rating(self, position: int, rating: Rating, response_id: int | None) -> None:
        criterion, verdict = rating.criterion, str(rating.rating)
        attributes: dict[str, AnyValue] = {
            "gen_ai.evaluation.name": self._blotted(criterion.label or criterion.criterion_str),
            "gen_ai.evaluation.score.label": self._blotted(verdict),
            "elluminate.rating.id": rating.id,
            "elluminate.criterion.id": criterion.id,
            "elluminate.position": position,
        }
        if response_id is not None:
            attributes["gen_ai.response.id"] = str(response_id)
        if verdict in _SCORES:
            attributes["gen_ai.evaluation.score.value"] = _SCORES[verdict]
        if self._captures and rating.reasoning:
            attributes["gen_ai.evaluation.explanation"] = self._blotted(rating.reasoning)
        self._emit("gen_ai.evaluation.result", SeverityNumber.INFO, attributes)

    def _emit_response(self, position: int, response: PromptResponse) -> None:
        attributes: dict[str, AnyValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.response.id": str(response.id),
            "gen_ai.input.messages": self._messages(response.prompt.messages),
            "gen_ai.output.messages": self._messages(
                [message.model_dump() for message in response.messages]
            ),
            "elluminate.position": position,
        }
        metadata = response.generation_metadata
        if metadata is not None:
            config = metadata.llm_model_config
            if config is not None and config.llm_model_name:
                attributes["gen_ai.request.model"] = config.llm_model_name
            if metadata.tokens is not None:
                tokens = metadata.tokens
                attributes["gen_ai.usage.input_tokens"] = tokens[0]
                attributes["gen_ai.usage.output_tokens"] = tokens[1]
        name = "gen_ai.client.inference.operation.details"
        self._emit(name, SeverityNumber.DEBUG, attributes)

    def _messages(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """JSON of messages as the conventions have them: a role, and parts."""
        told = [
            {
                "role": message.get("role", "user"),
                "parts": [{"type": "text", "content": text} for text in _texts(message)],
            }
            for message in messages
        ]
        return self._blotted(json.dumps(told, ensure_ascii=False))

    def _blotted(self, text: str) -> str:
        for telemetry in self._telemetries:
            text = telemetry.blotted(text)
        return text

    def _emit(self, name: str, severity: SeverityNumber, attributes: dict[str, AnyValue]) -> None:
        self._logger.emit(event_name=name, severity_number=severity, attributes=attributes)


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    parts = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
    return [str(part["text"]) if "text" in part else json.dumps(part) for part in parts]
