"""`OutcomeStream`: an async iterator whose work goes on between the consumer's steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio

from elluminate_async.engine.outcomes import CallbackRaisedError, raised_by_callback
from elluminate_async.engine.tasks import RunningTasks, begin_task, end_tasks, mark_seen
from elluminate_async.errors import ClientClosedError

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.streams.memory import MemoryObjectSendStream

T = TypeVar("T")


class OutcomeStream(AsyncIterator[T], Generic[T]):
    """An async iterator of what ``produce`` delivers, with at most one bunch buffered.

    The producer runs in a task of its own, begun by the first step. A generator with a task
    group inside would not do: it is closed by whichever task the garbage collector picks,
    and a cancel scope must be left where it was entered.

    Leaving the loop early cancels the producer. ``async with`` (or `aclose`) also waits for
    its end; without them the client's ``close`` does. A cancelled step ends the stream, as
    it ends an async generator.
    """

    def __init__(
        self,
        produce: Callable[[Callable[[list[T]], Awaitable[None]]], Awaitable[None]],
        running: RunningTasks,
        *,
        of: str = "outcomes",
    ) -> None:
        self._of = of
        self._produce = produce
        self._running = running
        self._bunch: deque[T] = deque()
        self._raised: list[BaseException] = []
        self._host: asyncio.Task[None] | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<OutcomeStream of {self._of}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._bunch:
            if self._ended:
                raise StopAsyncIteration
            if self._host is None:
                self._open()
            try:
                self._bunch.extend(await self._receive.receive())
            except anyio.EndOfStream:
                self._ended = True
                self._receive.close()
                await self._outcome_of_host()
            except BaseException:
                await self.aclose()
                raise
        return self._bunch.popleft()

    async def _outcome_of_host(self) -> None:
        """Raise what the producer, or a callback of it, raised."""
        assert self._host is not None
        await asyncio.wait({self._host})
        if self._host.cancelled():
            # Not by this consumer, who is here: by the client's close.
            raise ClientClosedError("the client was closed while this stream was being read")
        self._host.result()
        while self._raised:
            error = self._raised.pop()
            if isinstance(error, StopIteration | StopAsyncIteration):
                # Here it would be the end of the consumer's loop.
                raise raised_by_callback(error) from error
            raise error

    def _open(self) -> None:
        send, self._receive = anyio.create_memory_object_stream[list[T]](0)
        # The task must not refer to this stream, or it would never be collected.
        self._host = begin_task(_host(self._produce, send, self._raised), self._running)
        self._host.add_done_callback(mark_seen)

    async def aclose(self) -> None:
        """Cancel what is running and wait until it has ended; a second call does nothing."""
        self._ended = True
        self._bunch.clear()
        if self._host is not None:
            self._receive.close()
            with anyio.CancelScope(shield=True):
                await end_tasks({self._host})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        host = self._host
        if host is None:
            return
        self._receive.close()
        if not host.done():
            loop = host.get_loop()
            if not loop.is_closed():
                # The collector may run in any thread.
                loop.call_soon_threadsafe(host.cancel)


async def _host(
    produce: Callable[[Callable[[list[T]], Awaitable[None]]], Awaitable[None]],
    send: MemoryObjectSendStream[list[T]],
    raised: list[BaseException],
) -> None:
    async def deliver(bunch: list[T]) -> None:
        if bunch:
            await send.send(bunch)

    # The other end closes when the consumer leaves: then nobody wants an error either.
    with contextlib.suppress(anyio.BrokenResourceError):
        async with send:
            try:
                await produce(deliver)
            except CallbackRaisedError as error:
                # For the consumer: out of this task, a `KeyboardInterrupt` would leave the loop.
                raised.append(error.error)
