"""Files that are there as a whole or not at all, and open ones that are written into."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.errors import InputError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Target: TypeAlias = "str | os.PathLike[str] | SupportsWrite[bytes] | SupportsWrite[str]"
"""A path, or an open file, of bytes or of text."""


@contextmanager
def written(target: Target) -> Generator[SupportsWrite[bytes]]:
    """A file of bytes to write ``target`` by.

    A path has the old file until the new one is whole and on the disk: it is written beside,
    under another name, and renamed. When writing fails, a full disk included, that other file is
    removed and the old one kept. A path that is no regular file, such as a pipe or a device, and an
    open file are written into as they are; an open file is flushed and stays open.

    Raises:
        InputError: ``target`` is no path and cannot be written into.
        OSError: It cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        if not callable(getattr(target, "write", None)):
            raise InputError(f"{target!r:.60} is no path and no open file: pass one of the two")
        yield _as_bytes(target)
        if callable(flush := getattr(target, "flush", None)):
            flush()
        return
    # Of a link its target is replaced, and not the link.
    path = Path(os.path.realpath(target))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    with _replacing(path) as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Generator[IO[bytes]]:
    beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    # Opened as any new file, so that the umask decides who may read it.
    file = beside.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            beside.chmod(path.stat().st_mode & 0o7777)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _as_bytes(target: SupportsWrite[bytes] | SupportsWrite[str]) -> SupportsWrite[bytes]:
    is_text = isinstance(target, io.TextIOBase) or hasattr(target, "encoding")
    return _OfText(cast("Any", target)) if is_text else cast("SupportsWrite[bytes]", target)


class _OfText:
    """A file of text, as one of bytes of whole texts in UTF-8."""

    def __init__(self, file: SupportsWrite[str]) -> None:
        self._file = file

    def write(self, content: bytes, /) -> object:
        return self._file.write(content.decode())
