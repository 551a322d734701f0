"""Counts that triggers keep: whatever happens, they are what counting anew gives."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api
from tests.server.earlier import to_version_5, to_version_6
from tests.server.life import WORDS, Dicey, Life, require_counted
from tests.server.plain_results import results_of

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

STEPS = 60


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize("seed", range(2))
async def test_counts_are_what_counting_anew_gives(
    session: aiohttp.ClientSession, tmp_path: Path, seed: int
) -> None:
    """After each of many random things that change responses and ratings, cascades among them.

    The results of every experiment are those that its responses and ratings come to, one by one.
    """
    dice, db = random.Random(seed), tmp_path / "s.db"
    async with LocalServer(db=db, model=Dicey(dice)) as server:
        api = Api(session, server)
        life = Life(api, dice)
        await life.begin()
        done: list[str] = []
        counted = 0
        for _ in range(STEPS):
            done.append(await life.step())
            counted = require_counted(db)
            await require_results(api, db)
        assert len(set(done)) > 10
        assert counted


async def require_results(api: Api, db: Path) -> None:
    """Those of the listing are the plain ones; means, sums and roots but for their last digits."""
    for one in await api.items("/experiments"):
        if (results := one["results"]) is not None:
            del results["experiment_duration_seconds"]
        expected = results_of(db, one["id"])
        assert_alike(results, expected)


def assert_alike(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("to_version", [to_version_5, to_version_6])
async def test_an_earlier_database_is_counted(
    session: aiohttp.ClientSession, tmp_path: Path, to_version: Any
) -> None:
    """What it has is in the statistics and results, and what comes after is added to it."""
    db = tmp_path / "s.db"
    dice = random.Random(7)
    async with LocalServer(db=db, model=Dicey(dice)) as server:
        api = Api(session, server)
        await api.setup(WORDS, criteria=["good?"])
        await api.generate(1, [1, 2, 3, 4])
        await api.rate([1, 2])
        before = [await api.get(path) for path in ("/responses/stats", "/experiments")]
    with closing(sqlite3.connect(db)) as raw:
        to_version(raw)
    async with LocalServer(db=db, model=Dicey(dice)) as server:
        api = Api(session, server)
        assert [await api.get(path) for path in ("/responses/stats", "/experiments")] == before
        await api.generate(1, [1])
        assert (await api.get("/responses/stats"))["total_responses"] == 5
    assert require_counted(db)
