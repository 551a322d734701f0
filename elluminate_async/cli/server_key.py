"""The key that a server is started with, from where no process list shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from elluminate_async import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "ELLUMINATE_SERVER_API_KEY"


def given_key(option: str | None, file: Path | None) -> str | None:
    """The key of the command line, else of the file that it names, else of the environment.

    Raises:
        ConfigurationError: Both are given, or the file holds no key.
    """
    if option is not None:
        if file is not None:
            raise ConfigurationError("give --api-key or --api-key-file, not both")
        return option
    if file is not None:
        return _key_in(file)
    # An empty variable is what an unset one becomes on many ways.
    return os.environ.get(VARIABLE) or None


def _key_in(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"the key file {file} cannot be read: {reason}") from None
    if len(lines) != 1:
        raise ConfigurationError(f"the key file {file} must hold one key and nothing else")
    return lines[0]
