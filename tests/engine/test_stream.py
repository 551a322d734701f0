"""Outcomes as they finish: bounded ahead of the consumer, and gone when the consumer goes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
import pytest

from elluminate_async.batch import Progress
from elluminate_async.engine.chunks import Entry, Item
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.engine.tasks import end_tasks
from elluminate_async.errors import AuthenticationError, ClientClosedError, DeadlineError, ItemError
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from tests.engine.scripted import Service, answers, call_to, entries, failure, others, turns


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Bench:
    """A service, its limits, and a source that tells whether it was closed."""

    def __init__(self, concurrency: int = 3, delay: float = 1.0) -> None:
        self.service = Service(delay=delay)
        self.limits = Limits(concurrency, None)
        self.concurrency = concurrency
        self.registry: set[asyncio.Task[None]] = set()
        self.read = 0
        self.closed = False

    async def source(self, count: int) -> AsyncIterator[Entry[str]]:
        try:
            for entry in entries(count):
                self.read += 1
                yield entry
        finally:
            await anyio.sleep(0.1)
            self.closed = True

    def stream(self, count: int = 1000, **options: Any) -> OutcomeStream[tuple[int, Any]]:
        chosen = {"chunk_size": 10, "max_concurrency": self.concurrency, **options}
        call = call_to(self.service, limits=self.limits, **chosen)
        return stream_batch(call, self.source(count), self.registry)

    def nothing_left(self) -> None:
        assert self.limits.free_chunks == self.concurrency
        assert self.service.running == 0
        # A task that is done leaves the registry in the loop's next turn.
        assert all(task.done() for task in self.registry)
        assert others() == set()
        assert self.closed


async def test_a_stream_gives_every_outcome_once() -> None:
    """Positions in any order, each exactly once, errors as outcomes."""
    bench = Bench()
    bench.service.outcome = lambda item: failure(item) if item.position == 7 else item.value

    found = [pair async for pair in bench.stream(95)]

    assert sorted(position for position, _ in found) == list(range(95))
    assert {position for position, outcome in found if isinstance(outcome, ItemError)} == {7}
    assert dict(found)[94] == "v94"
    bench.nothing_left()


async def test_a_stream_that_nobody_reads_does_nothing() -> None:
    """Nothing is begun before the first step."""
    bench = Bench()
    bench.stream()
    await turns()

    assert bench.service.chunks == []
    assert others() == set()


async def test_a_stream_ends_once() -> None:
    """After its end every further step says so again."""
    bench = Bench()
    stream = bench.stream(5)
    assert len([pair async for pair in stream]) == 5

    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_chunk_comes_as_soon_as_it_is_done() -> None:
    """The slowest does not hold the others back."""
    bench = Bench()

    class Uneven(Service):
        async def send(
            self, items: Sequence[Item[str]]
        ) -> AsyncIterator[tuple[int, str | ItemError]]:
            await anyio.sleep(100 if items[0].position == 0 else 1)
            for item in items:
                yield item.position, item.value

    bench.service = Uneven()
    order = [position async for position, _ in bench.stream(50)]

    assert set(order[-10:]) == set(range(10))


@pytest.mark.parametrize("steps", [1, 5, 25])
async def test_leaving_by_aclose(steps: int) -> None:
    """When `aclose` returns, everything has ended."""
    bench = Bench()
    stream = bench.stream()
    for _ in range(steps):
        await anext(stream)
    await stream.aclose()

    bench.nothing_left()
    sent = len(bench.service.chunks)
    await anyio.sleep(100)
    assert len(bench.service.chunks) == sent
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def leave_by_exception(bench: Bench) -> None:
    async with bench.stream() as stream:
        await anext(stream)
        raise ZeroDivisionError


async def test_leaving_a_block_by_an_exception() -> None:
    """`async with` ends everything before the exception goes on."""
    bench = Bench()
    with pytest.raises(ZeroDivisionError):
        await leave_by_exception(bench)

    bench.nothing_left()


async def test_leaving_by_break() -> None:
    """Without a block a few turns of the loop do, once nothing refers to the stream."""
    bench = Bench()
    async for _ in bench.stream():
        break
    gc.collect()
    await turns()
    await anyio.sleep(0.2)

    bench.nothing_left()


async def test_leaving_by_cancellation() -> None:
    """A cancelled step ends the stream; `CancelledError` goes on."""
    bench = Bench()
    stream = bench.stream()

    async def consume() -> None:
        async for _ in stream:
            pass

    task = asyncio.create_task(consume())
    await anyio.sleep(3.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    bench.nothing_left()


async def test_a_step_under_a_timeout() -> None:
    """The timeout is what the caller sees, and the stream has ended."""
    bench = Bench(delay=1000)
    stream = bench.stream()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(stream)

    bench.nothing_left()


async def test_what_is_left_at_the_end_is_in_the_registry() -> None:
    """A client that closes ends the streams that nobody closed."""
    bench = Bench()
    stream = bench.stream()
    await anext(stream)
    assert len(bench.registry) == 1
    await end_tasks(set(bench.registry))

    bench.nothing_left()
    with pytest.raises(ClientClosedError):
        await read_on(stream, [])


async def test_a_slow_consumer_bounds_what_is_started() -> None:
    """Chunks are started for a window ahead of the consumer, and the source is read as far."""
    bench = Bench(concurrency=3)
    stream = bench.stream(10_000)
    for taken in range(1, 31):
        await anext(stream)
        await anyio.sleep(60)
        # One bunch is in the consumer's hands, a window of three is waiting to be taken.
        assert len(bench.service.chunks) <= taken // 10 + 2 + 3
        assert bench.read <= taken + (2 + 3 + 3) * 10
    assert bench.limits.free_chunks == 3
    await stream.aclose()


async def test_a_batch_inside_the_loop_does_not_deadlock() -> None:
    """The consumer may use the client whose stream it reads, at a concurrency of one."""
    bench = Bench(concurrency=1)
    inner = 0
    with anyio.fail_after(10_000):
        async for _ in bench.stream(60):
            call = call_to(bench.service, total=20, limits=bench.limits, chunk_size=10)
            inner += len((await run_batch(call, entries(20))).succeeded)

    assert inner == 60 * 20
    assert bench.service.peak == 1
    bench.nothing_left()


async def test_a_stream_into_a_stream() -> None:
    """One feeds the other on the same limits: all arrive, nothing is left."""
    first, second = Bench(concurrency=2), Service(delay=1)

    async def handed_on() -> AsyncIterator[Entry[str]]:
        async for position, outcome in first.stream(100):
            yield Item(position, outcome)

    call = call_to(second, limits=first.limits, chunk_size=7, max_concurrency=2)
    found = [pair async for pair in stream_batch(call, handed_on(), first.registry)]

    assert dict(found) == {i: f"answer {text}" for i, text in answers(range(100)).items()}
    first.nothing_left()


async def test_a_fatal_error_on_a_stream() -> None:
    """Raised from the step that meets it, bare; what came before was delivered."""
    bench = Bench()
    fatal = AuthenticationError("no", status=401)

    def fault(items: Sequence[Item[str]]) -> None:
        if items[0].position == 50:
            raise fatal

    bench.service.fault = fault
    seen: list[int] = []
    with pytest.raises(AuthenticationError) as caught:
        seen.extend([position async for position, _ in bench.stream()])

    assert caught.value is fatal
    bench.nothing_left()


@pytest.mark.parametrize("place", ["source", "progress"])
async def test_an_exception_of_the_callers_own(place: str) -> None:
    """Unchanged, from the step that meets it."""
    bench, bug = Bench(), KeyError("mine")

    def source() -> Iterator[Entry[str]]:
        yield from entries(25)
        if place == "source":
            raise bug

    def on_progress(progress: Progress) -> None:
        if place == "progress":
            raise bug

    call = call_to(bench.service, limits=bench.limits, chunk_size=10, on_progress=on_progress)
    with pytest.raises(KeyError) as caught:
        async for _ in stream_batch(call, source(), bench.registry):
            pass

    assert caught.value is bug
    bench.closed = True  # the source is a plain generator
    bench.nothing_left()


async def read_on(stream: OutcomeStream[tuple[int, Any]], seen: list[int]) -> None:
    async for position, _ in stream:
        seen.append(position)


async def test_the_deadline_on_a_stream() -> None:
    """Entries that were never read are no outcomes: the stream says that it was cut."""
    bench = Bench()
    seen: list[int] = []
    stream = bench.stream(10_000, deadline=20)
    with pytest.raises(DeadlineError):
        await read_on(stream, seen)

    assert len(set(seen)) == len(seen) > 100
    bench.nothing_left()


@pytest.mark.unmeasured
async def test_a_hundred_thousand_items_have_a_constant_window() -> None:
    """Tasks and entries read ahead do not grow with the length of the input."""
    bench = Bench(concurrency=4, delay=0.001)
    done = most = ahead = 0
    async for _ in bench.stream(100_000, chunk_size=50):
        done += 1
        if done % 500 == 0:
            most = max(most, len(others()))
            ahead = max(ahead, bench.read - done)

    assert done == 100_000
    assert most <= 4 + 3  # chunks, the host, the reader, the source
    assert ahead <= (4 + 4) * 50
    bench.nothing_left()
