"""A sample of the soak, small enough for every run of the tests; ``make soak`` is the whole."""

from __future__ import annotations

import asyncio

import pytest

from elluminate_async import AsyncClient
from elluminate_async.testing import VIRTUAL_TIME
from tests.soak import agents
from tests.soak.fuzz import fuzz
from tests.soak.runs import MIX, Case, run


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


SLOW = ("429", "429-retry-after", "hang", "hang-processed")
"""Kinds that cost seconds each."""


@pytest.mark.parametrize("keys", [True, False])
async def test_a_mix_of_faults(keys: bool) -> None:
    """500 items, 30 % of the exchanges faulted: nothing lost, swapped, foreign or paid twice."""
    case = Case(MIX, keys, seed=3, items=500, rated=300, chunk_size=10, without=SLOW)
    for line in await run(case):
        assert not line.problems, line
        assert line.fired.total() > 10
        assert line.report.ok


@pytest.mark.unmeasured
async def test_hostile_bytes() -> None:
    """1,000 seeds of answers: a result or an `ElluminateError`, and nothing left behind."""
    result = await fuzz(range(1_000))

    assert result.seeds == 1_000
    assert not result.problems
    # Neither all refused at the door nor all well-formed.
    assert result.endings["result"] > 100
    assert len(result.endings) > 6


@pytest.mark.unmeasured
async def test_hostile_bytes_for_agents() -> None:
    """200 seeds of other answers; in seed 2661 a stream is left whose connection is lost."""
    result = await fuzz(range(2_500, 2_700), agents.OPERATIONS)

    assert not result.problems
    assert result.endings["result"] > 20


async def test_the_fuzz_finds_what_escapes() -> None:
    """An operation that lets anything else out is named with its seed."""

    async def broken(client: AsyncClient) -> object:
        await asyncio.sleep(0)
        raise KeyError("id")

    result = await fuzz(range(3), [(broken, None, 1)])

    assert len(result.problems) == 3
    assert result.endings == {"ESCAPED KeyError": 3}
