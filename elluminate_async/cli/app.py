"""The commands by name."""

from __future__ import annotations

import typer

from elluminate_async._version import __version__
from elluminate_async.cli.compare import compare
from elluminate_async.cli.demo import demo
from elluminate_async.cli.doctor import doctor
from elluminate_async.cli.keys import keys
from elluminate_async.cli.planning import plan
from elluminate_async.cli.projects import projects
from elluminate_async.cli.rate import rate
from elluminate_async.cli.run import run
from elluminate_async.cli.saved import export, report
from elluminate_async.cli.serve import serve

app = typer.Typer(
    name="elluminate-async",
    help="Generate responses for prompt templates and have an LLM judge rate them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"elluminate-async {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Generate responses for prompt templates and have an LLM judge rate them."""


app.command()(run)
app.command()(rate)
app.command()(plan)
app.command()(compare)
app.command()(export)
app.command()(report)
app.command()(doctor)
app.command()(demo)
app.command()(serve)
app.add_typer(keys, name="keys")
app.add_typer(projects, name="projects")
