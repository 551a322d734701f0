"""Rate limits as the service sees them, in virtual time: strict, and used."""

from __future__ import annotations

import pytest

from elluminate_async import BatchOptions, RateLimit
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from tests.testing.bench import bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_a_rate_limit_is_strict_and_used() -> None:
    """20 per 2 s: at most 20 requests in any 2 s (one more for jitter), 95 % of them used."""
    options = BatchOptions(chunk_size=5, max_concurrency=8, rate_limit=RateLimit(20, 2.0))
    async with bench(ScriptedService(), inputs_of(200), options) as b:
        before = len(b.service.traffic._times)
        assert not (await b.generate()).failed
        times = list(b.service.traffic._times)

    assert len(times) - before >= 80
    assert b.service.traffic.most_in(2.0) <= 21
    times = times[before:]
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.95 * 10


async def test_a_limit_of_one_call_narrows_that_call() -> None:
    """An override's rate limit holds for the call it was given to."""
    options = BatchOptions(chunk_size=5)
    async with bench(ScriptedService(), inputs_of(30), options) as b:
        before = len(b.service.traffic._times)
        narrow = options.replace(rate_limit=RateLimit(5, 0.5))
        assert not (await b.generate(options=narrow)).failed
        times = list(b.service.traffic._times)[before:]

    most = max(sum(start <= at < start + 0.5 for at in times) for start in times)
    assert len(times) == 12
    assert most <= 6
