"""A service that says "later": the whole client waits, and every item has its end."""

from __future__ import annotations

import time
from typing import Unpack

import anyio
import pytest
from starlette.types import Send

from elluminate_async import Batch, BatchOptionChanges, BatchOptions, PromptResponse
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, answer, is_batch
from tests.flow.conftest import staged
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Told:
    """Answers chunks with 429, so many times, once it has let ``after`` through.

    Attributes:
        at: When each was told.
    """

    def __init__(self, fired: Fired, times: float, retry_after: str | None, after: int = 0) -> None:
        self.at: list[float] = []
        self._times = times
        self._headers = {} if retry_after is None else {"retry-after": retry_after}
        self._fired = fired
        self._let_through = after

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if not is_batch(seen) or len(self.at) >= self._times:
            return False
        if self._let_through > 0:
            self._let_through -= 1
            return False
        self.at.append(seen.at)
        self._fired()
        await answer(send, 429, b'{"detail": "slow down"}', self._headers)
        return True


async def generated(
    stage: Stage, count: int, **changes: Unpack[BatchOptionChanges]
) -> Batch[PromptResponse]:
    variables = await stage.variables([f"v{i}" for i in range(count)])
    stage.recorder.requests.clear()
    return await stage.client.responses.generate_many(
        template_variables=variables,
        experiment=stage.experiment,
        options=stage.client.options.replace(**changes),
    )


@pytest.mark.row(1)
async def test_a_429_holds_every_request_of_the_client(fired: Fired) -> None:
    """For 2 s nothing is sent, by the chunk that was told nor by its neighbours; no item fails."""
    async with staged(options=BatchOptions(chunk_size=10)) as stage:
        stage.recorder.before = told = Told(fired, 1, "2")
        batch = await generated(stage, 20, max_concurrency=2)

    assert not batch.failed
    (at,) = told.at
    times = [seen.at for seen in stage.recorder.requests]
    # What was on its way when the answer came is let be.
    assert not [other for other in times if at + 0.25 < other < at + 2]
    assert max(times) >= at + 2


@pytest.mark.row(3)
async def test_a_retry_after_of_years(fired: Fired) -> None:
    """Its items fail at once with that figure in their errors, and are not sent again."""
    async with staged(options=BatchOptions(chunk_size=5)) as stage:
        stage.recorder.before = told = Told(fired, 1, "1e9")
        started = time.monotonic()
        batch = await generated(stage, 5)

    assert time.monotonic() - started < 10
    assert len(told.at) == len(stage.recorder.requests) == 1
    assert {error.code for error in batch.failed.values()} == {"http_429"}
    assert len(batch.failed) == 5
    assert all("told to wait 1e+09 s" in error.text for error in batch.failed.values())


@pytest.mark.row(3)
async def test_a_retry_after_of_years_holds_nobody_who_is_paid_for(fired: Fired) -> None:
    """Chunks that were accepted before are followed to their ends, and the client is of use."""
    async with staged(options=BatchOptions(chunk_size=10, deadline=60.0)) as stage:
        stage.recorder.before = told = Told(fired, 1, "1e9", after=3)
        batch = await generated(stage, 60, max_concurrency=6)
        await stage.client.ping()
        assert await stage.client.projects.list()

    assert len(told.at) == 1
    assert len(batch.failed) <= 30
    assert {error.code for error in batch.failed.values()} == {"http_429"}
    assert sum(stage.model.answered.values()) == 60 - len(batch.failed)


@pytest.mark.row(3)
async def test_after_a_retry_after_of_years_the_service_is_asked_again(fired: Fired) -> None:
    """Calls fail at once without a request, for `max_retry_after`; it may have been a mistake."""
    options = BatchOptions(chunk_size=5, max_retry_after=20.0)
    async with staged(options=options) as stage:
        rows = await stage.variables([f"v{i}" for i in range(5)])

        async def generate() -> Batch[PromptResponse]:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )

        stage.recorder.before = told = Told(fired, 1, "1e9")
        await generate()
        soon = await generate()
        chunks = [seen for seen in stage.recorder.requests if is_batch(seen)]
        await anyio.sleep(20)
        later = await generate()

    assert len(told.at) == 1
    assert {(error.code, error.attempts) for error in soon.failed.values()} == {("http_429", 0)}
    assert all(error.retry_after > 1e8 for error in soon.failed.values() if error.retry_after)
    assert len(soon.failed) == 5
    assert len(chunks) == 1
    assert not later.failed


@pytest.mark.row(4)
async def test_a_429_without_a_time(fired: Fired) -> None:
    """Waited out for all the same: no item fails, and none is generated twice."""
    async with staged(options=BatchOptions(chunk_size=5)) as stage:
        stage.recorder.before = told = Told(fired, 2, None)
        batch = await generated(stage, 20)

    assert len(told.at) == 2
    assert not batch.failed
    assert set(stage.model.answered.values()) == {1}


@pytest.mark.row(5)
async def test_a_429_for_ever(fired: Fired) -> None:
    """Each item ends by the deadline as limited by the service: none is lost or in doubt."""
    async with staged(options=BatchOptions(chunk_size=5)) as stage:
        stage.recorder.before = told = Told(fired, 1e9, "1")
        started = time.monotonic()
        batch = await generated(stage, 20, deadline=2.2)
        seconds = time.monotonic() - started

    assert seconds <= 2.2 + 2
    assert len(told.at) > 4
    assert len(batch.failed) == len(batch) == 20
    for position, error in batch.failed.items():
        assert (error.position, error.code, error.status) == (position, "http_429", 429)
