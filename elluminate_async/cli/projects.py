"""``elluminate-async projects``: the embedded server's projects."""

from __future__ import annotations

from typing import Annotated

import typer

from elluminate_async.cli.database import DEFAULT, ServerDatabase
from elluminate_async.cli.output import in_one_line

projects = typer.Typer(
    help="The projects of the embedded server: add, list, rename.", no_args_is_help=True
)

Which = Annotated[str, typer.Argument(help="Name or id.")]


@projects.command()
def add(
    name: str,
    db: ServerDatabase = DEFAULT,
    description: Annotated[str, typer.Option(help="Shown with it.")] = "",
) -> None:
    """Make a project, which keys for all projects open; `keys add --project` makes its own."""
    from elluminate_async.server import Administration

    with Administration(db) as server:
        project = server.add_project(name, description)
    typer.echo(f"Made the project {project.id}.")


@projects.command("list")
def list_all(db: ServerDatabase = DEFAULT) -> None:
    """List the projects: id and name."""
    from elluminate_async.server import Administration

    with Administration(db) as server:
        for project in server.list_projects():
            typer.echo(f"{project.id:>4}  {in_one_line(project.name)}")


@projects.command()
def rename(project: Which, name: str, db: ServerDatabase = DEFAULT) -> None:
    """Give a project another name."""
    from elluminate_async.server import Administration

    with Administration(db) as server:
        server.rename_project(project, name)
    typer.echo("Renamed.")
