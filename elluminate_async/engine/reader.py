"""`ChunkReader`: the chunks of an async source, which is read while they wait to be sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from typing import Generic, TypeVar

import anyio

from elluminate_async.engine.chunks import Chunk, ChunkBuilder, Cut, Entry, closing

V = TypeVar("V")


class ChunkReader(Generic[V]):
    """Reads a source in one task, and has its chunks for another: one is read ahead.

    A chunk is ready when it is full, at a `Cut`, or ``linger`` seconds after its first entry came.
    The last grows until it is taken, which is once a permit is free to send it. One entry a
    second, chunks of four at most, a linger of 2.5::

        second           0  1  2  3  4  5  6  7
        entry            a  b  c  d  e  f  g  h
        ready and taken       abc      def        by their time
        no permit until 9        abcd             full, and the source waits

    Args:
        builder: Makes the chunks.
        linger: Seconds that the first entry of a part-filled chunk waits for more.
    """

    def __init__(self, builder: ChunkBuilder[V], linger: float) -> None:
        self._builder = builder
        self._linger = linger
        self._full: Chunk[V] | None = None
        self._due = math.inf
        self._is_read = False
        self._news = anyio.Event()
        self._taken = anyio.Event()

    async def read(
        self, source: AsyncIterable[Entry[V] | Cut], count: Callable[[Entry[V]], None]
    ) -> None:
        """Read ``source`` to its end and close it; ``count`` is told of each entry."""
        builder = self._builder
        async with closing(source):
            async for entry in source:
                if isinstance(entry, Cut):
                    while chunk := builder.take():
                        await self._hand_over(chunk)
                    continue
                count(entry)
                if chunk := builder.add(entry):
                    await self._hand_over(chunk)
                elif self._due == math.inf and not builder.is_empty:
                    self._due = self._time() + self._linger
                    self._news.set()
        self._is_read = True
        self._news.set()

    async def _hand_over(self, chunk: Chunk[V]) -> None:
        """Wait until a chunk that takes no more entries is taken."""
        self._full = chunk
        self._news.set()
        self._taken = anyio.Event()
        await self._taken.wait()

    async def is_ready(self) -> bool:
        """Wait for a chunk to `take`; False when there will be none any more."""
        while self._full is None:
            if self._is_read:
                self._full = self._builder.take_rest()
                return self._full is not None
            if self._due <= self._time():
                return True
            self._news = anyio.Event()
            with anyio.CancelScope(deadline=self._due):
                await self._news.wait()
        return True

    @property
    def has_items(self) -> bool:
        """Whether the chunk to take has any, beside errors that are passed through."""
        return self._builder.has_items if self._full is None else bool(self._full.items)

    def take(self) -> Chunk[V]:
        """The chunk that is ready, with all that it has got by now."""
        chunk = self._full or self._builder.take()
        assert chunk is not None
        self._full = None
        # What did not fit into it has waited for no longer than now.
        self._due = math.inf if self._builder.is_empty else self._time() + self._linger
        self._taken.set()
        return chunk

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()
