"""``ELLUMINATE_LOG``: the client's log on standard error, for a quick look."""

from __future__ import annotations

import logging
import os
from typing import Final

from elluminate_async.errors import ConfigurationError

VARIABLE: Final = "ELLUMINATE_LOG"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
}

logger = logging.getLogger("elluminate_async")


def show_log() -> None:
    """Show the log from the level that ``ELLUMINATE_LOG`` names, if it is set.

    Where the program has handlers for it, these show it; else there is one to standard error.

    Raises:
        ConfigurationError: It names no level.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if not wanted:
        return
    if wanted not in LEVELS:
        raise ConfigurationError(
            f"{VARIABLE} must be one of {', '.join(LEVELS)}, or not be set, not {wanted!r:.80}"
        )
    logger.setLevel(LEVELS[wanted])
    if not _is_shown():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


def _is_shown() -> bool:
    one: logging.Logger | None = logger
    while one is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in one.handlers):
            return True
        one = one.parent if one.propagate else None
    return False
