"""Rows 76 to 85: cancelled, closed, abandoned or interrupted at any moment."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ClientClosedError,
    OutcomeUnknownError,
    Progress,
    PromptResponse,
)
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService, run_virtually
from elluminate_async.testing.ledger import nonce_of
from tests.faults.inprocess import client_of, experiment_of
from tests.matrix import Fired

OPTIONS = BatchOptions(chunk_size=2, max_concurrency=2, settle=1.0)
ENTRIES = list(range(1, 9))


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def scripted(**script: Any) -> ScriptedService:
    return ScriptedService(variables=lambda id: {"x": f"v{id}"}, **script)


def others() -> set[asyncio.Task[Any]]:
    """The tasks beside this one, the test runner's and the service's jobs."""
    mine = asyncio.current_task()
    known = ("TestRunner", "Store._later")
    return {
        task
        for task in asyncio.all_tasks()
        if task is not mine and not any(name in repr(task) for name in known)
    }


def worked(service: ScriptedService) -> int:
    """The requests so far that ask for work, and not only what became of some."""
    requests = service.traffic.requests
    return sum(count for route, count in requests.items() if route.startswith("POST"))


def left_behind(client: AsyncClient) -> tuple[int, set[Any], set[Any]]:
    """What must be nothing once a call has ended."""
    connection = client._connection
    busy = client.options.max_concurrency - connection.limits.free_chunks
    running = {task for task in connection.tasks if not task.done()}
    return busy, running, others()


async def cancelled_at(step: int, service: ScriptedService) -> asyncio.CancelledError | None:
    """Cancel a batch after so many turns of the loop; None when it had come to its end."""
    loop = asyncio.get_running_loop()
    async with client_of(service, OPTIONS, latency=0.01) as client:
        experiment = await experiment_of(client)
        task = asyncio.create_task(
            client.responses.generate_many(template_variables=ENTRIES, experiment=experiment)
        )
        for _ in range(step):
            # A turn of the loop, and where only a clock could go on, a part of its time.
            await asyncio.sleep(0 if loop._ready else 0.002)  # type: ignore[attr-defined]
            if task.done():
                return None
        task.cancel()
        started = time.monotonic()
        await asyncio.wait({task})
        assert time.monotonic() - started <= 1
        busy, running, _ = left_behind(client)
        if service.script.cancels:
            assert (busy, running) == (0, set())
        sent = worked(service)
        await asyncio.sleep(5)
        assert worked(service) == sent
        # What cannot be cancelled has its place for as long as it may run, a minute at most.
        await asyncio.sleep(0 if service.script.cancels else 60)
        assert left_behind(client) == (0, set(), set())
        with pytest.raises(asyncio.CancelledError) as caught:
            task.result()
        return caught.value


@pytest.mark.row(76)
@pytest.mark.parametrize("hosted", [False, True])
def test_cancelled_at_every_step(fired: Fired, hosted: bool) -> None:
    """At any turn of the loop: gone at once, nothing left, what was sent and not seen unknown."""
    step, unknown, done = 0, 0, 0
    while True:
        service = scripted(
            keys=not hosted, results=not hosted, cancels=not hosted, job_seconds=0.02
        )
        error = run_virtually(lambda: cancelled_at(step, service))  # noqa: B023
        if error is None:
            break
        fired()
        step += 1
        partial = cast("Batch[PromptResponse] | None", getattr(error, "partial", None))
        if partial is None:
            # Before the batch had begun: then nothing of it was sent.
            assert service.ledger.generations == 0
            continue
        assert len(partial) == len(ENTRIES)
        for id, outcome in zip(ENTRIES, partial.outcomes, strict=True):
            made = service.ledger.generated[nonce_of({"x": f"v{id}"})]
            if isinstance(outcome, OutcomeUnknownError):
                unknown += 1
            elif isinstance(outcome, PromptResponse):
                done += 1
                assert made == 1
            else:
                assert (outcome.code, made) == ("not_sent", 0)
    assert step > 20
    assert unknown > 20
    assert done > 20


@pytest.mark.row(77)
async def test_cancelled_again_while_cleaning_up(fired: Fired) -> None:
    """A source that never closes: five seconds, however often it is cancelled, then it is left."""
    closing = asyncio.Event()

    async def stubborn() -> AsyncIterator[int]:
        try:
            for id in ENTRIES:
                yield id
            await asyncio.sleep(1000)
        finally:
            closing.set()
            fired()
            await asyncio.sleep(1000)

    service = scripted()
    async with client_of(service, OPTIONS, latency=0.01) as client:
        experiment = await experiment_of(client)
        stream = client.responses.stream_generate_many(
            template_variables=stubborn(), experiment=experiment
        )

        async def consume() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(1)
        started = time.monotonic()
        task.cancel()
        await closing.wait()
        for _ in range(3):
            await asyncio.sleep(0.5)
            task.cancel()
            fired()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started <= 5.1
        assert client._connection.limits.free_chunks == 2
        sent = service.traffic.total
        await asyncio.sleep(10)
        assert service.traffic.total == sent
    assert left_behind(client) == (0, set(), set())


async def failing_sibling() -> None:
    await asyncio.sleep(1)
    raise ZeroDivisionError


Scope: TypeAlias = Callable[[Callable[[], Awaitable[object]]], Awaitable[object]]


async def in_timeout(work: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(1):
        await work()


async def in_move_on_after(work: Callable[[], Awaitable[object]]) -> None:
    with anyio.move_on_after(1):
        await work()


async def beside_a_failing_task(work: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(failing_sibling())
        await work()


async def in_a_group_that_fails(work: Callable[[], Awaitable[object]]) -> None:
    async def working() -> None:
        await work()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(working)
        tasks.start_soon(failing_sibling)


async def seen_by(scope: Scope, work: Callable[[], Awaitable[object]]) -> tuple[object, ...]:
    """How a scope ends that ``work`` is cancelled by, and what stays of the cancellation."""
    task = asyncio.current_task()
    assert task is not None
    raised: BaseException | None = None
    try:
        await scope(work)
    except BaseException as error:
        raised = error
    inner: Sequence[BaseException] = getattr(raised, "exceptions", ())
    counted = task.cancelling()
    # A cancellation that was left over would strike here.
    await asyncio.sleep(1)
    return type(raised), [type(error) for error in inner], counted


@pytest.mark.row(78)
@pytest.mark.parametrize(
    "scope", [in_timeout, in_move_on_after, beside_a_failing_task, in_a_group_that_fails]
)
async def test_scopes_around_a_call_see_their_own_cancellation(fired: Fired, scope: Scope) -> None:
    """Each ends as it does around a sleep, and no cancellation is left to a later await."""
    service = scripted(job_seconds=60.0)
    async with client_of(service, OPTIONS) as client:
        experiment = await experiment_of(client)

        async def batch() -> None:
            await client.responses.generate_many(template_variables=ENTRIES, experiment=experiment)

        async def sleep() -> None:
            await asyncio.sleep(60)

        found = await seen_by(scope, batch)
        fired()
        assert found == await seen_by(scope, sleep)
        assert found[2] == 0
        assert left_behind(client) == (0, set(), set())


class Stop(BaseException):
    """The caller's own, and no `Exception`."""


