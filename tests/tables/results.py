"""Batches of each kind, made of the wire's documents."""

from __future__ import annotations

from typing import Any

from elluminate_async import (
    Batch,
    Criterion,
    GenerationMetadata,
    ItemError,
    LLMConfig,
    Message,
    Prompt,
    PromptResponse,
    Rating,
    TemplateVariables,
)


def failure(position: int, text: str = "too many requests") -> ItemError:
    return ItemError(
        text, position=position, code="http_429", operation="generate", status=429, attempts=3
    )


def row(id: int, **values: Any) -> TemplateVariables:
    return TemplateVariables(id=id, input_values=values)


def response(id: int, answer: str, **values: Any) -> PromptResponse:
    return PromptResponse(
        id=id,
        prompt=Prompt(id=1, template_variables=row(id + 100, **values)),
        messages=[Message(role="assistant", content=answer)],
        generation_metadata=GenerationMetadata(
            llm_model_config=LLMConfig(id=1, name="small"),
            duration_seconds=0.5,
            input_tokens=3,
        ),
    )


def rating(id: int, text: str, verdict: str, *, label: str | None = None) -> Rating:
    criterion = Criterion(id=id, criterion_str=text, label=label)
    return Rating(id=id, criterion=criterion, rating=verdict, reasoning=f"why {verdict}")


def responses() -> Batch[PromptResponse]:
    return Batch([response(1, "a", n=1, q="x"), failure(1), response(3, "c", n=None, q="z")])
