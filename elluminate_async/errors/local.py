"""Errors of this machine: of its files, and of what is installed on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.errors.base import ElluminateError

if TYPE_CHECKING:
    from pathlib import Path


class MissingExtraError(ElluminateError, ImportError):
    """An optional part is not installed; the text names the install command.

    Attributes:
        extra: The extra of this package that has it.
    """

    def __init__(self, feature: str, extra: str, *, beside: str | None = None) -> None:
        needs, command = f"the extra '{extra}'", f"pip install 'elluminate-async[{extra}]'"
        if beside is not None:
            needs, command = f"{needs} and {beside}", f"{command} {beside}"
        super().__init__(f"{feature} needs {needs}: {command}")
        self.extra = extra


class JournalError(ElluminateError):
    """The journal cannot be used for this call; without it nothing is sent.

    Attributes:
        path: The file.
        offset: Where the damage begins, in bytes, if it is damaged.
        in_use: Whether another call has it, so that it can be used later.
    """

    def __init__(
        self, message: str, *, path: Path, offset: int | None = None, in_use: bool = False
    ) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.in_use = in_use
