"""One batch: entries to chunks, chunks to outcomes, exactly one outcome per position."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import anyio

from elluminate_async.batch import Batch, BatchOptions, Outcome, Progress
from elluminate_async.engine.chunks import (
    Chunk,
    Entry,
    Item,
    Source,
    chunks_of_buffer,
    chunks_of_iterable,
    read_into,
)
from elluminate_async.engine.stream import HostedStream
from elluminate_async.errors import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineError,
    ElluminateError,
    InputError,
    ItemError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    WrongEventLoopError,
    item_error,
)

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import TaskGroup

    from elluminate_async.engine.limits import Limits

V = TypeVar("V")
R = TypeVar("R")

SendChunk: TypeAlias = Callable[[Sequence[Item[V]]], AsyncIterator[tuple[int, R | ItemError]]]
"""Sends items and yields (position, outcome) for them, in any order.

What it leaves out when it ends is ``no_result``; what it leaves out when it raises fails with
that error.
"""

LastLook: TypeAlias = Callable[[], Awaitable[tuple[dict[int, R | ItemError], Sequence[int]]]]
"""After all chunks: outcomes that came late, by position, and the ids of surplus rows."""

Pairs: TypeAlias = list[tuple[int, Outcome[R]]]
Deliver: TypeAlias = Callable[[Pairs[R]], Awaitable[None]]

logger = logging.getLogger("elluminate_async")

# True of all items alike, so that the batch stops and raises it.
FATAL = (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InputError,
    NotFoundError,
    PermissionDeniedError,
    WrongEventLoopError,
)


class ChunkRefusedError(Exception):
    """The service refused a chunk as a whole; one of its items may be the reason.

    Raised by a `SendChunk`. The chunk is halved until the item stands alone.
    """

    def __init__(self, error: ElluminateError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Call(Generic[V, R]):
    """One ``*_many`` call.

    Attributes:
        operation: ``"generate"``, ``"rate"`` or ``"add"``.
        send_chunk: Sends one chunk.
        deadline_at: `time.monotonic` at which the call ends, with or without answers.
        total: Number of positions, where it is known beforehand.
        max_in_flight: Chunks in flight for this call; at most the options' concurrency.
        last_look: May settle positions whose outcome was unknown.
    """

    operation: str
    send_chunk: SendChunk[V, R]
    options: BatchOptions
    limits: Limits
    deadline_at: float
    total: int | None = None
    max_in_flight: int | None = None
    last_look: LastLook[R] | None = None


async def run_batch(call: Call[V, R], source: Source[V]) -> Batch[R]:
    """All outcomes of ``call``, in input order.

    Raises:
        ElluminateError: One that is true of all items; ``error.partial`` is the batch of
            what had arrived.
        Exception: What ``source`` or ``on_progress`` raised, unchanged.
    """
    slots = _Slots(call)
    try:
        await _Run(call, slots.fill).run(source)
    except DeadlineError as error:
        result = slots.batch("deadline", str(error))
    except ElluminateError as error:
        error.partial = slots.batch("not_sent", f"the batch ended before this item: {error}")
        raise
    else:
        if call.last_look is not None:
            slots.settle(*await call.last_look())
        result = slots.batch()
    if result.failed:
        logger.warning("%s: %r", call.operation, result)
    return result


class _Slots(Generic[V, R]):
    """Positions and their outcomes, as they come."""

    def __init__(self, call: Call[V, R]) -> None:
        self._call = call
        self._slots: dict[int, Outcome[R]] = {}
        self._surplus: Sequence[int] = ()

    async def fill(self, pairs: Pairs[R]) -> None:
        for position, outcome in pairs:
            assert position not in self._slots, f"position {position} ended twice"
            self._slots[position] = outcome

    def settle(self, late: Mapping[int, Outcome[R]], surplus: Sequence[int]) -> None:
        """Take what the last look found: it only ever replaces an unknown outcome."""
        for position, outcome in late.items():
            assert isinstance(self._slots[position], OutcomeUnknownError), position
            self._slots[position] = outcome
        self._surplus = surplus

    def batch(self, code: str | None = None, text: str = "") -> Batch[R]:
        """The batch; with a code, what is missing fails with that."""
        total = self._call.total
        # Of an iterable as many positions are known as were read.
        length = total if total is not None else max(self._slots, default=-1) + 1
        if code is not None:
            for position in range(length):
                if position not in self._slots:
                    self._slots[position] = ItemError(
                        text,
                        position=position,
                        code=code,
                        operation=self._call.operation,
                        attempts=0,
                    )
        return Batch[R].from_slots(length, self._slots, surplus=self._surplus)


def stream_batch(
    call: Call[V, R],
    source: Source[V],
    registry: set[asyncio.Task[None]],
) -> HostedStream[tuple[int, Outcome[R]]]:
    """The outcomes of ``call`` as (position, outcome), as chunks finish.

    At most ``max_concurrency`` chunks are read ahead of the consumer. Raises as `run_batch`
    does, and `DeadlineError` when the deadline leaves entries of ``source`` unread.
    """
    return HostedStream(lambda deliver: _Run(call, deliver).run(source), registry)


@dataclass(slots=True)
class _Tally:
    """Counts for `Progress`."""

    call: Call[object, object]
    succeeded: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, outcome: object) -> None:
        if isinstance(outcome, ItemError):
            self.failed += 1
        else:
            self.succeeded += 1
        if self.call.options.on_progress is not None:
            elapsed = time.monotonic() - self.started
            self.call.options.on_progress(
                Progress(self.call.operation, self.call.total, self.succeeded, self.failed, elapsed)
            )


class _Run(Generic[V, R]):
    """The state of one call while it runs."""

    def __init__(self, call: Call[V, R], deliver: Deliver[R]) -> None:
        self._call = call
        self._deliver = deliver
        self._tally = _Tally(call)  # pyright: ignore[reportArgumentType]
        concurrency = call.max_in_flight or call.options.max_concurrency
        # Unlike the limits' permits these are held until the consumer took the outcomes.
        self._window = anyio.Semaphore(concurrency)
        self._fatal: Exception | None = None

    async def run(self, source: Source[V]) -> None:
        """Send everything and deliver everything, or raise the first fatal error, bare."""
        async with anyio.create_task_group() as tasks:
            try:
                if isinstance(source, AsyncIterable):
                    await self._run_async_source(source, tasks)
                else:
                    for chunk in chunks_of_iterable(source, self._call.options):
                        await self._start(chunk, tasks)
            except Exception as error:
                # The deadline lets chunks in flight end by their own clocks, which it sets.
                self._stop(error, None if isinstance(error, DeadlineError) else tasks)
        if self._fatal is not None:
            raise self._fatal

    async def _run_async_source(self, source: AsyncIterable[Entry[V]], tasks: TaskGroup) -> None:
        # Room for one chunk: the source is read while chunks wait for permits.
        send, receive = anyio.create_memory_object_stream[Entry[V]](self._call.options.chunk_size)

        reading = anyio.CancelScope()

        async def read() -> None:
            try:
                with reading:
                    await read_into(source, send)
            except Exception as error:
                self._stop(error, tasks)

        async with receive:
            tasks.start_soon(read)
            try:
                with anyio.move_on_after(self._remaining()) as scope:
                    async for chunk in chunks_of_buffer(receive, self._call.options):
                        await self._start(chunk, tasks)
            finally:
                reading.cancel()
            if scope.cancelled_caught:
                raise DeadlineError("the deadline passed before the input came to its end")

    async def _start(self, chunk: Chunk[V], tasks: TaskGroup) -> None:
        """Start ``chunk`` once it has its permits: before that there is no task for it."""
        with anyio.move_on_after(self._remaining()) as scope:
            await self._window.acquire()
            try:
                if chunk.items:
                    await self._call.limits.acquire_chunk()
            except BaseException:
                self._window.release()
                raise
        if scope.cancelled_caught:
            await self._finish([(item.position, self._unsent(item)) for item in chunk.items], chunk)
            raise DeadlineError("the deadline passed before all items were sent")
        tasks.start_soon(self._run_chunk, chunk, tasks)

    def _remaining(self) -> float:
        return max(0.0, self._call.deadline_at - time.monotonic())

    async def _run_chunk(self, chunk: Chunk[V], tasks: TaskGroup) -> None:
        try:
            pairs: Pairs[R] = []
            if chunk.items:
                try:
                    await self._send(chunk.items, pairs)
                finally:
                    # Before delivery: a slow consumer must not hold what it may wait for.
                    self._call.limits.release_chunk()
            await self._finish(pairs, chunk)
            self._window.release()
        except Exception as error:
            self._stop(error, tasks)

    async def _send(self, items: Sequence[Item[V]], pairs: Pairs[R]) -> None:
        """Send ``items``, halved where the service refuses them as a whole."""
        todo = [items]
        while todo:
            part = todo.pop()
            pending = {item.position: item for item in part}
            failure: ElluminateError | None = None
            try:
                async for position, outcome in self._call.send_chunk(part):
                    del pending[position]
                    pairs.append((position, outcome))
            except ChunkRefusedError as refused:
                left = list(pending.values())
                if len(left) > 1:
                    middle = len(left) // 2
                    todo += [left[middle:], left[:middle]]
                    continue
                failure = refused.error
            except ElluminateError as error:
                if isinstance(error, FATAL):
                    raise
                failure = error
            pairs += [(item.position, self._failed(failure, item)) for item in pending.values()]

    def _failed(self, error: ElluminateError | None, item: Item[V]) -> ItemError:
        operation = self._call.operation
        if error is not None:
            return item_error(error, position=item.position, operation=operation)
        return ItemError(
            "the service ended the job and has no result for this item",
            position=item.position,
            code="no_result",
            operation=operation,
        )

    def _unsent(self, item: Item[V]) -> ItemError:
        return ItemError(
            "the deadline passed before this item was sent",
            position=item.position,
            code="deadline",
            operation=self._call.operation,
            attempts=0,
        )

    async def _finish(self, pairs: Pairs[R], chunk: Chunk[V]) -> None:
        aliases = {item.position: item.aliases for item in chunk.items if item.aliases}
        full: Pairs[R] = [(passed.position, passed.error) for passed in chunk.passed]
        for position, outcome in pairs:
            full.append((position, outcome))
            for alias in aliases.get(position, ()):
                twin = outcome.at(alias) if isinstance(outcome, ItemError) else outcome
                full.append((alias, twin))
        await self._deliver(full)
        for _, outcome in full:
            self._tally.count(outcome)

    def _stop(self, error: Exception, tasks: TaskGroup | None) -> None:
        if self._fatal is None or isinstance(self._fatal, DeadlineError):
            self._fatal = error
        if tasks is not None:
            tasks.cancel_scope.cancel()
