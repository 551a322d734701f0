"""`BatchRun`: entries to chunks, chunks to the operation, outcomes to whoever wants them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import anyio

from elluminate_async.engine import item_errors
from elluminate_async.engine.allowance import split
from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import (
    Chunk,
    ChunkBuilder,
    Cut,
    CutSource,
    Entry,
    Item,
    Passed,
    chunks_of_iterable,
    uncancelled,
)
from elluminate_async.engine.memory import KeptChunk
from elluminate_async.engine.outcomes import Pairs, ProgressReporter
from elluminate_async.engine.reader import ChunkReader
from elluminate_async.engine.sending import observed, send_chunk
from elluminate_async.engine.worker_pool import WorkerPool
from elluminate_async.errors import (
    ElluminateError,
    InputError,
    ItemError,
    JournalError,
)

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

V = TypeVar("V")
R = TypeVar("R")

Deliver: TypeAlias = Callable[[Pairs[R]], Awaitable[None]]

_GIVE_WAY = 0.001  # seconds after which a source that is read lets the event loop run


class _OutOfTime(Exception):
    """The call's own deadline passed; one of the source is the source's."""


class BatchRun(Generic[V, R]):
    """One call while it runs: its chunks, and the state of all of them.

    Attributes:
        positions: One more than the highest position read so far.
        exhausted: Whether the source was read to its end.
        out_of_time: Whether the deadline kept entries from being sent.
        cut: What is known of chunks that were in flight when the run was ended.
        failed_items: Items that failed, where they are kept to be sent again.
    """

    def __init__(self, call: Call[V, R], deliver: Deliver[R], *, keep_failed: bool = False) -> None:
        self.positions = 0
        self.exhausted = False
        self.out_of_time = False
        self.cut: Pairs[R] = []
        self.failed_items: dict[int, Item[V]] = {}
        self._keep_failed = keep_failed
        self._call = call
        self._deliver = deliver
        self._progress = ProgressReporter(call.name, call.total, call.options.on_progress)
        self._share = call.share or call.limits.share(call.options.priority)
        concurrency = call.max_in_flight or call.options.max_concurrency
        # A task is busy until the consumer took the outcomes, unlike the limits' permits.
        self._workers = WorkerPool[Chunk[V]](concurrency)
        self._gave_way_at = -math.inf
        self._queued = 0.0  # seconds that the last permit was waited for
        self._fatal: BaseException | None = None

    async def run(self, source: CutSource[V], sent_before: Sequence[Chunk[V]] = ()) -> None:
        """Send everything and deliver everything, or raise the first fatal error, bare."""
        recovery, allowance = self._call.recovery, self._call.allowance
        if recovery is None:
            if allowance is not None:
                await allowance.begin({}, ())
            builder = ChunkBuilder[V](self._call.options, self._call.sizes)
            return await self._send_all(source, builder, sent_before)
        recovery.skipped = self.failed_items if self._keep_failed else None
        try:
            await recovery.open()
            self._call.memory.unread = recovery.may_be_sent
            if allowance is not None:
                await allowance.begin(recovery.done, recovery.open_chunks)
            if self._call.total is not None and isinstance(source, Iterable):
                if isinstance(source, Iterator):
                    source = list(uncancelled(source))
                recovery.check_inputs(source)
            builder = recovery.builder(self._call.options, self._call.sizes)
            await self._send_all(source, builder, sent_before)
            if not self.out_of_time:
                recovery.finished(self.positions)
        finally:
            await recovery.close()

    async def _send_all(
        self, source: CutSource[V], builder: ChunkBuilder[V], sent_before: Sequence[Chunk[V]]
    ) -> None:
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            try:
                for chunk in sent_before:
                    await self._start(chunk, tasks)
                if isinstance(source, AsyncIterable):
                    await self._send_async_source(source, builder, tasks)
                else:
                    for chunk in chunks_of_iterable(self._counted(source), builder):
                        await self._start(chunk, tasks)
            except _OutOfTime:
                # Chunks in flight end by their own clocks, which have the same deadline.
                self.out_of_time = True
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:
                # Of the caller's own any kind: none is to come out as a group.
                self._stop(error)
            finally:
                self._workers.close()
        if self._fatal is not None:
            raise self._fatal

    def _counted(self, source: Iterable[Entry[V]]) -> Iterable[Entry[V]]:
        for entry in uncancelled(source):
            self._count(entry)
            yield entry
        self.exhausted = True

    def _count(self, entry: Entry[V]) -> None:
        if entry.position >= self.positions:
            self.positions = entry.position + 1
        if isinstance(entry, Item) and entry.aliases:
            self.positions = max(self.positions, max(entry.aliases) + 1)

    async def _send_async_source(
        self, source: AsyncIterable[Entry[V] | Cut], builder: ChunkBuilder[V], tasks: TaskGroup
    ) -> None:
        reader = ChunkReader(builder, self._call.options.chunk_linger)
        reading = anyio.CancelScope()

        async def read() -> None:
            try:
                with reading:
                    await reader.read(source, self._count)
                    self.exhausted = True
            except anyio.get_cancelled_exc_class():
                if anyio.current_effective_deadline() != -math.inf:
                    # Nobody cancelled this: what the source awaits was cancelled, and taking
                    # that for its end would lose the rest of it.
                    self._stop(InputError("the input was cancelled from within"))
                raise
            except BaseException as error:
                self._stop(error)

        tasks.start_soon(read)
        try:
            with anyio.move_on_after(self._remaining()) as scope:
                while await reader.is_ready():
                    if self._call.allowance is not None:
                        # It is asked about the items, and no permit is held meanwhile.
                        await self._start(reader.take(), tasks)
                        continue
                    needed = reader.has_items
                    has_permit = await self._has_permit(is_needed=needed)
                    if has_permit and not needed and reader.has_items:
                        # A chunk of errors alone has got its first item meanwhile.
                        has_permit = await self._has_permit(is_needed=True)
                    await self._start_or_end(reader.take(), tasks, has_permit=has_permit)
        finally:
            reading.cancel()
        if scope.cancelled_caught:
            raise _OutOfTime

    async def _start(self, chunk: Chunk[V], tasks: TaskGroup) -> None:
        """Start as much of ``chunk`` as is let through, and the rest once it is too."""
        rest: Chunk[V] | None = chunk
        while rest is not None:
            chunk, rest = await self._admitted(rest)
            await self._start_admitted(chunk, tasks)

    async def _admitted(self, chunk: Chunk[V]) -> tuple[Chunk[V], Chunk[V] | None]:
        """The part of ``chunk`` that may be sent now, and the rest that is to be asked for again.

        Of a chunk that an earlier run sent all is paid for.
        """
        allowance = self._call.allowance
        if allowance is None or not chunk.items or chunk.is_of_earlier_run or self.out_of_time:
            return chunk, None
        count = len(chunk.items)
        with anyio.move_on_after(self._remaining()) as scope:
            count = await allowance.admit(chunk.items)
        if scope.cancelled_caught or count == len(chunk.items):
            # The deadline ends them where they are to get their permits.
            return chunk, None
        if count:
            return split(chunk, count)
        refused = [
            Passed(position, allowance.refused(position, self._call.name))
            for item in chunk.items
            for position in (item.position, *item.aliases)
        ]
        if self._keep_failed:
            self.failed_items |= {item.position: item for item in chunk.items}
        return replace(chunk, items=(), passed=(*chunk.passed, *refused)), None

    async def _start_admitted(self, chunk: Chunk[V], tasks: TaskGroup) -> None:
        """Start ``chunk`` once it has its permits: before that there is no task for it."""
        has_permit = await self._has_permit(is_needed=bool(chunk.items))
        await self._start_or_end(chunk, tasks, has_permit=has_permit)

    async def _start_or_end(self, chunk: Chunk[V], tasks: TaskGroup, *, has_permit: bool) -> None:
        """Start ``chunk``, or where it got no permit in time end it unsent."""
        if (
            chunk.unfinished is not None
            and self._keep_failed
            and not isinstance(chunk.unfinished, KeptChunk)
        ):
            chunk = replace(
                chunk, unfinished=self._call.memory.adopt(chunk.unfinished, chunk.items)
            )
        if has_permit:
            if self._queued:
                chunk = replace(chunk, queued=self._queued)
            if self._workers.submit(chunk, self._run_chunk, tasks):
                # It comes as far as it can before the next: all at once would be a burst.
                await asyncio.sleep(0)
            return
        sent = chunk.is_of_earlier_run or self._call.memory.unread
        held, name = self._call.limits.kept_for(), self._call.name
        late: Pairs[R] = [
            (i.position, item_errors.past_deadline(i.position, name, held, may_be_sent=sent))
            for i in chunk.items
        ]
        await self._finish(late, chunk)
        self.out_of_time = True
        if self._call.total is None or not self._keep_failed:
            raise _OutOfTime
        # The rest of the source ends likewise: what fails is kept to be sent again.

    async def _has_permit(self, *, is_needed: bool) -> bool:
        """Wait for what a chunk needs to start; False when the deadline came first.

        A permit of the limits is needed by one that has items.
        """
        if self.out_of_time:
            return False
        is_needed = is_needed and self._call.takes_permits
        now = time.monotonic()
        self._queued = 0.0
        if now - self._gave_way_at > _GIVE_WAY or now >= self._call.deadline_at:
            # A source that takes its time does not keep back what it gave before.
            await asyncio.sleep(0)
        elif self._workers.has_room and (not is_needed or self._share.try_acquire()):
            return True
        with anyio.move_on_after(self._remaining()) as scope:
            await self._workers.room()
            if is_needed:
                await self._share.acquire()
        self._gave_way_at = time.monotonic()
        self._queued = self._gave_way_at - now
        return not scope.cancelled_caught

    def _remaining(self) -> float:
        return max(0.0, self._call.deadline_at - time.monotonic())

    async def _run_chunk(self, chunk: Chunk[V]) -> bool:
        """Send a chunk and deliver its outcomes; False when that ended the run."""
        pairs: Pairs[R] = []
        try:
            if chunk.items:
                try:
                    with observed(self._call, chunk, pairs):
                        chunk = await send_chunk(self._call, chunk, pairs)
                finally:
                    if self._call.takes_permits:
                        # Before delivery: a slow consumer must not hold what it may wait for.
                        self._share.release()
            self._note(chunk, pairs, None)
        except Exception as error:
            self._note_cut(chunk, pairs, error)
            self._stop(error)
            return False
        except BaseException:
            self._note_cut(chunk, pairs, None)
            raise
        try:
            await self._finish(pairs, chunk)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self._stop(error)
            return False
        return True

    def _note(self, chunk: Chunk[V], pairs: Pairs[R], error: Exception | None) -> None:
        """Note outcomes in the journal, and what ``error`` proves not to have been processed."""
        if self._call.recovery is None:
            return
        known = {position for position, _ in pairs}
        unprocessed = isinstance(error, ElluminateError) and not error.ambiguous
        left = [item.position for item in chunk.items if item.position not in known]
        self._call.recovery.note(chunk, pairs, left if unprocessed else ())

    def _note_cut(self, chunk: Chunk[V], pairs: Pairs[R], error: Exception | None) -> None:
        whole = item_errors.of_whole(chunk, pairs, self._call.name, error)
        self.cut += whole
        if self._keep_failed:
            self._keep(chunk, whole)
        # Its own failure is what ended the run, or was noted by what did.
        with suppress(JournalError):
            self._note(chunk, pairs, None if isinstance(error, JournalError) else error)

    async def _finish(self, pairs: Pairs[R], chunk: Chunk[V]) -> None:
        if self._call.allowance is not None:
            self._call.allowance.settle(pairs)
        if self._keep_failed:
            self._keep(chunk, pairs)
        full = item_errors.of_whole(chunk, pairs, self._call.name)
        await self._deliver(full)
        self._progress.count(full)

    def _keep(self, chunk: Chunk[V], pairs: Pairs[R]) -> None:
        """Keep what it takes to send once more what failed, or to find out what became of it."""
        failed = {p: outcome for p, outcome in pairs if isinstance(outcome, ItemError)}
        if failed:
            self.failed_items |= {i.position: i for i in chunk.items if i.position in failed}
        self._call.memory.conclude(chunk.items, failed)

    def _stop(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self._scope.cancel()
