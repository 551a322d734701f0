"""A worker whose client's loop has a heartbeat, and notes how late it is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.ray_jobs.libraries import pa
from elluminate_async import AsyncClient
from elluminate_async.integrations.blocks import BlockWork
from elluminate_async.integrations.ray.worker import Worker
from elluminate_async.integrations.stage import Connect

SECONDS = 0.01
"""Between two beats."""


class Heart(Worker):
    """Adds columns of milliseconds: how late the latest beat was since the block before.

    ``late_ms`` is by the clock, and ``own_ms`` of that at most the CPU time that the worker used
    since the beat before: the rest is the machine's, which had others to run.
    """

    def __init__(self, work: BlockWork, connect: Connect) -> None:
        super().__init__(work, connect)
        self._beating: asyncio.Task[None] | None = None
        self._late = self._own = 0.0

    def __call__(self, table: Any) -> Any:
        """A block, with what the heart has done meanwhile."""
        self.stage.call(self._begin)
        done = super().__call__(table)
        late, own = self._late, self._own
        self._late = self._own = 0.0
        for name, seconds in (("late_ms", late), ("own_ms", own)):
            cells = pa.array([1_000 * seconds] * len(done), pa.float64())
            done = done.append_column(name, cells)
        return done

    async def _begin(self, _: AsyncClient) -> None:
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + SECONDS, time.process_time()
            await asyncio.sleep(SECONDS)
            late, used = loop.time() - due, time.process_time() - used
            self._late = max(self._late, late)
            self._own = max(self._own, min(late, used))
