"""The database file that the commands about a server mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = Path(".elluminate/server.db")

ServerDatabase = Annotated[
    Path,
    typer.Option(
        "--db",
        "--database",
        help="The server's database file. The server may run meanwhile: it goes by a change "
        "after a second.",
    ),
]
