"""The command line. Needs the extra ``cli``; without it, running it says what to install."""

from __future__ import annotations

import sys
from typing import NoReturn

from elluminate_async.errors import ElluminateError, MissingExtraError

EXIT_INTERRUPTED = 130
EXIT_MISUSE = 2


def main() -> None:
    """Run the command line; errors of ours are one line on stderr and exit status 2."""
    try:
        from elluminate_async.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        _fail(MissingExtraError("the command line", "cli"))
    try:
        app()
    except ElluminateError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fail(error: Exception) -> NoReturn:
    text = " ".join(str(error).split())
    sys.stderr.write(f"elluminate-async: {text}\n")
    sys.exit(EXIT_MISUSE)
