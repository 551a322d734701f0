"""One batch: every position its own outcome, whatever fails; bounds kept, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import Batch, Progress
from elluminate_async.engine.chunks import Entry, Item, Passed
from elluminate_async.engine.item_errors import FATAL, item_error
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.engine.run import run_batch
from elluminate_async.errors import (
    AuthenticationError,
    ClientClosedError,
    ElluminateError,
    ItemError,
    NotFoundError,
    RejectedError,
    ServerError,
)
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually
from tests.engine.scripted import Service, answers, call_to, entries, failure, others, turns


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


FATES = ["ok", "ok", "ok", "fails", "forgotten", "chunk fails", "refused", "passed"]


POSSIBLE = {
    "ok": {"http_503"},  # of a neighbour in its chunk
    "fails": {"generation_failed", "http_503"},
    "forgotten": {"no_result", "http_503"},
    "refused": {"http_422"},
    "chunk fails": {"http_503"},
}


def check_outcome(position: int, got: object, fate: str, upstream: ItemError | None) -> None:
    if upstream is not None:
        assert got is upstream
    elif isinstance(got, ItemError):
        assert got.position == position
        assert got.code in POSSIBLE[fate]
    else:
        assert (fate, got) == ("ok", f"answer v{position}")


@settings(max_examples=600, deadline=None)
@given(
    fates=st.lists(st.sampled_from(FATES), max_size=40),
    chunk_size=st.integers(1, 12),
    concurrency=st.integers(1, 6),
    seed=st.integers(0, 1000),
    from_async=st.booleans(),
)
def test_every_position_has_its_own_outcome(
    fates: list[str], chunk_size: int, concurrency: int, seed: int, from_async: bool
) -> None:
    """For any chunking, order of answers and mix of failures: position i has i's outcome."""
    service = Service(delay=1.0, seed=seed)

    def fault(items: Sequence[Item[str]]) -> None:
        if any(fates[item.position] == "refused" for item in items):
            raise ChunkRefusedError(RejectedError("bad", status=422))
        if any(fates[item.position] == "chunk fails" for item in items):
            raise ServerError("down", status=503)

    def outcome(item: Item[str]) -> str | ItemError | None:
        fate = fates[item.position]
        return {"fails": failure(item), "forgotten": None}.get(fate, f"answer {item.value}")

    service.fault, service.outcome = fault, outcome
    upstream = {i: failure(Item(i, "")) for i, fate in enumerate(fates) if fate == "passed"}
    source: list[Entry[str]] = [
        Passed(i, upstream[i]) if fate == "passed" else Item(i, f"v{i}")
        for i, fate in enumerate(fates)
    ]

    async def slowly() -> AsyncIterator[Entry[str]]:
        for entry in source:
            await anyio.sleep(0.01)
            yield entry

    async def main() -> Batch[str]:
        limits = Limits(concurrency, None)
        call = call_to(
            service,
            total=len(fates),
            limits=limits,
            chunk_size=chunk_size,
            max_concurrency=concurrency,
        )
        batch = await run_batch(call, slowly() if from_async else source)
        assert limits.free_chunks == concurrency
        assert others() == set()
        return batch

    batch = run_virtually(main)

    assert len(batch) == len(fates)
    assert service.peak <= concurrency
    assert max(service.chunks, default=0) <= chunk_size
    for position, fate in enumerate(fates):
        check_outcome(position, batch.outcomes[position], fate, upstream.get(position))
    if "chunk fails" not in fates:
        assert set(batch.succeeded) == {i for i, fate in enumerate(fates) if fate == "ok"}


async def test_an_empty_batch_sends_nothing() -> None:
    """No inputs, no request, no progress."""
    service = Service()
    seen: list[Progress] = []

    batch = await run_batch(call_to(service, total=0, on_progress=seen.append), [])

    assert len(batch) == 0
    assert service.chunks == []
    assert seen == []


async def test_what_the_service_forgets_has_an_error_of_its_own() -> None:
    """`no_result`: never a hang, never a shorter list."""
    service = Service()
    service.outcome = lambda item: None if item.position == 3 else item.value

    batch = await run_batch(call_to(service, total=5), entries(5))

    assert {i: error.code for i, error in batch.failed.items()} == {3: "no_result"}


async def test_a_failing_chunk_costs_its_own_items_only() -> None:
    """And of those only the ones without an answer."""

    class Breaking(Service):
        async def send(
            self, items: Sequence[Item[str]]
        ) -> AsyncIterator[tuple[int, str | ItemError]]:
            for item in items:
                if item.position == 13:
                    raise ServerError("down", status=502, request_id="r")
                yield item.position, f"answer {item.value}"

    batch = await run_batch(call_to(Breaking(), total=30, chunk_size=10), entries(30))

    assert dict(batch.succeeded) == answers([*range(13), *range(20, 30)])
    assert {(e.code, e.status, e.request_id) for e in batch.failed.values()} == {
        ("http_502", 502, "r")
    }


