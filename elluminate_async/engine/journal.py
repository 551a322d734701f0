"""The journal of one call, on the disk before it matters.

An intent is on the disk before its request leaves, so that whatever happens to the process,
the disk knows of everything that may have been paid for. The rest is written and not waited
for, as the service can tell it again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from typing import TYPE_CHECKING, Any, Self

import anyio

from elluminate_async.engine.chunks import CLEAN_UP_SECONDS
from elluminate_async.engine.filelock import lock_file, unlock_file
from elluminate_async.engine.journal_state import JournalState
from elluminate_async.engine.records import (
    CONTENT,
    FORMAT,
    Header,
    Record,
    check_header,
    decode_record,
    encode_record,
)
from elluminate_async.engine.threads import run_to_end
from elluminate_async.errors import ItemError, JournalError

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_HEADER = 65_536  # bytes; it holds ids and names
_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would write each line end as two bytes


class Journal:
    """A journal that is open for writing, and locked.

    Attributes:
        path: The file.
        state: What it held when it was opened, read from the file as it is asked for.
    """

    def __init__(self, path: Path, descriptor: int, state: JournalState) -> None:
        self.path = path
        self.state = state
        self._descriptor = descriptor
        self._broken: JournalError | None = None
        self._closed = False
        self._written = 0
        self._synced = 0
        self._syncing = anyio.Lock()

    @classmethod
    def open(cls, path: Path, header: Header, *, check_total: bool = True) -> Self:
        """Open or create the journal of a call. Blocks for as long as reading it takes.

        Raises:
            JournalError: It cannot be read or written, is in use, is damaged, is of a newer
                version, or is of another call.
        """
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise JournalError(
                    f"the journal {path} is no regular file: name another path", path=path
                )
            if not lock_file(descriptor):
                raise JournalError(
                    f"the journal {path} is in use by another call", path=path, in_use=True
                )
            check = partial(check_header, path, header=header, check_total=check_total)
            state = JournalState.read(path, FileIO(descriptor, closefd=False), check)
            if os.fstat(descriptor).st_size > state.end:
                # The last record was being written when its process ended.
                os.ftruncate(descriptor, state.end)
            journal = cls(path, descriptor, state)
            if state.end == 0:
                journal._append([{"kind": "HEADER", "format": FORMAT, **header.to_dict()}])
                os.fsync(descriptor)
                sync_folder(path.parent)
        except BaseException as error:
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise _unusable(path, error) from None
            raise
        return journal

    def pin(self, pins: Mapping[str, Mapping[str, Any]]) -> None:
        """Note what the call works with, before the first chunk that does."""
        self._append([{"kind": "PINS", "pins": pins}])

    def inputs(self, fingerprints: Mapping[int, str]) -> None:
        """Note hashes of inputs, before the chunks that hold them."""
        self._append([{"kind": "INPUTS", "inputs": fingerprints}])

    def baseline(self, rows: Mapping[str, Any]) -> None:
        """Note what the service has before the first chunk."""
        self._append([{"kind": "BASELINE", "rows": rows}])

    async def intent(self, key: str, positions: Sequence[int], facts: Mapping[str, Any]) -> None:
        """Note that a chunk is about to be sent; on return it is on the disk.

        Raises:
            JournalError: It is not. The chunk must not be sent then.
        """
        self._append([{"kind": "INTENT", "key": key, "positions": positions, "facts": facts}])
        await self._sync()

    def task(self, key: str, job_id: str) -> None:
        """Note the job that a chunk became."""
        self._append([{"kind": "TASK", "key": key, "job": job_id}])

    def outcomes(
        self,
        *,
        done: Mapping[int, Any],
        failed: Iterable[ItemError] = (),
        unknown: Sequence[int] = (),
        released: Sequence[int] = (),
    ) -> None:
        """Note what became of positions, in one writing."""
        errors = [
            {name: value for name, value in error.to_dict().items() if name not in CONTENT}
            for error in failed
        ]
        records: list[Record] = []
        if done:
            records.append({"kind": "DONE", "rows": done})
        if errors:
            records.append({"kind": "FAILED", "errors": errors})
        if unknown:
            records.append({"kind": "UNKNOWN", "positions": unknown})
        if released:
            records.append({"kind": "RELEASED", "positions": released})
        if records:
            self._append(records)

    def finished(self, total: int) -> None:
        """Note that the call came to its end, with so many positions."""
        self._append([{"kind": "CLOSED", "total": total}])

    async def close(self) -> None:
        """Sync, unlock and close; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            # What is written is in the system's hands already: a disk that does not answer
            # must not keep the call from its end.
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True), suppress(JournalError):
                await self._sync(patience=0)
        finally:
            # No shield holds off `Task.cancel`, and a file left open would stay locked.
            self.discard()

    def discard(self) -> None:
        """Unlock and close without a sync; nothing is awaited."""
        self._closed = True
        # By itself, as a sync that nobody waits for any more has the file open too.
        unlock_file(self._descriptor)
        os.close(self._descriptor)

    def _append(self, records: Iterable[Record]) -> None:
        if self._broken is not None:
            raise self._broken
        data = b"".join(map(encode_record, records))
        try:
            end = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, data)
            if written < len(data):
                # Half a record must not stand before others.
                os.ftruncate(self._descriptor, end)
                raise OSError(errno.ENOSPC, "no room left for it")
        except OSError as error:
            self._broken = _unusable(self.path, error)
            raise self._broken from None
        self._written += 1

    async def _sync(self, patience: float = CLEAN_UP_SECONDS) -> None:
        """One `fsync` serves all records that were written before it began.

        Args:
            patience: Seconds that a cancellation waits for it.
        """
        wanted = self._written
        async with self._syncing:
            if self._synced >= wanted:
                return
            if self._broken is not None:
                raise self._broken
            reached = self._written
            try:
                # A descriptor of the thread's own: if it is left to itself, this one is closed,
                # and the next file that is opened gets its number.
                sync = partial(_sync_and_close, os.dup(self._descriptor))
                await run_to_end(sync, patience=patience)
            except OSError as error:
                # What a failed sync left on the disk is not known, and a second one would lie.
                self._broken = _unusable(self.path, error)
                raise self._broken from None
            self._synced = reached


def has_header(path: Path) -> bool:
    """Whether the file begins with a whole record, as each journal does once it was begun.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            return decode_record(file.readline(_LONGEST_HEADER)) is not None
        except ValueError:
            return False


_HINTS = {
    errno.ENOENT: "make the folder that it is to be in first",
    errno.ENOTDIR: "what it is to be in is no folder: name another path",
    errno.EISDIR: "name a file in that folder",
    errno.EACCES: "name a path that this process may write",
    errno.EPERM: "name a path that this process may write",
    errno.EROFS: "name a path that this process may write",
    errno.ENOSPC: "make room, and make the same call again: it goes on where this one was left",
    errno.EDQUOT: "make room, and make the same call again: it goes on where this one was left",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "this process has too many files open: close some, or raise its limit",
}


def _unusable(path: Path, error: OSError) -> JournalError:
    hint = _HINTS.get(error.errno or 0)
    text = f"the journal {path} cannot be used: {error.strerror or error}"
    return JournalError(f"{text}; {hint}" if hint else text, path=path)


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names of a folder's files on the disk too."""
    if os.name == "posix":
        _sync_and_close(os.open(folder, os.O_RDONLY))
