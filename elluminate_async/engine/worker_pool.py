"""A few tasks for any number of things to do: none is begun for each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

C = TypeVar("C")


class WorkerPool(Generic[C]):
    """Tasks that do what one task hands over to them, one thing after another.

    Args:
        size: Tasks at most; one is begun only when no other is idle.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._begun = 0
        self._idle: deque[asyncio.Future[C | None]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def has_room(self) -> bool:
        """Whether something can be handed over."""
        return bool(self._idle) or self._begun < self._size

    async def room(self) -> None:
        """Wait until something can be handed over."""
        while not self.has_room:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def submit(self, thing: C, work: Callable[[C], Awaitable[bool]], tasks: TaskGroup) -> bool:
        """Have ``thing`` done, where there is room.

        Args:
            thing: To be done.
            work: Does it, the same for all; False when its task is to do no more. Not kept: whose
                method it is has the pool, and what it came to is to be freed without a collection.
            tasks: Where a new task is begun if none is idle.

        Returns:
            Whether a new task was begun.
        """
        while self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(thing)
                return False
        self._begun += 1
        tasks.start_soon(self._do_all, thing, work)
        return True

    def close(self) -> None:
        """Nothing more will be handed over: the tasks end once they are idle."""
        self._closed = True
        while self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _do_all(self, thing: C | None, work: Callable[[C], Awaitable[bool]]) -> None:
        while thing is not None:
            goes_on = await work(thing)
            # Not to be kept alive by an idle task.
            thing = None
            if goes_on and not self._closed:
                thing = await self._next()

    async def _next(self) -> C | None:
        turn: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
        self._idle.append(turn)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                raise
            # It was handed over before, so it ends as whatever else is being done: the
            # cancellation of a task group comes again at the next wait.
            return turn.result()
