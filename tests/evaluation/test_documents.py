"""Evaluations, their records and figures as fields of pydantic models, and in FastAPI."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from elluminate_async import (
    Comparison,
    Evaluation,
    EvaluationRecord,
    EvaluationSummary,
    Gate,
    RatingMode,
    Summary,
)
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, judging, words


class Answer(BaseModel):
    evaluation: Evaluation
    first: EvaluationRecord


async def evaluated() -> Evaluation:
    """Of six rows one has no response, and one no verdict by one criterion."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word1")
        judging(scene, lambda shown: "word4" not in shown, silent=lambda shown: "word2" in shown)
        return await scene.client.evaluate(
            words(6), prompt=PROMPT, criteria=CRITERIA, name="n", rating_mode=RatingMode.FAST
        )


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


async def test_an_evaluation_is_written_and_read_as_a_field() -> None:
    """With its name, errors, partial verdicts and rates."""
    evaluation = await evaluated()
    answer = Answer(evaluation=evaluation, first=evaluation[2])
    read = Answer.model_validate_json(answer.model_dump_json())

    assert answer.evaluation is evaluation
    assert json.loads(answer.model_dump_json()) == as_json(answer.model_dump(mode="json"))
    assert read.evaluation.to_dict() == evaluation.to_dict()
    assert dict(read.evaluation.summary()) == dict(evaluation.summary())
    assert read.first.to_dict() == evaluation[2].to_dict()


async def test_what_is_no_record_is_refused() -> None:
    """As a validation error, of an evaluation also where records are missing."""
    evaluation = await evaluated()
    document = evaluation.to_dict()
    with pytest.raises(ValidationError, match="position"):
        TypeAdapter(EvaluationRecord).validate_python({"row": 1})
    with pytest.raises(ValidationError, match="records are missing"):
        TypeAdapter(Evaluation).validate_python(document | {"records": document["records"][1:5:2]})
    with pytest.raises(ValidationError, match="is written and not read"):
        TypeAdapter(Gate).validate_python(evaluation.gate(pass_rate=0.5).to_dict())


def served(kind: Any, value: Any) -> FastAPI:
    """An app that answers with ``value``, as FastAPI is told by the annotation alone."""
    app = FastAPI()

    def found() -> Any:
        return value

    found.__annotations__["return"] = kind
    app.get("/found")(found)
    return app


@pytest.mark.parametrize(
    "kind", [Evaluation, EvaluationRecord, EvaluationSummary, Summary, Comparison, Gate]
)
async def test_fastapi_answers_with_the_document(kind: Any) -> None:
    """It is that of `to_dict`, with each name of it in the schema, and reads NaN as null."""
    evaluation = await evaluated()
    summary = evaluation.summary()
    values: dict[Any, Any] = {
        Evaluation: evaluation,
        EvaluationRecord: evaluation[2],
        EvaluationSummary: summary,
        Summary: summary["default"],
        Comparison: evaluation.compare(evaluation),
        Gate: evaluation.gate(pass_rate=0.5),
    }
    app = served(kind, values[kind])
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://app"
    ) as client:
        answer = await client.get("/found")

    assert answer.json() == as_json(values[kind].to_dict())
    (path,) = app.openapi()["paths"].values()
    schema = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["properties"].keys() == answer.json().keys()


async def test_what_json_does_not_have_is_null() -> None:
    """A NaN of a row, in the answer of FastAPI and in a model's JSON."""
    async with evaluating() as scene:
        evaluation = await scene.client.evaluate(words(1), prompt=PROMPT, criteria=CRITERIA)
    document = evaluation.to_dict()
    document["records"][0]["input"] |= {"score": float("nan"), "most": float("inf")}
    odd = Evaluation.from_records(document["records"])
    app = served(Evaluation, odd)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://app"
    ) as client:
        answer = await client.get("/found")

    assert "NaN" not in answer.text
    given = answer.json()["records"][0]["input"]
    assert (given["score"], given["most"]) == (None, None)
    assert "NaN" not in TypeAdapter(Evaluation).dump_json(odd).decode()
