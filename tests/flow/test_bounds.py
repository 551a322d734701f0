"""Bounds as the server sees them: chunks in flight, requests per window, nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Progress,
    PromptResponse,
    RateLimit,
    TemplateVariables,
)
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from tests.flow.bench import Boom, Seen, Stage, answer, is_batch, nothing_left, until
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_concurrency_holds_over_generate_rate_and_retries(staging: Staging) -> None:
    """Concurrency 7, chunks of 10: the server sees at most 7 chunks in flight, and it sees 7."""
    values = [f"v{i}" for i in range(400)]
    options = BatchOptions(max_concurrency=7, chunk_size=10, max_attempts=10)
    async with staging(options=options) as stage:
        stage.model.delay = 0.01
        posts = 0

        async def every_fifth(seen: Seen, send: Send) -> bool:
            nonlocal posts
            posts += is_batch(seen, "batches")
            if is_batch(seen, "batches") and posts % 5 == 0:
                await answer(send, 503)
                return True
            return False

        stage.recorder.after = every_fifth
        first = await stage.generate(values[:200])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.client.ratings.rate_many, first)
            tasks.start_soon(stage.generate, values[200:])

        assert stage.recorder.peak_chunks == 7
        assert stage.recorder.count("batches$", "POST") > 60
        assert set(stage.model.answered.values()) == {1}
        assert stage.client._connection.limits.free_chunks == 7


async def test_a_rate_limit_is_strict_and_used(staging: Staging) -> None:
    """20 per 2 s: at most 20 requests in any 2 s (one more for jitter), 95 % of them used."""
    limit = RateLimit(20, 2.0)
    options = BatchOptions(chunk_size=5, max_concurrency=8, rate_limit=limit)
    async with staging(options=options) as stage:
        await stage.generate([f"v{i}" for i in range(200)])
        times = [seen.at for seen in stage.recorder.requests]

    assert len(times) >= 80
    most = max(sum(start <= at < start + 2.0 for at in times) for start in times)
    assert most <= 21
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.95 * 10


async def test_a_limit_of_one_call_narrows_that_call(staging: Staging) -> None:
    """An override's rate limit holds for the call it was given to."""
    async with staging() as stage:
        variables = await stage.variables([f"v{i}" for i in range(30)])
        stage.recorder.requests.clear()
        await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=stage.client.options.replace(chunk_size=5, rate_limit=RateLimit(5, 0.5)),
        )
        times = [seen.at for seen in stage.recorder.requests]

    most = max(sum(start <= at < start + 0.5 for at in times) for start in times)
    assert len(times) == 12
    assert most <= 6


async def test_the_input_is_read_no_further_than_the_window(staging: Staging) -> None:
    """Of a long generator a window of chunks is read ahead of the consumer, not more."""
    async with staging(options=BatchOptions(chunk_size=5, max_concurrency=2)) as stage:
        (row,) = await stage.variables(["a"])
        read = 0

        def endless() -> Iterator[TemplateVariables]:
            nonlocal read
            while True:
                read += 1
                yield row

        async with stage.client.responses.stream_generate_many(
            template_variables=endless(), experiment=stage.experiment
        ) as stream:
            taken = 0
            async for _, outcome in stream:
                assert isinstance(outcome, PromptResponse)
                taken += 1
                assert read <= taken + 5 * 5
                if taken == 60:
                    break


async def test_progress_grows_to_the_total_once(staging: Staging) -> None:
    """Progress counts every item once, failures among them, and ends at the total."""
    steps: list[Progress] = []
    async with staging(options=BatchOptions(chunk_size=10, on_progress=steps.append)) as stage:
        stage.model.failing = lambda prompt: prompt == "say v3"
        await stage.generate([f"v{i}" for i in range(25)])

    done = [step.done for step in steps if step.operation == "generate"]
    assert done == list(range(1, 26))
    assert (steps[-1].total, steps[-1].failed) == (25, 1)


async def test_what_on_progress_raises_comes_out_unchanged(stage: Stage) -> None:
    """The caller's own exception ends the batch, is no group, and leaves nothing behind."""
    variables = await stage.variables([f"v{i}" for i in range(25)])

    def on_progress(_: Progress) -> None:
        raise Boom

    with pytest.raises(Boom):
        await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=stage.client.options.replace(on_progress=on_progress),
        )
    await nothing_left(stage)


async def test_an_empty_batch_sends_nothing(stage: Stage) -> None:
    """No inputs, no request, an empty batch: for every `*_many`."""
    rows = await stage.client.template_variables.add_many([], collection=stage.collection)
    responses = await stage.client.responses.generate_many(
        template_variables=[], experiment=stage.experiment
    )
    ratings = await stage.client.ratings.rate_many(responses)
    stored = await stage.client.responses.add_many(
        [], template_variables=[], experiment=stage.experiment
    )

    assert [len(batch) for batch in (rows, responses, ratings, stored)] == [0, 0, 0, 0]
    assert stage.recorder.requests == []


@pytest.mark.unmeasured
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_clients_opened_and_closed_leave_no_descriptor() -> None:
    """Five hundred clients, half of them left by an exception: the count of descriptors is flat."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with ScriptedService() as service:

        async def use(number: int) -> None:
            async with AsyncClient(base_url=service.url, api_key=service.api_key) as client:
                await client.collections.list()
                if number % 2:
                    raise Boom

        await use(0)
        await until(lambda: not service.traffic.open)
        before = descriptors()
        for number in range(500):
            with contextlib.suppress(Boom):
                await use(number)
            if number % 50 == 49:
                gc.collect()
                # The service's ends of the connections close a little later.
                await until(lambda: descriptors() <= before + 2)


async def test_the_deadline_bounds_the_start_up_too(stage: Stage) -> None:
    """A service that does not answer the first exchanges: the call still ends at its deadline."""

    async def hang(seen: Seen, send: Send) -> bool:
        if "compatible" in seen.path:
            await anyio.sleep(8)
        return False

    stage.recorder.before = hang
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key)
    started = time.monotonic()
    batch = await client.responses.generate_many(
        template_variables=[1, 2],
        experiment=stage.experiment.id,
        options=BatchOptions(deadline=0.5),
    )
    seconds = time.monotonic() - started
    await client.close()

    assert seconds < 2.5
    assert {error.code for error in batch.failed.values()} == {"deadline"}
    assert {error.attempts for error in batch.failed.values()} == {0}
