"""Files that commands read: as bytes, and as texts in UTF-8."""

from __future__ import annotations

import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from elluminate_async.errors import InputError


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from None


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It cannot be read, or is in another encoding; the text names the line.
    """
    return decoded(read_bytes(path), os.fspath(path))


def decoded(content: bytes, name: str) -> str:
    """``content`` as the text of the file ``name``, see `read_text`."""
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise InputError(f"{name}, line 1: not UTF-8, but UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: not UTF-8: save it as UTF-8") from None
    if (found := text.find("\0")) >= 0:
        # UTF-16 without a mark is valid UTF-8 of every other character.
        line = text.count("\n", 0, found) + 1
        raise InputError(f"{name}, line {line}: a null byte, which no text has: save it as UTF-8")
    return text
