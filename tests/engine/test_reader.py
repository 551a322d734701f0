"""An async source to chunks: none waits for long, and no more is read than is to be sent next."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from elluminate_async.batch import BatchOptions
from elluminate_async.engine.chunks import CUT, ChunkBuilder, Cut, Entry, Item
from elluminate_async.engine.reader import ChunkReader
from elluminate_async.testing.clock import VIRTUAL_TIME


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def source(pauses: list[float]) -> AsyncIterator[Entry[str]]:
    """An entry after each of these pauses."""
    for position, pause in enumerate(pauses):
        await anyio.sleep(pause)
        yield Item(position, "v")


def reader_of(options: BatchOptions) -> ChunkReader[str]:
    return ChunkReader(ChunkBuilder(options), options.chunk_linger)


def ignore(_: Entry[str]) -> None:
    """Nobody counts."""


async def taken(
    pauses: list[float],
    options: BatchOptions,
    *,
    permit_after: float = 0.0,
    count: Callable[[Entry[str]], None] = ignore,
) -> list[tuple[float, list[int]]]:
    """When each chunk was taken, and its positions; a permit takes so many seconds each time."""
    reader, started = reader_of(options), time.monotonic()
    found: list[tuple[float, list[int]]] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.read, source(pauses), count)
        while await reader.is_ready():
            await anyio.sleep(permit_after)
            chunk = reader.take()
            at = round(time.monotonic() - started, 3)
            found.append((at, [item.position for item in chunk.items]))
    return found


async def test_a_chunk_waits_for_its_first_entry_only_so_long() -> None:
    """A part-filled chunk goes out `chunk_linger` seconds after its first entry came."""
    options = BatchOptions(chunk_size=3, chunk_linger=0.5)

    found = await taken([0, 0.1, 10, 0.4, 0.4, 0], options)

    assert found == [(0.5, [0, 1]), (10.6, [2, 3]), (10.9, [4, 5])]


async def test_a_steady_source_is_not_kept_to_its_end() -> None:
    """An entry every 20 ms never leaves a gap of `chunk_linger`, and is sent all the same."""
    found = await taken([0.02] * 1000, BatchOptions(chunk_size=1000, chunk_linger=0.05))

    assert found[0] == (0.07, [0, 1, 2])
    assert max(len(positions) for _, positions in found) <= 4
    assert [p for _, positions in found for p in positions] == list(range(1000))


async def test_a_chunk_grows_while_it_cannot_be_sent() -> None:
    """It is cut when there is a permit for it, not when its time is up."""
    options = BatchOptions(chunk_size=100, chunk_linger=0.05)

    found = await taken([0.02] * 200, options, permit_after=1.0)

    assert [len(positions) for _, positions in found] == [53, 53, 53, 41]


async def test_one_chunk_is_read_ahead() -> None:
    """While a full chunk waits to be taken, its source is left alone."""
    read: list[Entry[str]] = []
    seen: list[int] = []
    reader = reader_of(BatchOptions(chunk_size=10))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.read, source([0.0] * 1000), read.append)
        for _ in range(3):
            await anyio.sleep(60)
            seen.append(len(read))
            reader.take()
        tasks.cancel_scope.cancel()

    assert seen == [10, 20, 30]


async def test_a_source_that_pauses_before_its_first_item() -> None:
    """There is nothing to send, so nothing goes out, however long it takes."""
    assert await taken([3600.0], BatchOptions(chunk_linger=0.01)) == [(3600.0, [0])]


async def test_a_fast_source_fills_its_chunks() -> None:
    """No lingering where there is no waiting."""
    found = await taken([0.0] * 10, BatchOptions(chunk_size=4))

    assert [positions for _, positions in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_an_empty_source() -> None:
    """No chunk at all."""
    assert await taken([], BatchOptions()) == []


async def test_a_source_is_closed_at_its_end_and_at_a_cancellation() -> None:
    """Its `finally` runs at once, awaits included, and not when the collector comes by."""
    closed: list[str] = []

    async def closing_source(name: str, count: int) -> AsyncIterator[Entry[str]]:
        try:
            async for entry in source([0.0] * count):
                yield entry
        finally:
            await anyio.sleep(1)
            closed.append(name)

    await reader_of(BatchOptions()).read(closing_source("ended", 3), ignore)
    assert closed == ["ended"]

    with anyio.move_on_after(5):
        await reader_of(BatchOptions()).read(closing_source("cancelled", 100), ignore)
    assert closed == ["ended", "cancelled"]


async def test_a_mark_ends_a_chunk() -> None:
    """At once and whatever is free; marks beside one another make no empty chunks."""

    async def marked() -> AsyncIterator[Entry[str] | Cut]:
        for entry in [CUT, 0, 1, CUT, CUT, 2, 3, 4, CUT, 5]:
            yield entry if isinstance(entry, Cut) else Item(entry, "v")

    reader = reader_of(BatchOptions(chunk_size=2, chunk_linger=60.0))
    started, found = time.monotonic(), list[list[int]]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.read, marked(), ignore)
        while await reader.is_ready():
            found.append([item.position for item in reader.take().items])
    assert found == [[0, 1], [2, 3], [4], [5]]
    assert time.monotonic() - started < 1.0
