"""Deadlines: `Deadline`, of all calls begun within a block; `holding`, a lock until a call's."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import anyio

from elluminate_async.errors import InputError
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.errors.loops import running_loop
from elluminate_async.operations.context import checked_seconds

if TYPE_CHECKING:
    from types import TracebackType

    from elluminate_async.transport.retry import Policy

_PORTAL = "anyio.from_thread"


@dataclass(slots=True)
class _Bound:
    """The bound of one block on the calls of ``owner``, and that of the block around it.

    One ``is_over`` bounds nothing, wherever it was left behind.
    """

    owner: object
    at: float
    outer: _Bound | None
    is_over: bool = False


# Inherited by every task that is begun within a block.
_bounds: ContextVar[_Bound | None] = ContextVar("elluminate_async_bounds", default=None)


def bounded_at(owner: object) -> float:
    """`time.monotonic` at which a call of ``owner``'s that begins here must end; inf for never."""
    bound = _bounds.get()
    while bound is not None and (bound.is_over or bound.owner is not owner):
        bound = bound.outer
    return math.inf if bound is None else bound.at


@asynccontextmanager
async def holding(lock: anyio.Lock, policy: Policy) -> AsyncGenerator[None]:
    """Hold ``lock``; the wait for it ends with the policy's deadline.

    Raises:
        DeadlineError: Another call held it for longer.
    """
    with anyio.move_on_after(policy.remaining()) as scope:
        await lock.acquire()
    if scope.cancelled_caught:
        raise deadline_passed("while another call was at the same work")
    try:
        yield
    finally:
        lock.release()


class Deadline:
    """One deadline for all of a client's calls within a block, from `AsyncClient.deadline`.

    Entering starts its clock. Entered again after its block, it starts anew; while it is in force
    that is an `InputError`. By ``with`` it is for a synchronous program: it bounds the calls that
    its thread has a portal make.
    """

    def __init__(self, owner: object, seconds: float) -> None:
        self._owner = owner
        self._seconds = checked_seconds(seconds, "a deadline")
        self._outer: _Bound | None = None
        self._bound: _Bound | None = None
        self._is_in_force = False
        self._task: asyncio.Task[Any] | None = None

    def remaining(self) -> float:
        """Seconds left for calls, by a shorter one around it too; 0.0 once it has passed.

        Before it is entered, those that it gives at most.
        """
        if self._bound is None:
            return self._seconds
        return max(0.0, self._bound.at - time.monotonic())

    async def __aenter__(self) -> Self:
        running_loop("a deadline")
        frame = inspect.currentframe()
        caller = None if frame is None else frame.f_back
        # Its task is not one that the calls of the block are made in, nor made from.
        if caller is not None and caller.f_globals.get("__name__") == _PORTAL:
            raise InputError(
                "a deadline that a portal enters bounds nothing: in the thread that calls the "
                "portal write `with client.deadline(...):`, without wrap_async_context_manager"
            )
        return self._enter()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __enter__(self) -> Self:
        return self._enter()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _enter(self) -> Self:
        if self._is_in_force:
            raise InputError(
                "this deadline is in force already, here or in another task: begin one of its own "
                "by client.deadline(...) in each block"
            )
        self._is_in_force = True
        self._outer = _bounds.get()
        at = min(time.monotonic() + self._seconds, bounded_at(self._owner))
        self._bound = _Bound(self._owner, at, self._outer)
        _bounds.set(self._bound)
        self._task = _current_task()
        return self

    def _leave(self) -> None:
        self._is_in_force = False
        # No token: a generator, such as a fixture, may be left in another context than entered.
        # There it stays behind, as where two are not left in turn.
        assert self._bound is not None, "entered"
        is_innermost = _bounds.get() is self._bound
        if is_innermost:
            _bounds.set(self._outer)
        self._bound.is_over = not is_innermost or _current_task() is not self._task
        self._task = None

    def __repr__(self) -> str:
        return f"<Deadline {self.remaining():.3g} s left>"


def _current_task() -> asyncio.Task[Any] | None:
    """None in a thread without an event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