class Boom(Exception):
    """The caller's own."""


@pytest.mark.row(84)
@pytest.mark.parametrize("raised", [Boom, Stop])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_on_progress_raises(
    fired: Fired, raised: type[BaseException], stream: bool
) -> None:
    """Out of the call as it is, no group around it, and nothing is left."""
    service = scripted()
    error = raised("mine")

    def on_progress(progress: Progress) -> None:
        if progress.done == 4:
            fired()
            raise error

    async with client_of(service, OPTIONS, latency=0.01) as client:
        experiment = await experiment_of(client)
        arguments: dict[str, Any] = {
            "template_variables": ENTRIES,
            "experiment": experiment,
            "options": OPTIONS.replace(on_progress=on_progress),
        }

        async def call() -> None:
            if not stream:
                await client.responses.generate_many(**arguments)
            async for _ in client.responses.stream_generate_many(**arguments):
                pass

        with pytest.raises(raised) as caught:
            await call()
        assert caught.value is error
        await asyncio.sleep(1)
        assert left_behind(client) == (0, set(), set())


@pytest.mark.row(85)
async def test_closing_during_requests_twice_and_at_once(fired: Fired) -> None:
    """Everything that waits ends with `ClientClosedError`; a second `close` does nothing."""
    service = scripted(job_seconds=60.0)
    async with client_of(service, OPTIONS, latency=0.5) as client:
        experiment = await experiment_of(client)
        stream = client.responses.stream_generate_many(
            template_variables=ENTRIES, experiment=experiment
        )
        calls: list[Any] = [
            client.responses.generate_many(template_variables=ENTRIES, experiment=experiment),
            anext(stream),
        ]
        pending: list[asyncio.Future[Any]] = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.7)
        pending.append(asyncio.ensure_future(client.projects.list()))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(client.close())
        fired(times=3)
        await client.close()
        results = await asyncio.gather(*pending, return_exceptions=True)

    assert time.monotonic() - started <= 1
    assert [type(result) for result in results] == [ClientClosedError] * 3
    assert left_behind(client) == (0, set(), set())


@pytest.mark.row(82)
@pytest.mark.parametrize("how", ["dropped", "break"])
def test_an_abandoned_stream_ends_with_the_loop(fired: Fired, how: str) -> None:
    """Neither closed nor read to its end, nor the client: no warning, no task, no request."""
    service = scripted()
    closed = False

    async def source() -> AsyncIterator[int]:
        nonlocal closed
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed = True

    async def main() -> None:
        async with client_of(service, OPTIONS, latency=0.01) as client:
            experiment = await experiment_of(client)
            stream = client.responses.stream_generate_many(
                template_variables=source(), experiment=experiment
            )
            if how == "dropped":
                await anext(stream)
            else:
                async for _ in stream:
                    break
            fired()
            del stream
            gc.collect()
            await asyncio.sleep(1)
            sent = service.traffic.total
            await asyncio.sleep(60)
            assert service.traffic.total == sent
            assert left_behind(client) == (0, set(), set())
            # And one that nothing but the end of the loop ends.
            await anext(
                client.responses.stream_generate_many(
                    template_variables=source(), experiment=experiment
                )
            )

    run_virtually(main)
    gc.collect()
    assert closed


@pytest.mark.row(73)
async def test_a_consumer_that_is_slow_or_stops(fired: Fired) -> None:
    """A window of chunks is sent ahead of it and no more; `aclose` cleans up."""
    service = scripted()
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield 1

    async with client_of(service, OPTIONS, latency=0.01) as client:
        experiment = await experiment_of(client)
        stream = client.responses.stream_generate_many(
            template_variables=source(), experiment=experiment
        )
        for taken in range(1, 21):
            await anext(stream)
            await asyncio.sleep(60)
            fired()
            ahead = OPTIONS.chunk_size * (OPTIONS.max_concurrency + 2)
            assert service.ledger.generations <= taken + ahead
            assert read <= taken + ahead + OPTIONS.chunk_size
        await stream.aclose()
        assert left_behind(client) == (0, set(), set())
