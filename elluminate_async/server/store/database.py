"""One SQLite file: one writer, a few readers, and one server at a time."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError

from elluminate_async.errors import ConfigurationError
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import tables, upgrading
from elluminate_async.server.store.inspection import prepare
from elluminate_async.server.store.listed_figures import READS_ONLY
from elluminate_async.server.store.locking import FileLock
from elluminate_async.server.store.trouble import Gate, problem_of
from elluminate_async.server.store.wire_json import dump, read_json
from elluminate_async.server.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4
BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for the lock of another process."""


class Database:
    """An open database.

    A transaction is one trip to a thread that runs ordinary SQLAlchemy: a driver that goes
    there and back for each statement, as the asyncio ones for SQLite do, took about twice
    as long for a batch.

    Every statement runs inside `read` or `write`. A transaction, once begun, ends by
    itself even when the caller is cancelled: then its result is dropped, not its work.

    Attributes:
        server_id: Made with the tables, and kept with them wherever they are served.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self.server_id = ""
        self._durable = durable
        self._lock: FileLock | None = None
        self._running: set[asyncio.Future[Any]] = set()
        self._gate = Gate()
        self._writer = Writer(self._engine("BEGIN IMMEDIATE", connections=1))
        self._readers = self._engine("BEGIN", connections=_READERS)
        self._reading = ThreadPoolExecutor(_READERS, "elluminate-reader")

    async def open(self) -> None:
        """Take the file and make or check its tables.

        Raises:
            ConfigurationError: Another server has the file, it is of another version, of
                another program, damaged, or no database.
        """
        self._lock = FileLock(self.path)
        try:
            await asyncio.get_running_loop().run_in_executor(self._reading, prepare, self.path)
            self._lock.hold()
            self.server_id = await self.write(_migrate)
        except Problem as problem:
            await self.close()
            raise ConfigurationError(f"{self.path} cannot be used: {problem.detail}") from None
        except DatabaseError as error:
            await self.close()
            raise ConfigurationError(f"{self.path} cannot be used: {error.orig}") from None
        except BaseException:
            await self.close()
            raise

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` on one snapshot of the data."""

        def run() -> T:
            with self._readers.connect() as connection:
                return work(connection, *args, **kwargs)

        return await self._finish(asyncio.get_running_loop().run_in_executor(self._reading, run))

    def require_writable(self) -> None:
        """Refuse what is to be written later, and costs something before.

        Raises:
            TroubleError: Writing failed a moment ago.
        """
        self._gate.check(asyncio.get_running_loop().time())

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work`` on its own, committed when this returns.

        What fails takes back all its statements, and none of others.

        Raises:
            TroubleError: The file is locked by another process, or its disk is full; also at
                once, while that is known.
        """
        return await self._write(partial(_call, work, args, kwargs), None)

    async def write_then(
        self,
        after: Callable[[T], None],
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like `write`; ``after`` gets the result once it is committed, cancelled or not."""
        return await self._write(partial(_call, work, args, kwargs), after)

    async def close(self) -> None:
        """Let transactions end, close the connections and give the file back."""
        while self._running:
            await asyncio.wait(self._running)
        self._reading.shutdown()
        self._readers.dispose()
        self._writer.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _write(self, work: Callable[[Connection], T], after: Callable[[T], None] | None) -> T:
        clock = asyncio.get_running_loop().time
        self._gate.check(clock())
        self._gate.begun()
        writing = self._writer.submit(work, after)
        writing.add_done_callback(lambda ended: self._gate.ended(ended.exception(), clock()))
        return await self._finish(writing)

    async def _finish(self, running: asyncio.Future[T]) -> T:
        self._running.add(running)
        running.add_done_callback(self._forget)
        try:
            return await asyncio.shield(running)
        except DatabaseError as error:
            if (problem := problem_of(error)) is not None:
                raise problem from error
            raise

    def _forget(self, ended: asyncio.Future[Any]) -> None:
        self._running.discard(ended)
        if not ended.cancelled():
            ended.exception()  # seen, in case the caller is gone

    def _engine(self, begin: str, *, connections: int) -> Engine:
        engine = create_engine(
            # In parts: as a text, a question mark in a folder's name would end the path.
            URL.create("sqlite", database=str(self.path)),
            pool_size=connections,
            max_overflow=0,
            execution_options={READS_ONLY: begin == "BEGIN"},
            hide_parameters=True,
            json_serializer=dump,
            json_deserializer=read_json,
        )

        def connected(dbapi_connection: Any, _record: object) -> None:
            # The driver would begin transactions on its own, and too late.
            dbapi_connection.isolation_level = None
            cursor = dbapi_connection.cursor()
            for pragma in (
                f"busy_timeout={BUSY_TIMEOUT_MS}",
                "journal_mode=WAL",
                f"synchronous={'FULL' if self._durable else 'OFF'}",
                "foreign_keys=ON",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", begun)
        return engine


def _call(
    work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection
) -> T:
    return work(connection, *args, **kwargs)


def _migrate(connection: Connection) -> str:
    """Make the tables, or bring them up to date; the server's id."""
    upgrading.bring_up_to_date(connection)
    of_server = select(tables.meta.c.value).where(tables.meta.c.name == "server_id")
    server_id = connection.execute(of_server).scalar()
    if server_id is None:
        server_id = secrets.token_hex(16)
        connection.execute(insert(tables.meta), {"name": "server_id", "value": server_id})
    return str(server_id)
