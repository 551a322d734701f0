"""The command line: ``elluminate-async``."""

from __future__ import annotations

import typer

from elluminate_async.cli.serve import serve

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _program() -> None:
    """Asyncio-native SDK for Elluminate, with an embedded server."""


app.command()(serve)


def main() -> None:
    """Run the command line."""
    app()
