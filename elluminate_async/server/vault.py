"""Keys of model endpoints, encrypted under a key that is in a file of its own."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.fernet import Fernet

_LOG = logging.getLogger(__name__)
_SEALED = "sealed:1:"
"""Begins what is sealed, so that keys of earlier versions are told from it."""


class UnreadableKeyError(Exception):
    """A sealed key cannot be opened; the text says what to do."""


class Vault:
    """Seals keys before they are stored, and opens them when an endpoint is called.

    A copy of the database without the file gives no key away.

    Args:
        path: The key file, made when the first key is sealed. It may hold several keys, a
            line each: the first seals, each opens. None keeps the key in memory, for a
            database that does not outlive the server.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._made: bytes | None = None

    def seal(self, secret: str) -> str:
        """``secret`` as it may be stored.

        Raises:
            ConfigurationError: The key file can be neither read nor made.
        """
        keys = self._keys() or [self._make()]
        return _SEALED + keys[0].encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret again.

        Raises:
            UnreadableKeyError: The key file is missing, or is another.
        """
        from cryptography.fernet import InvalidToken

        try:
            keys = self._keys()
        except ConfigurationError as error:
            raise UnreadableKeyError(f"{error}. {self._remedy()}") from None
        for key in keys:
            with contextlib.suppress(InvalidToken):
                return key.decrypt(sealed.removeprefix(_SEALED).encode()).decode()
        what = "is another than the one it was encrypted with" if keys else "is missing or damaged"
        raise UnreadableKeyError(f"the key file {what}. {self._remedy()}")

    @staticmethod
    def is_sealed(stored: str) -> bool:
        """Whether a stored key is encrypted; those of earlier versions are not."""
        return stored.startswith(_SEALED)

    def _remedy(self) -> str:
        name = self.path.name if self.path is not None else "the key file"
        return (
            f"Put {name} back beside the database (a line may be added to a newer one), or "
            "delete the configuration and create it again with its key"
        )

    def _keys(self) -> list[Fernet]:
        from cryptography.fernet import Fernet

        # Read anew each time, as who puts a lost file back need not restart the server.
        lines = [self._made] if self._made is not None else []
        if self.path is not None:
            try:
                lines = self.path.read_bytes().split()
            except FileNotFoundError:
                lines = []
            except OSError as error:
                raise ConfigurationError(
                    f"the key file {self.path.name} cannot be read: {error.strerror}"
                ) from None
        keys: list[Fernet] = []
        for line in lines:
            with contextlib.suppress(ValueError):
                keys.append(Fernet(line))
        return keys

    def _make(self) -> Fernet:
        from cryptography.fernet import Fernet

        key = Fernet.generate_key()
        if self.path is None:
            self._made = key
            return Fernet(key)
        try:
            _append(self.path, key + b"\n")
        except OSError as error:
            raise ConfigurationError(
                f"the key file {self.path.name} cannot be made: {error.strerror}"
            ) from None
        _LOG.warning(
            "made %s, which the keys of model configurations are encrypted with: back it up, "
            "but not together with the database",
            self.path,
        )
        return Fernet(key)


def _append(path: Path, line: bytes) -> None:
    """Write before anything is encrypted with it, and for its owner's eyes only."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        if os.fstat(file).st_size:
            line = b"\n" + line  # what is there may have lost its end
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)
    if os.name == "posix":
        # A file's name is on the disk once its folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
