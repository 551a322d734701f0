"""Items to chunks: by count, by bytes, and by time where a source is slow."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import anyio

from elluminate_async.errors import InputError, ItemError
from elluminate_async.schemas.base import MOST_ROWS

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.records import UnfinishedChunk

ANSWER_BYTES = 8 << 20
"""A bound for the answer to one chunk, as far as that is known before it is sent.

An event stream takes no larger event, and a client no answer of four times that.
"""

USUAL_ANSWER = 2_000
"""Bytes of what comes back for one item, where nothing is known of it."""

CLEAN_UP_SECONDS = 5.0
"""Seconds that something has to end once it is cancelled."""

T = TypeVar("T")
V = TypeVar("V")


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True)
class Item(Generic[V]):
    """One entry to send; never changed.

    Attributes:
        position: Its index in the caller's list.
        size: Bytes it adds to a request's body.
        aliases: Further positions that get the same outcome.
        answer: Bytes of what is expected to come back for it.
    """

    position: int
    value: V
    size: int = 0
    aliases: tuple[int, ...] = ()
    answer: int = USUAL_ANSWER


@dataclass(frozen=True, slots=True)
class Passed:
    """A position that is not sent: it failed upstream and keeps that error."""

    position: int
    error: ItemError


class Repeatable(Iterable[T]):
    """An iterable that can be read again, and is made anew each time instead of being kept."""

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[T]:
        return self._begin()


class Cut:
    """A mark between the entries of an async source: those after it share no chunk with others."""


CUT = Cut()

Entry: TypeAlias = Item[V] | Passed
Source: TypeAlias = Iterable[Entry[V]] | AsyncIterable[Entry[V]]
CutSource: TypeAlias = Source[V] | AsyncIterable[Entry[V] | Cut]


@dataclass(frozen=True, slots=True)
class Chunk(Generic[V]):
    """A unit of work: items for one request, and errors passed through.

    Attributes:
        done: Of items that an earlier run finished, where the service keeps their values.
        unfinished: What is known of the chunk as an earlier run sent it.
        queued: Seconds that it waited for its permit.
    """

    items: tuple[Item[V], ...]
    passed: tuple[Passed, ...]
    done: Mapping[int, Any] | None = None
    unfinished: UnfinishedChunk | None = None
    queued: float = 0.0

    @property
    def has_more_positions(self) -> bool:
        """Whether it is about positions beside those of its items."""
        return bool(self.passed) or any([item.aliases for item in self.items])

    @property
    def is_of_earlier_run(self) -> bool:
        """Whether an earlier run sent it, so that no failure of this one proves anything."""
        return self.done is not None or self.unfinished is not None

    @property
    def kind(self) -> Literal["sent", "resumed", "fetched"]:
        """How it comes to its outcomes, for observers."""
        if self.done is not None:
            return "fetched"
        return "sent" if self.unfinished is None else "resumed"


class AnswerSizes:
    """How large the answers of a call are, beside what was expected of their items.

    Attributes:
        most: What the items of one chunk may be expected to bring back, in bytes.
    """

    def __init__(self) -> None:
        self.most: float = ANSWER_BYTES
        self._scale = 1.0

    def parts_of(self, items: Sequence[Item[V]]) -> list[Sequence[Item[V]]]:
        """``items``, in as many parts as their answers need by now."""
        if self._scale <= 1.0:
            return [items]
        parts: list[Sequence[Item[V]]] = []
        start = expected = 0
        for index, item in enumerate(items):
            if index > start and expected + item.answer > self.most:
                parts.append(items[start:index])
                start, expected = index, 0
            expected += item.answer
        return [*parts, items[start:]]

    def learn(self, items: Iterable[Item[Any]], answer: int) -> None:
        """Note the bytes of the answer to a chunk of these.

        A larger one counts at once, smaller ones bit by bit.
        """
        scale = answer / max(1, sum(item.answer for item in items))
        self._scale = max(scale, 0.75 * self._scale + 0.25 * scale)
        self.most = ANSWER_BYTES / self._scale

    def learn_too_large(self, items: Iterable[Item[Any]]) -> None:
        """Note that the answer to a chunk of these was over the client's cap."""
        self.learn(items, 8 * ANSWER_BYTES)


class ChunkBuilder(Generic[V]):
    """Collects entries until a bound is reached."""

    def __init__(self, options: BatchOptions, sizes: AnswerSizes | None = None) -> None:
        self._max_items = min(options.chunk_size, MOST_ROWS)
        self._max_bytes = options.chunk_bytes
        self._sizes = sizes or AnswerSizes()
        self._items: list[Item[V]] = []
        self._passed: list[Passed] = []
        self._bytes = 0
        self._answer = 0

    def add(self, entry: Entry[V]) -> Chunk[V] | None:
        """The chunk that ``entry`` completes, or that it does not fit into any more."""
        if not isinstance(entry, Item):
            self._passed.append(entry)
            return self.take() if len(self._passed) >= self._max_items else None
        full = None
        if self._items and (
            self._bytes + entry.size > self._max_bytes
            or self._answer + entry.answer > self._sizes.most
        ):
            full = self.take()
        self._items.append(entry)
        self._bytes += entry.size
        self._answer += entry.answer
        if full is None and len(self._items) >= self._max_items:
            full = self.take()
        return full

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for a chunk to be completed."""
        return not self._items and not self._passed

    @property
    def has_items(self) -> bool:
        """Whether the chunk that `take` would give has any; more entries do not change that."""
        return bool(self._items)

    def take(self) -> Chunk[V] | None:
        """The entries collected so far as a chunk; None when there are none."""
        if self.is_empty:
            return None
        chunk = Chunk(tuple(self._items), tuple(self._passed))
        self._items, self._passed, self._bytes, self._answer = [], [], 0, 0
        return chunk

    def take_rest(self) -> Chunk[V] | None:
        """One chunk of what is left at the input's end; None when that is nothing."""
        return self.take()


@asynccontextmanager
async def closing(source: AsyncIterable[object]) -> AsyncGenerator[None]:
    """Close ``source`` at the end, where it is a generator or a stream.

    Not left to the garbage collector: it may hold a file or a request.
    """
    try:
        yield
    finally:
        if close := getattr(source, "aclose", None):
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await close()


def uncancelled(source: Iterable[T]) -> Iterator[T]:
    """``source``, whose own `CancelledError` is not taken for a cancellation of its reader.

    Nor is its `StopAsyncIteration` for the end of the reader.

    Raises:
        InputError: It raised one of them.
    """
    try:
        yield from source
    except (asyncio.CancelledError, StopAsyncIteration) as error:
        raise InputError(f"the input raised {error!r} when it was read") from error


def chunks_of_iterable(source: Iterable[Entry[V]], builder: ChunkBuilder[V]) -> Iterator[Chunk[V]]:
    """The chunks of ``source``, read only as far as they are asked for."""
    for entry in source:
        if chunk := builder.add(entry):
            yield chunk
    while chunk := builder.take_rest():
        yield chunk
