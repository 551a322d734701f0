"""The machine's trouble with the database file: locked by another process, no room, damage."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.exc import DBAPIError

from elluminate_async.server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
_RETRY_SECONDS = 1
_NO_ROOM_RETRY_SECONDS = 5

_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        # What a quota and a limit on a file's size give, where a full disk gives the one above.
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class TroubleError(Problem):
    """The database cannot do it now, and can when the trouble is over. Nothing was changed."""


class DamageError(Problem):
    """The database file is damaged where it was read."""


def problem_of(error: BaseException) -> Problem | None:
    """The trouble of the machine behind a database error; None for any other error."""
    if not isinstance(error, DBAPIError) or not isinstance(error.orig, sqlite3.Error):
        return None
    code = getattr(error.orig, "sqlite_errorcode", 0)
    if code in _NO_ROOM:
        return TroubleError(
            507,
            "there is no room for the database: make some on its disk, and the server goes on",
            headers={"Retry-After": str(_NO_ROOM_RETRY_SECONDS)},
        )
    if code & 0xFF in _PASSING:
        return TroubleError(
            503,
            f"the database is not to be had now ({error.orig}): another process may hold its "
            "lock; the server goes on when it is given back",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    if code & 0xFF in _DAMAGE:
        return DamageError(503, f"{error.orig}: {WAY_OUT}", headers={"Retry-After": "3600"})
    return None


WAY_OUT: Final = (
    "stop the server, put a copy of the file away, and restore a backup, or save what is readable "
    "with the sqlite3 program: sqlite3 damaged.db .recover | sqlite3 saved.db"
)


def pauses() -> Iterator[float]:
    """The waits between tries, for as long as it takes."""
    for doublings in itertools.count():
        yield min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(doublings, 16))


async def until_it_works(attempt: Callable[[], Awaitable[T]]) -> T:
    """Await ``attempt``, again with back-off as long as the machine is in trouble."""
    for pause in pauses():
        try:
            return await attempt()
        except TroubleError:
            await asyncio.sleep(pause)
    raise AssertionError("the pauses have no end")


class Gate:
    """Lets requests that write in, while writing works.

    After a write that failed by trouble, one write a second is tried; the others are refused at
    once, instead of each waiting for a lock that is not given back.
    """

    def __init__(self) -> None:
        self._trouble: TroubleError | None = None
        self._next_try = 0.0
        self._at_work = 0

    def check(self, now: float) -> None:
        """Refuse a request that writes.

        Raises:
            TroubleError: Writing failed a moment ago, or is being tried again.
        """
        if self._trouble is not None and (self._at_work or now < self._next_try):
            known = self._trouble
            raise TroubleError(known.status, known.detail, headers=known.headers)

    def begun(self) -> None:
        """A write is under way."""
        self._at_work += 1

    def ended(self, error: BaseException | None, now: float) -> None:
        """A write has ended, well or not."""
        self._at_work -= 1
        problem = None if error is None else problem_of(error)
        if isinstance(problem, TroubleError):
            if self._trouble is None:
                _LOG.warning("the database cannot be written: %s", problem.detail)
            self._trouble, self._next_try = problem, now + _RETRY_SECONDS
        elif error is None and self._trouble is not None:
            _LOG.warning("the database can be written again")
            self._trouble = None
