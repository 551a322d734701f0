"""Calls of models that several jobs want: each is made once, for as long as any of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Wanted:
    """Something that some jobs want.

    Attributes:
        jobs: How many do.
        calls: Made so far for it, one after another.
    """

    jobs: int = 0
    calls: list[asyncio.Task[Any]] = field(default_factory=list["asyncio.Task[Any]"])


class SharedCalls:
    """The calls for jobs that run, by what they are for.

    A job says what it wants after it has read what is left to do. Another job may have kept its
    answer, and ended, in between: so what is answered stays known to who was reading then.

        with shared.job() as job:
            plan = await read()
            shared.want(job, plan.keys)
            answer = await shared.made(key, 0, make)  # once, whichever job comes first
            await keep(answer)
            shared.leave(job, [key])
    """

    def __init__(self) -> None:
        self._wanted: dict[Hashable, _Wanted] = {}
        self._keys: dict[object, set[Hashable]] = {}
        self._reading: set[object] = set()
        # What no job wants, with those that were reading when the last one left.
        self._left: dict[Hashable, set[object]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The calls under way, and those that have yet to end since they were cancelled."""
        return set(self._tasks)

    @contextmanager
    def job(self) -> Generator[object]:
        """Around a job, from before it reads what is left to do; it wants nothing afterwards."""
        job = object()
        self._reading.add(job)
        try:
            yield job
        finally:
            self._has_read(job)
            self.leave(job, self._keys.get(job, ()))
            self._keys.pop(job, None)

    def want(self, job: object, keys: Iterable[Hashable]) -> None:
        """These are wanted, and nothing else will be: it has read."""
        if wanted := set(keys):
            self._keys[job] = wanted
            for key in wanted:
                self._wanted.setdefault(key, _Wanted()).jobs += 1
        self._has_read(job)

    def leave(self, job: object, keys: Iterable[Hashable]) -> None:
        """Of these the answers are kept, or not wanted any more."""
        own = self._keys.get(job, set[Hashable]())
        for key in own.intersection(keys):
            own.discard(key)
            wanted = self._wanted[key]
            wanted.jobs -= 1
            if wanted.jobs:
                continue
            self._left[key] = set(self._reading)
            self._drop_unknown(key)

    async def made(
        self, key: Hashable, number: int, make: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """The answer of the call of this number, from 0, for what the job that asks wants."""
        calls = self._wanted[key].calls
        if number == len(calls):
            task = asyncio.get_running_loop().create_task(make(), name=f"shared call for {key}")
            calls.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return await asyncio.shield(calls[number])

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where every job has left

    def _has_read(self, job: object) -> None:
        if job not in self._reading:
            return
        self._reading.discard(job)
        for key, readers in [*self._left.items()]:
            readers.discard(job)
            self._drop_unknown(key)

    def _drop_unknown(self, key: Hashable) -> None:
        """Forget what no job wants, or may find that it does; a call for it is abandoned."""
        if self._left[key]:
            return
        del self._left[key]
        if not self._wanted[key].jobs:
            for task in self._wanted.pop(key).calls:
                task.cancel()
