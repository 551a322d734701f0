"""The options of all commands, read from the command line itself whenever the site is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from elluminate_async.cli.app import app

MARK = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with each page."""
    return markdown.replace(MARK, "\n".join(_command("elluminate-async", _root(), depth=1)))


def _root() -> Any:
    return typer.main.get_command(app)


def _command(path: str, command: Any, depth: int) -> Iterator[str]:
    """The lines of a command, and of those below it."""
    if depth > 1:
        # Commands of one word each have an address that can be kept: #elluminate-async-run.
        yield f"{'#' * min(depth, 3)} {path}\n"
    if commands := getattr(command, "commands", {}):
        if depth > 1:
            yield f"{command.help}\n"
        for name, one in commands.items():
            yield from _command(f"{path} {name}", one, depth + 1)
        return
    parameters = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    usage = " ".join(_metavar(one) for one in arguments)
    yield f"```text\n{path} {usage}{' ' if usage else ''}[OPTIONS]\n```\n"
    yield f"{command.help}\n"
    yield "| option | |\n|---|---|"
    for one in parameters:
        yield _row(one)
    yield ""


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        names = _metavar(one)
    else:
        names = ", ".join([*one.opts, *one.secondary_opts])
        if not one.is_flag:
            names += f" {_metavar(one)}"
    text = " ".join((one.help or "").split())
    if one.param_type_name == "option" and one.required:
        text += " Required."
    elif one.default not in (None, False, [], ()) and not callable(one.default):
        text += f" Default: `{one.default}`."
    return f"| <code>{_cell(names)}</code> | {_cell(text)} |"


def _metavar(one: Any) -> str:
    return str(one.metavar or one.name.rpartition("_")[2].upper())


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;")
