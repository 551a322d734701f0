"""Items to chunks: every entry once, in order, within the bounds, and not a step too early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.batch import BatchOptions
from elluminate_async.engine.chunks import (
    ANSWER_BYTES,
    AnswerSizes,
    Chunk,
    ChunkBuilder,
    Entry,
    Item,
    Passed,
    chunks_of_iterable,
)
from elluminate_async.errors import ItemError


def items(count: int, size: int = 0) -> list[Entry[str]]:
    return [Item(position, f"v{position}", size) for position in range(count)]


def passed(position: int) -> Passed:
    return Passed(
        position, ItemError("x", position=position, operation="generate", code="no_result")
    )


def sizes(chunks: Iterable[Chunk[str]]) -> list[tuple[int, int]]:
    return [(len(chunk.items), len(chunk.passed)) for chunk in chunks]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (7, 3, [3, 3, 1]), (3, 1, [1, 1, 1])],
)
def test_by_count(count: int, size: int, expected: list[int]) -> None:
    """Full chunks, and what is left."""
    chunks = list(chunks_of_iterable(items(count), ChunkBuilder(BatchOptions(chunk_size=size))))

    assert [len(chunk.items) for chunk in chunks] == expected


def test_by_bytes() -> None:
    """A chunk is closed before the item that would not fit into it."""
    source = [Item(i, "v", size) for i, size in enumerate([40, 40, 40, 100, 1, 99, 60])]

    chunks = chunks_of_iterable(source, ChunkBuilder(BatchOptions(chunk_bytes=100)))

    assert [[item.size for item in c.items] for c in chunks] == [
        [40, 40],
        [40],
        [100],
        [1, 99],
        [60],
    ]


def test_a_larger_item_stands_alone() -> None:
    """It is sent all the same, by itself; its neighbours are not held up."""
    source = [Item(i, "v", size) for i, size in enumerate([10, 500, 10, 10])]

    chunks = chunks_of_iterable(source, ChunkBuilder(BatchOptions(chunk_bytes=100)))

    assert [[item.size for item in c.items] for c in chunks] == [[10], [500], [10, 10]]


def test_passed_entries_ride_along() -> None:
    """What failed upstream takes no room in a request."""
    source: list[Entry[str]] = [*items(2), passed(2), passed(3), Item(4, "v")]

    chunks = list(chunks_of_iterable(source, ChunkBuilder(BatchOptions(chunk_size=3))))

    assert sizes(chunks) == [(3, 2)]


def test_passed_entries_alone() -> None:
    """A long run of them is handed over in portions, without items."""
    source: list[Entry[str]] = [passed(i) for i in range(7)]

    chunks = list(chunks_of_iterable(source, ChunkBuilder(BatchOptions(chunk_size=3))))

    assert sizes(chunks) == [(0, 3), (0, 3), (0, 1)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 50), max_size=60), st.integers(1, 9), st.integers(1, 100)
)
def test_every_entry_once_and_within_bounds(
    shape: list[int | None], chunk_size: int, chunk_bytes: int
) -> None:
    """For any mix: order kept, nothing lost, no empty chunk, both bounds kept."""
    source: list[Entry[str]] = [
        passed(i) if size is None else Item(i, "v", size) for i, size in enumerate(shape)
    ]
    options = BatchOptions(chunk_size=chunk_size, chunk_bytes=chunk_bytes)

    chunks = list(chunks_of_iterable(source, ChunkBuilder(options)))

    assert [item for chunk in chunks for item in chunk.items] == [
        entry for entry in source if isinstance(entry, Item)
    ]
    assert [entry for chunk in chunks for entry in chunk.passed] == [
        entry for entry in source if isinstance(entry, Passed)
    ]
    for chunk in chunks:
        assert chunk.items or chunk.passed
        assert max(len(chunk.items), len(chunk.passed)) <= chunk_size
        assert len(chunk.items) == 1 or sum(item.size for item in chunk.items) <= chunk_bytes


def test_a_source_is_read_only_as_far_as_asked() -> None:
    """The next chunk's items are not touched before it is wanted."""
    read = 0

    def source() -> Iterator[Entry[str]]:
        nonlocal read
        for entry in items(1000):
            read += 1
            yield entry

    chunks = chunks_of_iterable(source(), ChunkBuilder(BatchOptions(chunk_size=10)))
    seen: list[int] = []
    for _ in range(3):
        next(chunks)
        seen.append(read)

    assert seen == [10, 20, 30]


def test_a_chunk_fits_the_answers_that_came() -> None:
    """What its items bring back is kept below a bound, by what others of the call brought."""
    sizes = AnswerSizes()
    builder = ChunkBuilder[str](BatchOptions(chunk_size=100), sizes)
    entries = [Item(position, "x", answer=ANSWER_BYTES // 8) for position in range(24)]
    source = chunks_of_iterable(entries, builder)

    assert len(next(source).items) == 8
    sizes.learn(entries[:8], 2 * ANSWER_BYTES)
    assert len(next(source).items) == 4
    assert [len(part) for part in sizes.parts_of(entries[:10])] == [4, 4, 2]
    for _ in range(20):
        sizes.learn(entries[:8], ANSWER_BYTES // 2)
    assert len(next(source).items) > 4
    assert sizes.parts_of(entries) == [entries]


def test_one_item_may_be_larger_than_the_bound() -> None:
    """It goes alone, as what it brings back cannot be split."""
    entries = [Item(position, "x", answer=2 * ANSWER_BYTES) for position in range(3)]
    chunks = chunks_of_iterable(entries, ChunkBuilder(BatchOptions(chunk_size=100)))

    assert [len(chunk.items) for chunk in chunks] == [1, 1, 1]
