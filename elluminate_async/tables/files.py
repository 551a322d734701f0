"""Files that are there as a whole or not at all, and open ones that are written into."""

from __future__ import annotations

import glob
import io
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.errors import InputError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Target: TypeAlias = "str | os.PathLike[str] | SupportsWrite[bytes] | SupportsWrite[str]"
"""A path, or an open file, of bytes or of text."""

_PART = ".part"
_LEFT_SECONDS = 3_600


@contextmanager
def written(target: Target, *, is_text: bool = True) -> Generator[SupportsWrite[bytes]]:
    """A file of bytes to write ``target`` by.

    A path has the old file until the new one is whole and on the disk: it is written beside,
    under another name, and renamed. When writing fails, a full disk included, that other file is
    removed and the old one kept. A path that is no regular file, such as a pipe or a device, and an
    open file are written into as they are; an open file is flushed and stays open.

    Args:
        target: Where to.
        is_text: Whether it is text that is written, which an open file of text can take.

    Raises:
        InputError: ``target`` is no path and cannot be written into, or its folder is not there.
        OSError: It cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        if not callable(getattr(target, "write", None)):
            raise InputError(f"{target!r:.60} is no path and no open file: pass one of the two")
        yield _as_bytes(target, is_text=is_text)
        if callable(flush := getattr(target, "flush", None)):
            flush()
        return
    # Of a link its target is replaced, and not the link.
    path = Path(os.path.realpath(target))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    with replacing(path) as file:
        yield file


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Generator[IO[bytes]]:
    """A file that takes the place of ``path`` once it is whole and on the disk.

    Files that a kill left of earlier ones are removed.

    Args:
        path: Of a regular file, or of none.
        mode: The rights of a new file, less the umask; one that is replaced hands its own down.

    Raises:
        OSError: It cannot be written; then the old file is kept.
    """
    _remove_left(path)
    beside = path.with_name(f"{_beginning(path)}{secrets.token_hex(8)}{_PART}")
    try:
        with open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            beside.chmod(path.stat().st_mode & 0o7777)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _beginning(path: Path) -> str:
    return f".{path.name[:200]}."


def _remove_left(path: Path) -> None:
    """Remove what kills left beside ``path``: nobody has written into it for an hour."""
    before = time.time() - _LEFT_SECONDS
    for left in path.parent.glob(f"{glob.escape(_beginning(path))}{'?' * 16}{_PART}"):
        # Another may be removing it, too; and none of this is a reason not to write.
        with suppress(OSError):
            if left.stat().st_mtime < before:
                left.unlink()


def _as_bytes(
    target: SupportsWrite[bytes] | SupportsWrite[str], *, is_text: bool
) -> SupportsWrite[bytes]:
    if not (isinstance(target, io.TextIOBase) or hasattr(target, "encoding")):
        return cast("SupportsWrite[bytes]", target)
    if not is_text:
        raise InputError(
            f"{target!r:.60} is a file of text, and this format is none: pass a path, or a file "
            "that was opened for bytes"
        )
    return _OfText(cast("Any", target))


class _OfText:
    """A file of text, as one of bytes of whole texts in UTF-8."""

    def __init__(self, file: SupportsWrite[str]) -> None:
        self._file = file

    def write(self, content: bytes, /) -> object:
        return self._file.write(content.decode())
