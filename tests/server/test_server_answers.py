"""Large answers: they cost others neither their turn nor the memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.server.answers import LargeAnswers
from elluminate_async.server.problems import Problem
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch

if TYPE_CHECKING:
    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_large_answers_are_made_one_at_a_time_and_none_while_too_much_is_unread() -> None:
    """The next is made once there is room, and what is given back makes room."""
    large, made = LargeAnswers(most=10), list[int]()

    async def make() -> bytes:
        made.append(1)
        await asyncio.sleep(0)
        return b"12345678"

    first = await large.make(make)
    second = await large.make(make)
    third = asyncio.create_task(large.make(make))
    await asyncio.sleep(1)
    assert (len(made), large.held) == (2, 16)
    del first
    last = await third
    assert (len(made), large.held) == (3, 16)
    del second, last, third
    await asyncio.sleep(0)  # this very step holds the task that it was woken by
    assert large.held == 0


async def test_nothing_is_made_for_who_has_gone() -> None:
    """Whoever waited for a turn and left costs no more."""
    with pytest.raises(Problem, match="has gone"):
        await LargeAnswers().make(_never, is_wanted=lambda: False)


async def _never() -> bytes:
    raise AssertionError


@pytest.mark.parametrize("noun", ["experiments", "collections", "prompt_templates"])
async def test_a_deletion_ends_what_is_paid_for(session: aiohttp.ClientSession, noun: str) -> None:
    """Of a job whose rows were deleted no more is asked than what was in flight."""
    model = ScriptedModel()
    model.gate.clear()
    async with LocalServer(model=model, max_model_calls=2) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([str(number) for number in range(20)])
        await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(2)
        assert (await api("DELETE", f"/{noun}/1?cascade=true")).status == 204
        model.gate.set()
        await asyncio.sleep(5)
        assert len(model.calls) == 2


async def test_a_deleted_response_ends_alone(session: aiohttp.ClientSession) -> None:
    """Its item says so, and its neighbours are answered."""
    model = ScriptedModel()
    model.gate.clear()
    async with LocalServer(model=model, max_model_calls=1) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b", "c"])
        task = await api.post("/responses/batches", batch(experiment, entries))
        await model.reached(1)
        assert (await api("DELETE", "/responses/3")).status == 204
        model.gate.set()
        status = await api.ended(f"/responses/batches/{task}")
        assert [one["index"] for one in status["item_failures"]] == [2]
        assert "was deleted" in status["item_failures"][0]["message"]
        assert len(model.calls) == 2
