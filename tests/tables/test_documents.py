"""Batches and errors as fields of pydantic models, and in FastAPI."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, TypeAdapter, ValidationError

from elluminate_async import (
    Batch,
    GenerationError,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    Rating,
    RatingError,
)
from tests.tables.results import failure, rating, response, responses


class EvaluateOut(BaseModel):
    rows: Batch[PromptResponse]


class RateOut(BaseModel):
    rows: Batch[list[Rating]]


class Report(BaseModel):
    error: ItemError


ERRORS = [
    failure(1),
    GenerationError("cut", position=2, operation="generate", output="half an ans"),
    RatingError("no verdict", position=3, operation="rate", request_id="r", response_id=7),
    OutcomeUnknownError("?", position=4, operation="add", retry_after=1.5, cause="ServerError"),
]


def test_a_batch_is_a_list_of_positions() -> None:
    """Each with its value or its error, the error with all that it tells."""
    document = json.loads(EvaluateOut(rows=responses()).model_dump_json())

    assert [sorted(row) for row in document["rows"]] == [
        ["position", "value"], ["error", "position"], ["position", "value"]
    ]  # fmt: skip
    assert [row["position"] for row in document["rows"]] == [0, 1, 2]
    assert document["rows"][0]["value"] == response(1, "a", n=1, q="x").model_dump(mode="json")
    assert document["rows"][1]["error"] == failure(1).to_dict()


def test_a_batch_that_fits_is_taken_as_it_is() -> None:
    """The very one, which can still be retried."""
    batch, ratings = responses(), Batch([[rating(1, "a", "YES")], [], failure(2)])

    assert EvaluateOut(rows=batch).rows is batch
    assert RateOut(rows=ratings).rows is ratings


@pytest.mark.parametrize("mode", ["json", "python"])
def test_a_batch_reads_back(mode: str) -> None:
    """From the text and from its data: equal values, errors of the same class."""
    out = EvaluateOut(rows=Batch([response(1, "a"), *ERRORS]))
    if mode == "json":
        back = EvaluateOut.model_validate_json(out.model_dump_json())
    else:
        back = EvaluateOut.model_validate(out.model_dump())

    assert back.rows[0] == out.rows[0]
    assert [type(error) for error in back.rows.failed.values()] == [*map(type, ERRORS)]
    assert [e.to_dict() for e in back.rows.failed.values()] == [e.to_dict() for e in ERRORS]


def test_positions_may_come_in_any_order() -> None:
    """As a client of a web service may have sorted them."""
    rows = TypeAdapter(Batch[int]).validate_python(
        [{"position": 1, "value": 5}, {"position": 0, "value": 4}]
    )

    assert list(rows) == [4, 5]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"position": 1, "value": 1}], "each position from 0 to 0 must come once"),
        ([{"position": 0, "value": 1}] * 2, "each position from 0 to 1 must come once"),
        ([{"position": -1, "value": 1}], "greater than or equal to 0"),
        ([{"position": 0}], "Field required"),
        ([{"position": 0, "value": "a"}], "valid integer"),
        ([{"position": 0, "error": {"text": "a"}}], "Field required"),
        ([3], "tag"),
        (3, "valid list"),
        (Batch(["a"]), "valid integer"),
    ],
)
def test_what_is_no_batch_of_that_kind_is_refused(rows: object, problem: str) -> None:
    """With the place, as pydantic tells it."""
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(Batch[int]).validate_python(rows)


def test_values_that_are_converted_are_another_batch() -> None:
    """The one that was passed keeps its own."""
    batch = Batch[Any](["1", 2])

    assert TypeAdapter(Batch[int]).validate_python(batch).outcomes == (1, 2)
    assert batch.outcomes == ("1", 2)


def test_a_batch_of_anything() -> None:
    """Without a type its values are written by what they are."""
    data = TypeAdapter[Any](Batch).dump_python(  # pyright: ignore[reportUnknownArgumentType]
        Batch([1, response(1, "a")]), mode="json"
    )

    assert data[0] == {"position": 0, "value": 1}
    assert data[1]["value"]["id"] == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_a_field(error: ItemError) -> None:
    """Written as its `to_dict`, and read back as the same class."""
    text = Report(error=error).model_dump_json()
    back = Report.model_validate_json(text).error

    assert json.loads(text)["error"] == error.to_dict()
    assert type(back) is type(error)
    assert back.to_dict() == error.to_dict()


def test_an_error_of_another_class_is_refused() -> None:
    """Where a field wants one of its kinds."""
    with pytest.raises(ValidationError, match="it is ItemError, not GenerationError"):
        TypeAdapter(GenerationError).validate_python(failure(1).to_dict())


def test_an_error_of_another_version_is_read() -> None:
    """Fields and codes that this one does not know are passed over."""
    data = {**failure(1).to_dict(), "code": "of_later", "type": "LaterError", "more": 1}

    error = TypeAdapter(ItemError).validate_python(data)
    assert (type(error), error.code, error.text) == (ItemError, "failed", "too many requests")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_fastapis_encoder_keeps_an_errors_text(error: ItemError) -> None:
    """It knows neither exceptions nor `to_dict`, and takes what `dict` gives."""
    assert jsonable_encoder({"failed": error}) == {"failed": error.to_dict()}
    assert dict(error) == error.to_dict()


def test_an_error_that_carries_a_batch_is_encoded_without_it() -> None:
    """What ended a whole batch carries what had come by then."""
    error = copy.copy(failure(1))
    error.partial = responses()

    assert jsonable_encoder(error) == failure(1).to_dict()


def app_of(batch: Batch[PromptResponse]) -> FastAPI:
    app = FastAPI()

    @app.get("/rows", response_model=EvaluateOut)
    async def rows() -> EvaluateOut:  # pyright: ignore[reportUnusedFunction]
        return EvaluateOut(rows=batch)

    return app


async def test_a_response_model_of_fastapi() -> None:
    """The answer is the documents, and its schema has both kinds of them."""
    transport = httpx2.ASGITransport(app_of(responses()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.get("/rows")
        schema = (await client.get("/openapi.json")).json()

    assert EvaluateOut.model_validate_json(answer.text).rows[0] == responses()[0]
    assert answer.json()["rows"][1]["error"]["text"] == "too many requests"
    items = schema["components"]["schemas"]["EvaluateOut"]["properties"]["rows"]["items"]
    kinds = {name for kind in items["oneOf"] for name in kind["properties"]}
    assert kinds == {"position", "value", "error"}
    value = next(kind for kind in items["oneOf"] if "value" in kind["properties"])
    assert value["properties"]["value"]["$ref"].endswith("/PromptResponse")


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_schema_is_the_same_both_ways(mode: Any) -> None:
    """What is written can be read."""
    rows = EvaluateOut.model_json_schema(mode=mode)["properties"]["rows"]

    assert rows["type"] == "array"
    assert [sorted(kind["required"]) for kind in rows["items"]["oneOf"]] == [
        ["position", "value"], ["error", "position"]
    ]  # fmt: skip
