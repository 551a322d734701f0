"""A lock on an open file that ends with its process, however that ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

if sys.platform == "win32":
    import msvcrt

    _FAR_AWAY = 1 << 40  # a locked range keeps others from reading it, so none of the content

    def lock_file(descriptor: int) -> bool:
        """Take the lock; False when somebody else has it."""
        os.lseek(descriptor, _FAR_AWAY, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def unlock_file(descriptor: int) -> None:
        """Give the lock back, also where other descriptors of the same opening stay open."""
        os.lseek(descriptor, _FAR_AWAY, os.SEEK_SET)
        with suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock_file(descriptor: int) -> bool:
        """Take the lock; False when somebody else has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock_file(descriptor: int) -> None:
        """Give the lock back, also where other descriptors of the same opening stay open."""
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
