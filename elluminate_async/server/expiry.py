"""Expiry of idempotency keys, and of jobs that have ended."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from elluminate_async.server.store import expired
from elluminate_async.server.store.rows import now
from elluminate_async.server.store.trouble import until_it_works

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from elluminate_async.server.store.database import Database

_LOG = logging.getLogger(__name__)

KEY_AGE: Final = timedelta(days=7)
"""For so long a repeated request gets the answer that its idempotency key got."""
JOB_AGE: Final = timedelta(days=30)
"""For so long after its end a job's status is told; its responses and ratings stay."""
INTERVAL: Final = 3600.0
"""Seconds between two looks for what is too old."""
_BREATHER = 0.05


class Expiry:
    """Removes in the background what is too old, a little at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look now, and every hour."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="expiry")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.remove()
            except Exception:
                _LOG.exception("what is too old could not be removed")
            await asyncio.sleep(INTERVAL)

    async def remove(self) -> None:
        """Remove what is too old; between two slices others write."""
        keys, jobs = now() - KEY_AGE, now() - JOB_AGE

        def remove() -> Awaitable[bool]:
            return self._database.write(expired.remove, keys, jobs)

        while await until_it_works(remove):  # noqa: ASYNC110
            await asyncio.sleep(_BREATHER)
