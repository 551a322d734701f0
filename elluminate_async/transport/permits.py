"""Connections in use: calls, control requests and event streams do not starve each other."""

from __future__ import annotations

from enum import Enum
from typing import Final

import anyio

RESERVED: Final = 2
"""Connections that stay for control requests when calls take all others, and the reverse."""


class Lane(Enum):
    """The purpose of a connection."""

    CALL = "call"
    """A request that makes the service work: of any other method."""

    CONTROL = "control"
    """A GET or a DELETE: a job's status or its end, a page of a listing."""

    STREAM = "stream"
    """An event stream, for as long as its job runs."""


class ConnectionPermits:
    """Permits for connections; in each lane first come, first served.

    Calls and control requests share ``connections``, and neither may take the last `RESERVED`
    of them, fewer where there are less than five. Streams have as many of their own: they are
    held for minutes, and while one is open its job sends nothing else.
    """

    def __init__(self, connections: int) -> None:
        most = connections - min(RESERVED, (connections - 1) // 2)
        self._lanes = {
            Lane.CALL: anyio.Semaphore(most),
            Lane.CONTROL: anyio.Semaphore(most),
            Lane.STREAM: anyio.Semaphore(connections),
        }
        self._shared = anyio.Semaphore(connections)
        self._held = 0

    @property
    def held(self) -> int:
        """Permits that are out."""
        return self._held

    def try_acquire(self, lane: Lane) -> bool:
        """Take a permit, if one can be had at once."""
        try:
            self._lanes[lane].acquire_nowait()
        except anyio.WouldBlock:
            return False
        if lane is not Lane.STREAM:
            try:
                self._shared.acquire_nowait()
            except anyio.WouldBlock:
                self._lanes[lane].release()
                return False
        self._held += 1
        return True

    async def acquire(self, lane: Lane) -> None:
        """Wait for a permit."""
        await self._lanes[lane].acquire()
        if lane is not Lane.STREAM:
            try:
                # Who holds a place in its lane waits here only while the other lane holds
                # more than its reserve.
                await self._shared.acquire()
            except BaseException:
                self._lanes[lane].release()
                raise
        self._held += 1

    def release(self, lane: Lane) -> None:
        """Give a permit back."""
        self._held -= 1
        if lane is not Lane.STREAM:
            self._shared.release()
        self._lanes[lane].release()
