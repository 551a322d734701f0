"""`FileShare`: the processes of one machine keep a limit together, in a small file."""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeVar

import anyio

from elluminate_async.batch.share import (
    LONGEST_NAME,
    Reservation,
    SharedPace,
    ShareState,
    Slots,
    is_name,
)
from elluminate_async.batch.share_table import ShareTable, Taken
from elluminate_async.errors import ConfigurationError
from elluminate_async.errors.arguments import shown
from elluminate_async.limits import share_record

_HAS_LOCKS: Final = find_spec("fcntl") is not None

T = TypeVar("T")

_LOCK_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.005
_FOR_GOOD: Final = {
    errno.EACCES: "it may not be read and written by this user",
    errno.EPERM: "it may not be read and written by this user",
    errno.EROFS: "it is on a file system that is read only",
    errno.EISDIR: "it is a directory",
    errno.ENOENT: "its directory does not exist",
    errno.ENOTDIR: "what should be its directory is none",
    errno.ELOOP: "its links lead nowhere",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOLCK: "its file system has no locks: put it on a local disk",
    errno.ENOTSUP: "its file system has no locks: put it on a local disk",
}


class FileShare:
    """Limits that the processes of one machine keep together, as the workers of a server do.

    Give it to `BatchOptions.share`, in each of the processes alike::

        options = BatchOptions(rate_limit=RateLimit(20, 2.0), share=FileShare("/run/app/limits"))

    The file is made when it is first needed, and may be deleted while nobody works: it has only
    what the present boot of the machine needs. It is to be on a local disk, and takes no
    more than 33 KB. A process may be killed at any moment. Not on Windows.

    Args:
        path: Of the file. Its directory must exist.
        name: Of the limits: who gives the same name shares them. One file has 64 names at most.

    Attributes:
        path: Of the file, absolute.
        name: Of the limits.

    Raises:
        ConfigurationError: A path or a name that cannot be one, or a system without ``flock``.
    """

    def __init__(self, path: str | Path, name: str = "default") -> None:
        if not _HAS_LOCKS:
            raise ConfigurationError(
                "FileShare needs the locks of files that Linux and macOS have: use a RedisShare"
            )
        self.path = _checked_path(path)
        self.name = _checked_name(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileShare):
            return NotImplemented
        return (self.path, self.name) == (other.path, other.name)

    def __hash__(self) -> int:
        return hash((self.path, self.name))

    def __repr__(self) -> str:
        return f"FileShare({str(self.path)!r}, name={self.name!r})"

    async def reserve(
        self, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Reservation:
        """Take slots, see `LimitShare.reserve`."""

        def reserve(table: ShareTable, now: float) -> tuple[Taken, float]:
            taken = table.reserve(now, wanted, earliest=earliest, latest=latest)
            return taken, now + taken.delay

        taken, start = await self._changed(reserve)
        # The clock is one for all processes: nothing is uncertain.
        return Reservation(taken.is_taken, start - time.monotonic(), taken.hold, 0.0)

    async def hold(self, seconds: float) -> None:
        """Give no slots away for so long; a longer hold in force stays."""
        await self._changed(lambda table, now: table.hold(now, seconds))

    async def held(self) -> float:
        """Seconds left of a hold; 0 for none."""
        return await self._changed(lambda table, now: table.hold_left(now))

    async def pace(self, *, accepted: int = 0, refused: float | None = None) -> SharedPace:
        """Count, and tell the pace, see `LimitShare.pace`."""
        return await self._changed(lambda table, now: table.pace(now, accepted, refused))

    async def state(self) -> ShareState:
        """The state now; neither the file nor anything in it is changed."""
        began = time.monotonic()
        table = ShareTable()
        with self._told_for_good():
            try:
                file = _open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                os.stat(self.path.parent)
            else:
                try:
                    table, _ = self._read(file)
                finally:
                    os.close(file)
        now = time.monotonic()
        ahead = {limit: end - now for limit, end in table.ends.items()}
        return ShareState(now - began, ahead, table.hold_left(now), table.pace(now))

    async def aclose(self) -> None:
        """Nothing is open between calls."""

    async def _changed(self, change: Callable[[ShareTable, float], T]) -> T:
        """Change the state by what nobody else does at the same time.

        Nothing is waited for in between, and it takes some microseconds.
        """
        with self._told_for_good():
            async with self._locked() as file:
                table, at = self._read(file)
                now = time.monotonic()
                result = change(table, now)
                record = share_record.record_of(self.name, table, _boot(), now)
                if at == len(share_record.MAGIC):
                    record, at = share_record.MAGIC + record, 0
                if os.pwrite(file, record, at) != len(record):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                return result

    @asynccontextmanager
    async def _locked(self) -> AsyncGenerator[int]:
        """The file, opened for this call alone and locked.

        A lock belongs to who opened the file, and would be one for a process and its forks and
        threads. Waiting for it would stop the event loop, so it is tried.
        """
        until, pause = time.monotonic() + _LOCK_SECONDS, _FIRST_PAUSE
        while True:
            file = _open(self.path, os.O_RDWR | os.O_CREAT)
            try:
                if _try_lock(file):
                    try:
                        if _is_at(self.path, file):
                            yield file
                            return
                        # It was deleted meanwhile: others have a new one.
                    finally:
                        _unlock(file)
            finally:
                os.close(file)
            if time.monotonic() > until:
                raise TimeoutError(f"{self.path} is kept locked by a process that does not go on")
            await anyio.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, file: int) -> tuple[ShareTable, int]:
        """The state, and where its record belongs."""
        content = os.pread(file, share_record.MOST_BYTES + 1, 0)
        if not share_record.is_ours(content):
            raise ConfigurationError(
                f"{self.path} is no file of a FileShare, and is left as it is: name another one"
            )
        at = share_record.offset_of(content, self.name)
        if at is None:
            raise ConfigurationError(
                f"{self.path} has limits of {share_record.MOST_RECORDS} names, and has no room for "
                f"{self.name!r}: use another file, or delete it while nobody works"
            )
        record = content[at : at + share_record.RECORD_BYTES]
        return share_record.table_in(record, _boot(), time.monotonic()) or ShareTable(), at

    @contextmanager
    def _told_for_good(self) -> Generator[None]:
        """An error that asking again does not mend becomes `ConfigurationError`."""
        try:
            yield
        except OSError as error:
            why = _FOR_GOOD.get(error.errno or 0)
            if why is None:
                if error.filename is None and error.errno is not None:
                    # Of what was opened the system tells no path.
                    raise type(error)(error.errno, error.strerror, str(self.path)) from error
                raise
            raise ConfigurationError(
                f"{self.path} cannot be the file of a share: {why} ({error.strerror})"
            ) from None


def _checked_path(path: object) -> Path:
    if not isinstance(path, str | Path) or not str(path):
        raise ConfigurationError(f"FileShare: path must be that of a file, not {shown(path)}")
    # Wherever a process that it is given to works.
    return Path(path).absolute()


def _checked_name(name: object) -> str:
    if not is_name(name):
        raise ConfigurationError(
            f"FileShare: name must be a text of 1 to {LONGEST_NAME} characters, not {shown(name)}"
        )
    return name


@cache
def _boot() -> bytes:
    """This boot of the machine, as far as the system tells."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return blake2b(boot, digest_size=16).digest()
    return bytes(16)


def _open(path: Path, flags: int) -> int:
    # A pipe would be waited for, and a device keeps nothing.
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ConfigurationError(f"{path} is no regular file: name another one, or none yet")
    return file


def _try_lock(file: int) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(file: int) -> None:
    import fcntl

    # Closing alone would not do, where a thread forked meanwhile.
    fcntl.flock(file, fcntl.LOCK_UN)


def _is_at(path: Path, file: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file))
