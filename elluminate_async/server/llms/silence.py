"""An end for calls that say nothing more: one timer for all of them."""

from __future__ import annotations

import asyncio
import math
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Listening:
    """The time of one call; enter it around the call, in the task that makes it.

    Attributes:
        has_begun: Whether anything was heard.
        is_over: Whether the call was ended for its silence, or for its length.
    """

    __slots__ = (
        "_cancelling",
        "_latest",
        "_limit",
        "_task",
        "_watch",
        "due",
        "has_begun",
        "is_over",
    )

    def __init__(self, watch: SilenceWatch, limit: float, longest: float) -> None:
        now = watch.now()
        self._watch = watch
        self._limit = limit
        self._latest = now + longest
        self.due = now + min(limit, longest)
        self.has_begun = False
        self.is_over = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def heard(self) -> None:
        """Allow as much silence again."""
        self.has_begun = True
        self.due = min(self._latest, self._watch.now() + self._limit)

    def end(self) -> None:
        """Cancel the call, which then raises `TimeoutError`."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> Listening:
        self._task = task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is listened to in a task only")
        self._cancelling = task.cancelling()
        self._watch.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.remove(self)
        task, self._task = self._task, None
        # As `asyncio.timeout` does: another's cancellation goes on as what it is.
        is_own = self.is_over and task is not None and task.uncancel() <= self._cancelling
        if is_own and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error


class SilenceWatch:
    """Looks after all calls of a server with one timer.

    `asyncio.timeout` sets and cancels a timer for each call, which costs as much as all else
    that the server does for it. Here the timer is set for the call that is due first, and
    only when it fires are the others looked at.
    """

    def __init__(self) -> None:
        self._calls: set[Listening] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    @cached_property
    def now(self) -> Callable[[], float]:
        """The clock of the loop it is first used in."""
        return asyncio.get_running_loop().time

    def listen(self, limit: float, longest: float) -> Listening:
        """Allow a call ``limit`` seconds of silence and ``longest`` seconds in all."""
        return Listening(self, limit, longest)

    def add(self, call: Listening) -> None:
        """Look after a call as well."""
        self._calls.add(call)
        if call.due < self._fires_at:
            self._set(call.due)

    def remove(self, call: Listening) -> None:
        """Leave it alone from now on."""
        self._calls.discard(call)

    def close(self) -> None:
        """Give the timer back."""
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fires_at = math.inf

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        self._timer, self._fires_at = None, math.inf
        now = self.now()
        for call in [one for one in self._calls if one.due <= now]:
            self._calls.discard(call)
            call.end()
        if self._calls:
            self._set(min(call.due for call in self._calls))