@pytest.mark.parametrize("poison", [0, 100, 255])
async def test_one_poisoned_item_is_isolated(poison: int) -> None:
    """1 of 256: 255 succeed, in at most 2·log2(256)+1 further requests."""
    service = Service()

    def fault(items: Sequence[Item[str]]) -> None:
        if any(item.position == poison for item in items):
            raise ChunkRefusedError(RejectedError("bad value", status=422))

    service.fault = fault
    batch = await run_batch(call_to(service, total=256, chunk_size=256), entries(256))

    assert list(batch.failed) == [poison]
    assert (batch.failed[poison].code, batch.failed[poison].status) == ("http_422", 422)
    assert len(service.chunks) - 1 <= 2 * math.log2(256) + 1


@pytest.mark.parametrize(
    "fatal",
    [
        AuthenticationError("no", status=401),
        NotFoundError("gone", status=404),
        ClientClosedError("x"),
    ],
)
async def test_what_is_true_of_all_items_ends_the_batch(fatal: ElluminateError) -> None:
    """That very error, no group; what had arrived is in `partial`, the rest `not_sent`."""
    assert isinstance(fatal, FATAL)
    service = Service(delay=0.1)
    limits = Limits(2, None)

    def fault(items: Sequence[Item[str]]) -> None:
        if items[0].position == 50:
            raise fatal

    service.fault = fault
    call = call_to(service, total=1000, limits=limits, chunk_size=10, max_concurrency=2)
    with pytest.raises(type(fatal)) as caught:
        await run_batch(call, entries(1000))

    assert caught.value is fatal
    partial: Batch[str] = fatal.partial
    assert len(partial) == 1000
    assert 30 <= len(partial.succeeded) <= 70
    assert dict(partial.succeeded) == answers(partial.succeeded)
    # Its own chunk, the chunk in flight beside it, and what was never sent.
    codes = [error.code for error in partial.failed.values()]
    own = item_error(fatal, position=0, operation="generate").code
    assert set(codes) == {own, "outcome_unknown", "not_sent"}
    assert codes.count(own) == 10
    assert codes.count("outcome_unknown") <= 10
    assert all((e.attempts == 0) == (e.code == "not_sent") for e in partial.failed.values())
    assert len(service.chunks) <= 9
    assert (limits.free_chunks, service.running, others()) == (2, 0, set())


@pytest.mark.parametrize("from_async", [False, True])
async def test_a_source_that_raises(from_async: bool) -> None:
    """Its own exception, unchanged; what was in flight is ended."""
    service, limits = Service(delay=100), Limits(3, None)
    bug = KeyError("mine")

    def source() -> Iterator[Entry[str]]:
        yield from entries(25)
        raise bug

    async def async_source() -> AsyncIterator[Entry[str]]:
        for entry in entries(25):
            yield entry
        raise bug

    call = call_to(service, limits=limits, chunk_size=10, max_concurrency=3)
    with pytest.raises(KeyError) as caught:
        await run_batch(call, async_source() if from_async else source())

    assert caught.value is bug
    assert (limits.free_chunks, service.running, others()) == (3, 0, set())


async def test_on_progress_that_raises() -> None:
    """Its own exception, unchanged, at its first call; nothing is left running."""
    service, limits = Service(delay=1), Limits(4, None)
    bug = ZeroDivisionError("mine")
    calls = 0

    def on_progress(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        raise bug

    call = call_to(service, total=500, limits=limits, chunk_size=5, on_progress=on_progress)
    with pytest.raises(ZeroDivisionError) as caught:
        await run_batch(call, entries(500))

    assert caught.value is bug
    assert calls == 1
    assert (limits.free_chunks, service.running, others()) == (4, 0, set())


async def test_a_bug_in_the_sending_stays_as_it_is() -> None:
    """An exception that is none of ours is raised unchanged, and no item is charged with it."""
    service = Service()

    def fault(items: Sequence[Item[str]]) -> None:
        raise RuntimeError("a bug")

    service.fault = fault
    with pytest.raises(RuntimeError, match="a bug"):
        await run_batch(call_to(service, total=5), entries(5))


async def test_an_outcome_for_a_foreign_position_is_a_bug() -> None:
    """It is never stored anywhere."""

    class Wrong(Service):
        async def send(
            self, items: Sequence[Item[str]]
        ) -> AsyncIterator[tuple[int, str | ItemError]]:
            yield 99, "foreign"

    with pytest.raises(KeyError):
        await run_batch(call_to(Wrong(), total=100, chunk_size=1), entries(100))


async def test_progress_grows_and_reaches_the_total_once() -> None:
    """One call per position, in any order of chunks; the last says all."""
    service = Service(delay=1)
    service.outcome = lambda item: failure(item) if item.position % 7 == 0 else item.value
    seen: list[Progress] = []

    call = call_to(service, total=101, chunk_size=8, max_concurrency=5, on_progress=seen.append)
    batch = await run_batch(call, entries(101))

    assert [progress.done for progress in seen] == list(range(1, 102))
    assert {progress.total for progress in seen} == {101}
    assert {progress.operation for progress in seen} == {"generate"}
    assert (seen[-1].succeeded, seen[-1].failed) == (len(batch.succeeded), len(batch.failed))
    assert [p.elapsed for p in seen] == sorted(p.elapsed for p in seen)


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_chunks_in_flight_reach_the_limit_and_keep_it(concurrency: int) -> None:
    """The peak is the limit, and all permits come back."""
    service, limits = Service(delay=1), Limits(concurrency, None)

    call = call_to(service, total=400, limits=limits, chunk_size=10, max_concurrency=concurrency)
    await run_batch(call, entries(400))

    assert service.peak == concurrency
    assert limits.free_chunks == concurrency


async def test_two_batches_share_one_bound() -> None:
    """The client's limit is over all of its calls."""
    service, limits = Service(delay=1), Limits(5, None)

    async def one() -> None:
        await run_batch(call_to(service, total=200, limits=limits, chunk_size=10), entries(200))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)

    assert service.peak == 5
    assert limits.free_chunks == 5


