"""The command line. Needs the extra ``cli``; without it, running it says what to install."""

from __future__ import annotations

import sys
from typing import NoReturn

from elluminate_async.cli.exits import EXIT_INTERRUPTED, EXIT_MISUSE
from elluminate_async.errors import ElluminateError, MissingExtraError


def main() -> None:
    """Run the command line; errors of ours are one line on stderr and exit code 2."""
    try:
        _run()
    except ElluminateError as error:
        _fail(error)
    except OSError as error:
        # Of the output, as of a full disk: everything else is told by what failed.
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _run() -> None:
    try:
        from elluminate_async.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        # Both: every command needs the server's as well.
        raise MissingExtraError("the command line", "cli,server") from None
    app()


def _fail(error: Exception) -> NoReturn:
    text = " ".join(str(error).split())
    sys.stderr.write(f"elluminate-async: {text}\n")
    sys.exit(EXIT_MISUSE)
