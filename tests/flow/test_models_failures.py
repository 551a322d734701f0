"""A single call whose model or judge gives nothing of use: told at once, and paid for once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from elluminate_async import (
    GenerationError,
    RatingError,
    ServerError,
)
from elluminate_async.server import ModelAnswer, ModelRequest
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Stage
from tests.flow.conftest import Staging

Single: TypeAlias = Callable[[Stage, int], Awaitable[object]]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Prose:
    """Says to whatever it is asked what is none of the forms asked for, and counts that."""

    def __init__(self, stage: Stage) -> None:
        self.calls = 0
        stage.model._judge = self  # type: ignore[assignment]

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        self.calls += 1
        return ModelAnswer(text="I cannot do that.")


async def propose(stage: Stage, _response: int) -> object:
    template = await stage.client.prompt_templates.create("Tell {{x}}", name="bare")
    return await stage.client.criteria.generate_many(template)


async def get_or_propose(stage: Stage, _response: int) -> object:
    template = await stage.client.prompt_templates.create("Tell {{x}}", name="bare")
    return await stage.client.criteria.get_or_generate_many(template)


async def invent(stage: Stage, _response: int) -> object:
    return await stage.client.template_variables.generate(
        collection=stage.collection, prompt_template=stage.template
    )


async def rate(stage: Stage, response: int) -> object:
    return await stage.client.ratings.rate(response)


# The last is what one attempt of the server asks: of the judge the form, and a criterion alone.
SINGLES: dict[str, tuple[Single, str, type[RatingError | ServerError], int]] = {
    "criteria.generate_many": (propose, "/criteria", ServerError, 2),
    "criteria.get_or_generate_many": (get_or_propose, "/criteria", ServerError, 2),
    "template_variables.generate": (invent, "/entries", ServerError, 1),
    "ratings.rate": (rate, "/ratings", RatingError, 6),
}


@pytest.mark.parametrize("name", SINGLES)
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
async def test_a_model_that_gives_nothing_of_use_is_asked_by_one_attempt(
    stage: Stage, name: str, is_lost: bool
) -> None:
    """Its failure is the call's own error, in the server's words; a repetition is told the same."""
    call, path, kind, most = SINGLES[name]
    (response,) = await stage.generate(["a"])
    prose = Prose(stage)
    sent = stage.recorder.count(f"{path}$", "POST")
    stage.recorder.lose = path if is_lost else None

    with pytest.raises(kind) as caught:
        await call(stage, response.id)

    assert type(caught.value) is kind
    assert any(word in str(caught.value) for word in ("the model", "the judge"))
    assert stage.recorder.count(f"{path}$", "POST") - sent == 1 + is_lost
    assert 0 < prose.calls <= most
    # It is an answer: the service is there, whatever was lost before.
    assert stage.client._connection.limits.outage(time.monotonic()) is None


@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
async def test_a_response_that_fails_is_asked_for_once(stage: Stage, is_lost: bool) -> None:
    """`responses.generate` ends as `GenerationError`, after one call of the model."""
    (row,) = await stage.variables(["a"])
    stage.model.failing = lambda _prompt: True
    stage.recorder.lose = "/responses" if is_lost else None

    with pytest.raises(GenerationError, match="no answer to say a"):
        await stage.client.responses.generate(template_variables=row, experiment=stage.experiment)

    assert stage.model.answered == {"say a": 1}


async def test_a_gateways_502_is_sent_again(staging: Staging) -> None:
    """One without the code says nothing of the model: the call goes on under its key."""
    async with staging() as stage:
        (response,) = await stage.generate(["a"])
        stage.recorder.before = lost = Once(502, times=3, noun="ratings")
        ratings = await stage.client.ratings.rate(response)
    assert (lost.fired, len(ratings)) == (3, 3)