async def test_a_call_can_only_narrow_the_bound() -> None:
    """Its own concurrency holds within the client's, and the other way round."""
    for shared, own, expected in [(10, 2, 2), (2, 10, 2)]:
        service, limits = Service(delay=1), Limits(shared, None)
        call = call_to(service, total=100, limits=limits, chunk_size=5, max_concurrency=own)
        await run_batch(call, entries(100))

        assert service.peak == expected


async def test_max_in_flight_bounds_one_call() -> None:
    """For an operation that bears fewer chunks than the options say."""
    service = Service(delay=1)

    await run_batch(call_to(service, total=100, chunk_size=5, max_in_flight=1), entries(100))

    assert service.peak == 1


async def test_the_deadline_ends_a_batch() -> None:
    """What was not sent fails with `deadline` and no attempt; what had arrived is kept."""
    service, limits = Service(delay=1), Limits(2, None)
    service.delay = 5

    call = call_to(
        service, total=1000, limits=limits, deadline=30, chunk_size=10, max_concurrency=2
    )
    batch = await run_batch(call, entries(1000))

    assert len(batch) == 1000
    assert dict(batch.succeeded) == answers(batch.succeeded)
    assert 50 <= len(batch.succeeded) <= 400
    assert {(error.code, error.attempts) for error in batch.failed.values()} == {("deadline", 0)}
    assert not set(service.sent) & set(batch.failed)
    assert (limits.free_chunks, others()) == (2, set())


async def test_the_deadline_ends_a_source_that_gives_nothing_more() -> None:
    """An async source that hangs does not carry the call past its deadline; it is closed."""
    closed = False

    async def source() -> AsyncIterator[Entry[str]]:
        nonlocal closed
        try:
            for entry in entries(25):
                yield entry
            await anyio.sleep(10_000)
        finally:
            closed = True

    started = asyncio.get_running_loop().time()
    batch = await run_batch(call_to(Service(), total=50, deadline=20, chunk_size=10), source())

    assert asyncio.get_running_loop().time() - started <= 22
    assert dict(batch.succeeded) == answers(range(25))
    assert {error.code for error in batch.failed.values()} == {"deadline"}
    assert closed


async def test_an_iterable_of_unknown_length() -> None:
    """As many positions as were read."""
    batch = await run_batch(call_to(Service(), chunk_size=7), iter(entries(30)))

    assert dict(batch.succeeded) == answers(range(30))


async def test_aliases_get_the_same_outcome() -> None:
    """An item that stands for several positions is sent once; an error takes each position."""
    service = Service()
    service.outcome = lambda item: failure(item) if item.position == 1 else item.value
    source = [Item(0, "a", aliases=(2, 4)), Item(1, "b", aliases=(3,))]

    batch = await run_batch(call_to(service, total=5), source)

    assert dict(batch.succeeded) == {0: "a", 2: "a", 4: "a"}
    assert [(i, error.position) for i, error in batch.failed.items()] == [(1, 1), (3, 3)]
    assert service.sent == {0: 1, 1: 1}


async def test_passed_entries_need_no_permit_and_no_request() -> None:
    """A batch of upstream failures alone sends nothing, and gives the very same errors."""
    service, limits = Service(), Limits(1, None)
    await limits.share().acquire()
    errors = [failure(Item(position, "")) for position in range(7)]
    source = [Passed(position, error) for position, error in enumerate(errors)]

    with anyio.fail_after(1):
        batch = await run_batch(call_to(service, total=7, limits=limits, chunk_size=3), source)

    assert list(batch.failed.values()) == errors
    assert service.chunks == []


