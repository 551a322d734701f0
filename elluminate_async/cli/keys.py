"""``elluminate-async keys``: who may use the embedded server."""

from __future__ import annotations

from typing import Annotated

import typer

from elluminate_async.cli.database import DEFAULT, ServerDatabase

keys = typer.Typer(
    help="The keys that open the embedded server: add one (as when the last was lost), list, "
    "revoke.",
    no_args_is_help=True,
)


@keys.command()
def add(
    db: ServerDatabase = DEFAULT,
    project: Annotated[
        str | None,
        typer.Option(help="Name or id of the only project that it opens; all without it."),
    ] = None,
) -> None:
    """Make a key and print it, alone in its line: it is shown this once.

    Only a hash is stored. A lost key cannot be found again: add another, and revoke the lost one.
    """
    from elluminate_async.server import Administration

    with Administration(db) as server:
        key_id, key = server.add_key(project)
    typer.echo(key)
    opens = "all projects" if project is None else f"the project {project!r}"
    typer.echo(f"Shown once. It opens {opens}; its id is {key_id}.", err=True)


@keys.command("list")
def list_all(db: ServerDatabase = DEFAULT) -> None:
    """List the keys: id, when added (UTC), project. The keys themselves are not known."""
    from elluminate_async.server import Administration

    with Administration(db) as server:
        for key in server.list_keys():
            opens = "all projects" if key.project is None else f"project {key.project!r}"
            typer.echo(f"{key.id}  {key.created_at:%Y-%m-%d %H:%M}  {opens}")


@keys.command()
def revoke(
    key_ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="As listed, or how they begin: six characters at least."
        ),
    ],
    db: ServerDatabase = DEFAULT,
) -> None:
    """Let keys open nothing any more."""
    from elluminate_async.server import Administration

    with Administration(db) as server:
        for key_id in key_ids:
            server.revoke_key(key_id)
            typer.echo(f"Revoked {key_id}.")
