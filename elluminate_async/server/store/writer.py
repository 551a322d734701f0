"""The one writer: what waits to be written at the same time is committed together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

T = TypeVar("T")

_LONGEST_GROUP_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class _Write:
    work: Callable[[Connection], Any]
    after: Callable[[Any], None] | None
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class _UndoneError(Exception):
    """One write made the database take back the whole transaction, as a full disk does."""


class Writer:
    """Runs writes one after another, in the order in which they came.

    A commit waits for the disk; what comes meanwhile shares the next one. A write that
    fails takes back its own statements only.

    Args:
        engine: Of one connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "elluminate-writer")
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._is_working = False

    def submit(
        self, work: Callable[[Connection], T], after: Callable[[T], None] | None
    ) -> asyncio.Future[T]:
        """Have ``work`` done; ``after`` gets its result once it is committed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._waiting.append(_Write(work, after, done))
            is_idle, self._is_working = not self._is_working, True
        if is_idle:
            self._thread.submit(self._drain, loop)
        return done

    def close(self) -> None:
        """End the thread; nothing may wait any more."""
        self._thread.shutdown()
        self._engine.dispose()

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_working = False
                    return
                group = list(self._waiting)
                self._waiting.clear()
            try:
                taken = self._commit(group)
            except _UndoneError:
                taken = self._commit_each(group)
            except Exception as error:
                taken = len(group)
                for write in group:
                    write.error = write.error or error
            if rest := group[taken:]:
                with self._lock:
                    self._waiting.extendleft(reversed(rest))
            loop.call_soon_threadsafe(_tell, group[:taken])

    def _commit(self, group: Sequence[_Write]) -> int:
        """Commit as many of the group as the time of one transaction allows, at least one."""
        until = time.monotonic() + _LONGEST_GROUP_SECONDS
        taken = 0
        with self._engine.connect() as connection, connection.begin() as transaction:
            for write in group:
                if taken and time.monotonic() > until:
                    break
                taken += 1
                if len(group) > 1:
                    _run_within(connection, write)
                    continue
                try:
                    write.result = write.work(connection)
                except Exception as error:
                    write.error = error
                    transaction.rollback()
        return taken

    def _commit_each(self, group: Sequence[_Write]) -> int:
        for write in group:
            write.result = write.error = None
            try:
                self._commit([write])
            except Exception as error:
                write.error = write.error or error
        return len(group)


def _run_within(connection: Connection, write: _Write) -> None:
    connection.exec_driver_sql("SAVEPOINT one_write")
    try:
        write.result = write.work(connection)
    except Exception as error:
        write.error = error
        if not cast("sqlite3.Connection", connection.connection.dbapi_connection).in_transaction:
            raise _UndoneError from error
        connection.exec_driver_sql("ROLLBACK TO one_write")
    connection.exec_driver_sql("RELEASE one_write")


def _tell(group: Sequence[_Write]) -> None:
    for write in group:
        error = write.error
        if error is None and write.after is not None:
            try:
                write.after(write.result)
            except Exception as failed:
                error = failed
        if error is None:
            write.done.set_result(write.result)
        else:
            write.done.set_exception(error)