async def test_an_item_that_joins_passed_entries_has_its_permit() -> None:
    """Where it comes while they wait for a worker: what is released was acquired."""
    service, limits = Service(delay=10.0), Limits(1, None)

    async def source() -> AsyncIterator[Entry[str]]:
        first, passed, last = entries(3)
        yield first
        await anyio.sleep(1.0)
        yield Passed(1, failure(passed))
        await anyio.sleep(1.0)
        yield last

    call = call_to(service, limits=limits, max_in_flight=1, chunk_linger=0.1)
    batch = await run_batch(call, source())

    assert dict(batch.succeeded) == answers([0, 2])
    assert (service.chunks, service.peak) == ([1, 1], 1)


@pytest.mark.parametrize("seconds", [0, 0.3, 1, 2.5, 4])
@pytest.mark.parametrize("from_async", [False, True])
async def test_a_cancelled_batch_leaves_nothing(seconds: float, from_async: bool) -> None:
    """At any moment: `CancelledError`, permits back, no task, the source closed."""
    service, limits = Service(delay=1), Limits(3, None)
    closed = False

    async def source() -> AsyncIterator[Entry[str]]:
        nonlocal closed
        try:
            for entry in entries(1000):
                await anyio.sleep(0.01)
                yield entry
        finally:
            closed = True

    call = call_to(service, limits=limits, chunk_size=10, max_concurrency=3)
    task = asyncio.create_task(run_batch(call, source() if from_async else entries(1000)))
    await asyncio.sleep(0)
    await anyio.sleep(seconds)
    sent = len(service.chunks)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (limits.free_chunks, service.running, others()) == (3, 0, set())
    assert len(service.chunks) == sent
    await turns()
    assert closed or not from_async or seconds == 0


async def test_a_timeout_around_a_batch_is_a_timeout() -> None:
    """`asyncio.timeout` and anyio's scopes see their own cancellation, counted right."""
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await run_batch(call_to(Service(delay=100), total=50), entries(50))
        with anyio.move_on_after(1) as scope:
            await run_batch(call_to(Service(delay=100), total=50), entries(50))
        assert scope.cancelled_caught

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_one_warning_per_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Failures are counted by code in one line; a good batch says nothing."""
    caplog.set_level(logging.WARNING)
    service = Service()
    service.outcome = lambda item: failure(item) if item.position % 2 else item.value

    await run_batch(call_to(Service(), total=50, chunk_size=5), entries(50))
    assert caplog.records == []
    await run_batch(call_to(service, total=50, chunk_size=5), entries(50))

    (record,) = caplog.records
    said = record.getMessage().split(": ", 1)[1]
    assert said == (
        "25 of 50 items failed: 25 generation_failed; at 1 generation_failed; "
        "3 generation_failed; 5 generation_failed; …"
    )


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_source_is_read_no_further_than_the_window(is_async: bool) -> None:
    """Before a chunk has its permit its items are read, and no more than that."""
    service = Service(delay=1)
    read = done = ahead = 0

    def source() -> Iterator[Entry[str]]:
        nonlocal read, ahead
        for entry in entries(2_000):
            read += 1
            ahead = max(ahead, read - done)
            yield entry

    def on_progress(progress: Progress) -> None:
        nonlocal done
        done = progress.done

    async def source_async() -> AsyncIterator[Entry[str]]:
        for entry in source():
            yield entry

    call = call_to(service, chunk_size=10, max_concurrency=4, on_progress=on_progress)
    await run_batch(call, source_async() if is_async else source())

    assert ahead <= (4 + 1) * 10


@pytest.mark.unmeasured
async def test_tasks_do_not_grow_with_the_input() -> None:
    """50,000 generated items: a window of tasks, and the memory of the outcomes alone."""
    service = Service(delay=0.001)
    most = 0

    def source() -> Iterator[Entry[str]]:
        nonlocal most
        for position in range(50_000):
            if position % 50 == 0:
                most = max(most, len(others()))
            yield Item(position, "v")

    service.outcome = lambda item: "same"
    tracemalloc.start()
    try:
        batch = await run_batch(call_to(service, total=50_000, max_concurrency=8), source())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(batch.succeeded) == 50_000
    assert most <= 8
    assert peak < 20e6


async def test_outcomes_are_freed_with_their_batch() -> None:
    """Nothing of a call that ended waits for the garbage collector."""

    class Answer(str):
        pass

    service = Service()
    service.outcome = lambda item: Answer(item.value)
    gc.collect()
    gc.disable()
    try:
        batch = await run_batch(call_to(service), entries(3))
        kept = weakref.ref(batch[0])
        del batch
        assert kept() is None
    finally:
        gc.enable()
