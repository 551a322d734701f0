"""One server at a time on a database, by whatever name its file is opened.

The lock is on the file itself, not on one beside it that somebody may delete: a symbolic or
hard link leads to the same lock. It is on a byte that SQLite never locks.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, Final

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_FAR_AWAY: Final = 1 << 40  # SQLite locks bytes from 2**30 on, and no database is so large

_in_use: set[tuple[int, int]] = set()
_guard = threading.Lock()


class FileLock:
    """A database file that this server has, until `release`.

    Args:
        path: The file; made for its owner's eyes only where it is missing.

    Raises:
        ConfigurationError: Another server has it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._identity = _claim(path)
        except OSError as error:
            raise _closed(path, error) from None
        try:
            # Open until SQLite's connections are closed, as its locks may go with it too.
            self._descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            _give_back(self._identity)
            raise _closed(path, error) from None
        try:
            self.hold()
        except BaseException:
            self.release()
            raise

    def hold(self) -> None:
        """Take the lock of other processes, where it went when a connection was closed.

        Of some systems' locks on a file all go with the first descriptor that is closed.
        """
        if not _lock(self._descriptor):
            raise _taken(self._path)

    def release(self) -> None:
        """Let others have the file."""
        os.close(self._descriptor)
        _give_back(self._identity)


def _claim(path: Path) -> tuple[int, int]:
    """Keep the other servers of this process off."""
    # By its status: to open and close the file would take SQLite's locks from the one that
    # has it.
    with _guard:
        try:
            status = path.stat()
        except FileNotFoundError:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            status = path.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in _in_use:
            raise _taken(path)
        _in_use.add(identity)
    return identity


def _give_back(identity: tuple[int, int]) -> None:
    with _guard:
        _in_use.discard(identity)


def _closed(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be opened: {error.strerror}")


def _taken(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is in use by another server; stop that one or choose another file"
    )


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR_AWAY, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

elif sys.platform == "linux":
    import fcntl

    def _lock(descriptor: int) -> bool:
        # Of the open file, not of the process: it stays when SQLite closes the file.
        wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _FAR_AWAY, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

else:  # pragma: no cover
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR_AWAY)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True
