"""`SharedCall`: one call of the engine whose items are those of several callers.

It is open from its first caller on, for a few milliseconds, or until a chunk of it is full; then
it waits for its permit, still open, and closes when it is sent. Three callers, the third of whom
leaves before the chunk goes, a window of 5 ms::

    ms       0           1           3            5               240
    caller   A: row 7    B: row 7    C: row 9     C has left      B hears of 1, A of 0
    items    0: (7, 1)   1: (7, 2)   2: (9, 1)    0 and 1 sent

Each caller has its own outcomes, its own deadline and its own errors. When the last has left, what
still runs is cancelled.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from elluminate_async.engine.batch_run import BatchRun
from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import Item
from elluminate_async.engine.memory import KeptChunk, Memory
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.engine.tasks import begin_task
from elluminate_async.errors import (
    ClientClosedError,
    ElluminateError,
    ItemError,
    OutcomeUnknownError,
)
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.operations.caller import Caller, twin_of
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.jobs import outlived_the_call

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, Outcome
    from elluminate_async.engine.operation import Outcomes
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.operations.base import ChunkOperation
    from elluminate_async.operations.connection import Connection

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")

_AT_ONCE = 1e-9  # seconds: the chunk is due when the window has passed, which is waited for before


def _as_it_is(value: T) -> T:
    return value


def _nothing_to_adapt() -> Callable[[T], T]:
    return _as_it_is


@dataclass(frozen=True, slots=True)
class Work(Generic[V, R]):
    """The work that calls have in common which may share a chunk.

    Attributes:
        key: Equal for equal work.
        make: Its operation, for a context.
        adapt: For each shared call, a function from a caller's values to those that are sent.
        each: A caller's own of a result, which may be that of several.
    """

    key: Hashable
    make: Callable[[CallContext], ChunkOperation[V, R]]
    adapt: Callable[[], Callable[[V], V]] = _nothing_to_adapt
    each: Callable[[R], R] = _as_it_is


class _SomeLeftError(ElluminateError):
    """Callers have left whose items were about to be sent with those of others."""


class _CallersMemory(Memory):
    """Lets a chunk go only with items that somebody waits for.

    It is told of a chunk once the limits let that go, right before it leaves: who has left by
    then, or whose deadline has passed, was never sent.

    Args:
        is_left: Whether the caller of a position has left.
    """

    def __init__(self, is_left: Callable[[int], bool]) -> None:
        super().__init__()
        self.is_kept = True
        self._is_left = is_left
        self._told = set[int]()

    def intend(self, key: str, positions: Sequence[int], facts: Mapping[str, Any]) -> None:
        """A chunk is about to be sent.

        Raises:
            _SomeLeftError: It must not be, as it is.
        """
        if any(self._is_left(p) for p in positions if p not in self._told):
            raise _SomeLeftError
        super().intend(key, positions, facts)
        self._told.update(positions)

    def forget(self, positions: Iterable[int]) -> None:
        """They were not processed, or it is known what became of them."""
        gone = [*positions]
        self._told.difference_update(gone)
        super().forget(gone)


class SharedCall(Generic[V, R]):
    """A call for several callers.

    Args:
        connection: The client's.
        options: Of all callers alike.
        work: Of all callers alike.
        seconds: How long it waits for more callers.
        closed: Called when it takes no more of them.
    """

    def __init__(
        self,
        connection: Connection,
        options: BatchOptions,
        work: Work[V, R],
        *,
        seconds: float,
        closed: Callable[[SharedCall[V, R]], None],
    ) -> None:
        self._connection = connection
        self._options = options
        self._work = work
        self._adapted = work.adapt()
        self._seconds = seconds
        self._closed = closed
        self._memory = _CallersMemory(lambda position: position not in self._caller_of)
        self._deadline_at = -math.inf
        self._policy = connection.policy(options, deadline_at=self._deadline_at)
        self._callers: set[Caller[R]] = set()
        self._caller_of: dict[int, Caller[R]] = {}
        self._items: dict[int, Item[V]] = {}
        self._open: set[int] = set()
        self._causes: dict[int, ElluminateError] = {}
        self._unknown: Pairs[R] = []
        self._waiting: deque[Item[V]] = deque()
        self._news = anyio.Event()
        self._full = anyio.Event()
        self._is_sent = False
        self._operation = work.make(self._context())
        self._room = self._operation.options.chunk_size
        # In a context of its own: what is set in the first caller's is not for the others.
        self._task = begin_task(self._run(), connection.tasks, context=Context())

    def _context(self) -> CallContext:
        """The context of now, by the latest deadline of the callers so far."""
        policy = replace(self._policy, deadline_at=self._deadline_at)
        return CallContext(self._connection, self._options, policy, self._memory)

    def has_room(self, count: int) -> bool:
        """Whether so many items more fit into its chunk."""
        return count <= self._room

    def join(
        self,
        items: Sequence[Item[V]],
        deadline_at: float,
        *,
        memory: Memory | None = None,
        may_go_alone: bool = False,
    ) -> Caller[R]:
        """Have ``items`` sent with those of the others; see `Caller`."""
        first = len(self._items)
        own = {first + index: item.position for index, item in enumerate(items)}
        caller = Caller(self, own, deadline_at, memory=memory, may_go_alone=may_go_alone)
        self._callers.add(caller)
        for position, item in zip(own, items, strict=True):
            adapted = replace(item, position=position, value=self._adapted(item.value), aliases=())
            self._items[position] = adapted
            self._caller_of[position] = caller
            self._waiting.append(adapted)
        self._open |= own.keys()
        self._deadline_at = max(self._deadline_at, deadline_at)
        self._room -= len(items)
        self._news.set()
        if self._room <= 0:
            self.close()
        return caller

    def close(self) -> None:
        """Take no more callers, and wait for none."""
        self._closed(self)
        self._full.set()
        self._news.set()

    def leave(self, caller: Caller[R]) -> None:
        """Wait for nothing more on behalf of ``caller``; the last one ends what still runs."""
        self._callers.discard(caller)
        for position in caller.left:
            self._caller_of.pop(position, None)
        if not self._callers and self._open:
            self.close()
            self._task.cancel()

    def lateness_of(self, caller: Caller[R]) -> ElluminateError:
        """The error of a caller whose deadline has passed."""
        found = [kept for p in caller.left if (kept := self._memory.find(p)) is not None]
        self._hand_over(caller, found)
        jobs = [kept.job_id for kept in found if kept.job_id is not None]
        if caller.memory is not None and jobs:
            return outlived_the_call(jobs[0], self._operation.name)
        late = deadline_passed()
        late.ambiguous, late.attempts = bool(found), int(bool(found))
        late.retry_after = self._connection.limits.kept_for() or None
        return late

    async def _send(self, items: Sequence[Item[V]]) -> Outcomes[R]:
        """Send the items of a chunk that somebody still waits for."""
        if not self._is_sent:
            self._is_sent = True
            self.close()
            # By the latest of their deadlines; who has an earlier one does not wait so long.
            sizes = self._operation.sizes
            self._operation = self._work.make(self._context())
            self._operation.sizes = sizes
        while wanted := [item for item in items if item.position in self._caller_of]:
            pending = {item.position for item in wanted}
            for position in pending:
                # Of a larger chunk that was refused: what comes now is its own.
                self._causes.pop(position, None)
            try:
                async for position, outcome in self._operation.send(wanted):
                    pending.discard(position)
                    yield position, outcome
            except _SomeLeftError:
                continue
            except ChunkRefusedError as refused:
                self._causes |= dict.fromkeys(pending, refused.error)
                raise
            except ElluminateError as error:
                self._causes |= dict.fromkeys(pending, error)
                raise
            return

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            with anyio.move_on_after(self._seconds):
                await self._full.wait()
            if len(self._callers) == 1 and (alone := next(iter(self._callers))).may_go_alone:
                self._open.clear()
                alone.go_alone()
                return
            await self._send_all()
        except asyncio.CancelledError:
            error = ClientClosedError("the client was closed while this waited for an answer")
            raise
        except BaseException as ended_by:
            error = ended_by
            if not isinstance(ended_by, Exception):
                raise
        finally:
            self.close()
            self._end(error)
            # What is raised is kept by nobody here.
            del error

    async def _send_all(self) -> None:
        operation = self._operation
        call = Call(
            operation,
            options=operation.options.replace(chunk_linger=_AT_ONCE),
            limits=self._connection.limits,
            # They end by the callers' deadlines, of which more may come yet.
            deadline_at=math.inf,
            memory=self._memory,
            sizes=operation.sizes,
            share=self._policy.share,
            send=self._send,
        )
        await BatchRun(call, self._deliver, keep_failed=True).run(self._entries())
        late: Mapping[int, Outcome[R]] = {}
        if self._unknown:
            with suppress(ElluminateError):
                late, _ = await self._operation.reconcile()
        for position, outcome in self._unknown:
            self._give(position, late.get(position, outcome))

    async def _entries(self) -> AsyncGenerator[Item[V]]:
        """The items as they come, until it is closed."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._full.is_set():
                return
            self._news = anyio.Event()
            await self._news.wait()

    async def _deliver(self, pairs: Pairs[R]) -> None:
        for position, outcome in pairs:
            if isinstance(outcome, OutcomeUnknownError):
                # A last look at the service may tell.
                self._unknown.append((position, outcome))
            else:
                self._give(position, outcome)

    def _give(self, position: int, outcome: Outcome[R]) -> None:
        self._open.discard(position)
        caller = self._caller_of.pop(position, None)
        if caller is None:
            return
        cause = None
        if isinstance(outcome, OutcomeUnknownError):
            kept = self._memory.find(position)
            self._hand_over(caller, [] if kept is None else [kept])
        elif isinstance(outcome, ItemError):
            cause = self._causes.get(position)
        else:
            outcome = self._work.each(outcome)
        caller.take(position, outcome, cause)

    def _hand_over(self, caller: Caller[R], chunks: Sequence[KeptChunk]) -> None:
        """Have a caller that can retry remember the chunks that its items are in."""
        if caller.memory is not None:
            for chunk in chunks:
                caller.memory.take_over(chunk, self._items, caller.own)

    def _end(self, error: BaseException | None) -> None:
        """Tell the callers that still wait that ``error`` is the end of it."""
        for position, outcome in self._unknown:
            # Those of chunks that had ended before.
            if position in self._caller_of:
                self._give(position, outcome)
        self._open.clear()
        for caller in self._callers:
            if error is not None and caller.left:
                own = twin_of(error)
                if isinstance(own, ElluminateError):
                    own.ambiguous |= any(self._memory.find(p) is not None for p in caller.left)
                caller.end(own)
