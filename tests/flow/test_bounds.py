"""Bounds as the server sees them: chunks in flight, requests per window, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
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
from tests.flow.bench import Seen, Stage, answer, until
from tests.flow.conftest import Staging
from tests.flow.test_faults import is_batch


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


async def nothing_left(stage: Stage) -> None:
    """Fail unless tasks, requests and permits are as they were; waits for the server's side."""
    await stage.recorder.quiet()
    assert stage.client._connection.tasks == set()
    limits = stage.client._connection.limits
    assert limits.free_chunks == stage.client.options.max_concurrency
    sent = len(stage.recorder.requests)
    await anyio.sleep(0.1)
    assert len(stage.recorder.requests) == sent


class Boom(Exception):
    """The caller's own."""


async def take_five(
    stage: Stage, variables: list[TemplateVariables], how: str, scope: anyio.CancelScope
) -> None:
    taken = 0
    stream = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )
    async for _ in stream:
        taken += 1
        if taken == 5:
            if how == "break":
                break
            if how == "aclose":
                await stream.aclose()
            elif how == "exception":
                raise Boom
            else:
                scope.cancel()
                await anyio.sleep_forever()
    assert taken == 5


@pytest.mark.parametrize("how", ["break", "aclose", "exception", "cancel"])
async def test_leaving_a_stream_early_leaves_nothing_behind(staging: Staging, how: str) -> None:
    """After 5 items: no task, no socket in use, no request, all permits back."""
    async with staging(options=BatchOptions(chunk_size=5, max_concurrency=4)) as stage:
        variables = await stage.variables([f"v{i}" for i in range(200)])
        stage.model.delay = 0.02
        tasks_before = asyncio.all_tasks()

        def mine() -> set[asyncio.Task[Any]]:
            tasks = (asyncio.all_tasks() - tasks_before) | stage.client._connection.tasks
            return {task for task in tasks if "elluminate_async.engine" in repr(task)}

        # Not by a name of its own: it would keep the stream alive by the traceback.
        with (
            pytest.raises(Boom) if how == "exception" else contextlib.nullcontext(),
            anyio.CancelScope() as scope,
        ):
            await take_five(stage, variables, how, scope)
        assert scope.cancelled_caught == (how == "cancel")
        # A stream that nobody closed ends when it is collected, in the loop's next turns.
        gc.collect()
        await until(lambda: not mine())
        await nothing_left(stage)


async def test_cancelling_a_batch_is_quick_and_clean(staging: Staging) -> None:
    """Cancelled midway, `generate_many` is gone within a second and sends no more."""
    async with staging(options=BatchOptions(chunk_size=5, max_concurrency=4)) as stage:
        variables = await stage.variables([f"v{i}" for i in range(200)])
        stage.model.delay = 5
        task = asyncio.current_task()
        assert task is not None
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await stage.client.responses.generate_many(
                    template_variables=variables, experiment=stage.experiment
                )
        assert time.monotonic() - begun < 1.3
        assert task.cancelling() == 0
        await nothing_left(stage)


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


async def test_an_async_input_is_closed_when_the_stream_is_left(stage: Stage) -> None:
    """The caller's async generator is finalised, in order, not by the garbage collector."""
    (row,) = await stage.variables(["a"])
    closed = False

    async def endless() -> AsyncIterator[TemplateVariables]:
        nonlocal closed
        try:
            while True:
                yield row
                await anyio.lowlevel.checkpoint()
        finally:
            closed = True

    async with stage.client.responses.stream_generate_many(
        template_variables=endless(), experiment=stage.experiment
    ) as stream:
        await anext(stream)

    assert closed


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
