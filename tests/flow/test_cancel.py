"""Leaving early: a stream broken off, a batch cancelled, a client closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    ClientClosedError,
    ElluminateError,
    OutcomeUnknownError,
    RateLimit,
    TemplateVariables,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Boom, Stage, nothing_left, until
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]
HOSTED = WireProfile.hosted(page_size=7, listing_seed=2)


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


async def test_a_client_closed_under_a_stream_says_so(stage: Stage) -> None:
    """Its consumer gets `ClientClosedError`; nobody cancelled the consumer."""
    variables = await stage.variables([f"v{i}" for i in range(50)])
    first = {f"say v{i}" for i in range(10)}
    stage.model.slow = lambda prompt: 0.0 if prompt in first else 60.0
    stream = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )
    await anext(stream)
    await stage.client.close()

    with pytest.raises(ClientClosedError):
        async for _ in stream:
            pass


async def test_no_request_leaves_after_close(stage: Stage) -> None:
    """Requests that wait for the rate limit when the client is closed are not sent."""
    options = BatchOptions(rate_limit=RateLimit(1, 0.3))
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key, options=options)
    calls = [asyncio.ensure_future(client.projects.list()) for _ in range(5)]
    await anyio.sleep(0.4)
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(result, ClientClosedError) for result in results) >= 3


async def test_breaking_off_after_the_last_outcome_is_clean(stage: Stage) -> None:
    """`break` at the last item leaves no unclosed buffer (warnings are errors)."""
    variables = await stage.variables(["a"])
    async for _ in stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    ):
        await anyio.sleep(0.05)
        break
    async for _ in stage.client.collections.list():
        await anyio.sleep(0.05)
        break


@pytest.mark.parametrize("profile", [WireProfile(), HOSTED])
async def test_closing_the_client_leaves_accepted_work_unknown(
    staging: Staging, profile: WireProfile
) -> None:
    """A batch whose client is closed: what was accepted is unknown, not failed."""
    async with staging(profile, BatchOptions(chunk_size=5)) as stage:
        variables = await stage.variables(VALUES[:5])
        stage.model.delay = 5
        task = asyncio.create_task(
            stage.client.responses.generate_many(
                template_variables=variables, experiment=stage.experiment
            )
        )
        with anyio.fail_after(5):
            while not stage.model.answered:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await stage.client.close()
        with pytest.raises(ElluminateError) as caught:
            await task

    assert all(isinstance(e, OutcomeUnknownError) for e in caught.value.partial.failed.values())
