"""`Caller`: one caller's part in a shared call."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio

from elluminate_async.errors import ElluminateError, ItemError

if TYPE_CHECKING:
    from elluminate_async.batch import Outcome
    from elluminate_async.engine.memory import Memory

R = TypeVar("R")
E = TypeVar("E", bound=BaseException)


class Shared(Protocol[R]):
    """A shared call, as its callers know it."""

    def leave(self, caller: Caller[R]) -> None:
        """Wait for nothing more on behalf of ``caller``."""
        ...

    def lateness_of(self, caller: Caller[R]) -> ElluminateError:
        """The error of a caller whose deadline has passed."""
        ...


class Caller(Generic[R]):
    """One caller's part in a shared call.

    Args:
        call: The shared call.
        own: Positions there to those that the caller knows.
        deadline_at: `time.monotonic` at which the caller waits no longer.
        memory: Is told of chunks whose outcomes are unknown, where the caller can retry.
        may_go_alone: Whether it goes by itself, where nobody else comes.
    """

    def __init__(
        self,
        call: Shared[R],
        own: Mapping[int, int],
        deadline_at: float,
        *,
        memory: Memory | None,
        may_go_alone: bool,
    ) -> None:
        self.deadline_at = deadline_at
        self.memory = memory
        self.own = own
        self.may_go_alone = may_go_alone
        self.left = set(own)
        self._call: Shared[R] | None = call
        self._came: deque[tuple[int, Outcome[R], ElluminateError | None]] = deque()
        self._error: BaseException | None = None
        self._news = anyio.Event()

    def take(self, position: int, outcome: Outcome[R], cause: ElluminateError | None) -> None:
        """Take the outcome of a position there, and the error that it comes from."""
        self.left.discard(position)
        own = self.own[position]
        if isinstance(outcome, ItemError):
            # Each has its own: what is raised gets the frames of who raises it.
            outcome = copy.copy(outcome)
            outcome.position = own
        self._came.append((own, outcome, None if cause is None else twin_of(cause)))
        self._news.set()

    def end(self, error: BaseException) -> None:
        """Nothing more will come, because of ``error``."""
        self._error = error
        self._news.set()

    def go_alone(self) -> None:
        """Nobody else came, and nothing was sent: there are no outcomes."""
        self.left.clear()
        self._news.set()

    async def outcomes(self) -> AsyncGenerator[tuple[int, Outcome[R], ElluminateError | None]]:
        """The caller's positions with their outcomes and what these come from, as they come.

        Raises:
            DeadlineError, OutcomeUnknownError: The deadline passed.
            ElluminateError: The error that ended the shared call; a copy for this caller.
        """
        try:
            while True:
                while self._came:
                    yield self._came.popleft()
                if self._error is not None:
                    break
                if not self.left:
                    return
                self._news = anyio.Event()
                if not await self._waited():
                    assert self._call is not None
                    self._error = self._call.lateness_of(self)
        finally:
            if self._call is not None:
                self._call.leave(self)
                # An error is raised out of here with this frame.
                self._call = None
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error

    async def _waited(self) -> bool:
        """Wait for something new; False when the deadline came first."""
        with anyio.move_on_after(self.deadline_at - time.monotonic()):
            await self._news.wait()
        return self._news.is_set()


def twin_of(error: E) -> E:
    """The same error for one of several who raise it, without the frames of another's."""
    try:
        twin = copy.copy(error)
    except Exception:
        # Not one of this package's, and of a kind that cannot be made again.
        return error
    return twin.with_traceback(None)
