"""The reference has every public name, and every option of every command."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import typer.main

import elluminate_async
from elluminate_async import server, testing
from elluminate_async.cli.app import app
from elluminate_async.integrations import fastapi, ray
from elluminate_async.resources.base import Resource

RESOURCES = [
    type(value)
    for value in vars(elluminate_async.AsyncClient(api_key="k")).values()
    if isinstance(value, Resource)
]


@pytest.fixture(scope="session")
def anchors(site: Path) -> dict[str, str]:
    """Each name that has an entry, and where: the inventory that other sites link by."""
    data = (site / "objects.inv").read_bytes()
    for _ in range(4):
        data = data.partition(b"\n")[2]
    lines = [line.split(" ") for line in zlib.decompress(data).decode().splitlines()]
    return {words[0]: words[3] for words in lines if words[1].startswith("py:")}


@pytest.mark.parametrize(
    "module", [elluminate_async, testing, server, fastapi, ray], ids=lambda m: m.__name__
)
def test_every_public_name_has_an_entry(anchors: dict[str, str], module: Any) -> None:
    """Under the path that it is imported from."""
    wanted = {f"{module.__name__}.{name}" for name in module.__all__} - {
        "elluminate_async.__version__"
    }

    assert wanted - set(anchors) == set()


@pytest.mark.parametrize(
    "owner", [elluminate_async.AsyncClient, elluminate_async.Batch, elluminate_async.Evaluation,
              elluminate_async.BatchOptions, *RESOURCES],
    ids=lambda owner: owner.__name__,
)  # fmt: skip
def test_every_method_has_an_entry(anchors: dict[str, str], owner: type) -> None:
    """Also those that a class inherits."""
    public = owner.__name__ in elluminate_async.__all__
    module = "elluminate_async" if public else owner.__module__
    methods = {
        name
        for base in owner.__mro__
        if base.__module__.startswith("elluminate_async")
        for name, value in vars(base).items()
        if not name.startswith("_") and isinstance(value, FunctionType | property | classmethod)
    }

    assert methods
    assert {f"{module}.{owner.__name__}.{name}" for name in methods} - set(anchors) == set()


def test_entries_are_where_they_are_said_to_be(site: Path, anchors: dict[str, str]) -> None:
    """Each page has the anchors that the inventory names."""
    pages = {uri.partition("#")[0] for uri in anchors.values()}
    found = {
        page: set(re.findall(r'id="([^"]+)"', (site / page / "index.html").read_text()))
        for page in pages
    }
    for name, uri in anchors.items():
        page, _, anchor = uri.partition("#")
        assert anchor.replace("$", name) in found[page], name


def test_sections_of_docstrings_are_rendered(site: Path) -> None:
    """No habit of the source is left in a paragraph: labels, double colons, backticks."""
    label = re.compile(r"^(Args|Attributes|Cost|Memory|Raises|Returns|Source):", re.M)
    sections = 0
    for page in (site / "reference").rglob("index.html"):
        text = page.read_text()
        sections += text.count("<strong>Cost:</strong>")
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.S):
            assert not label.search(paragraph), (page, paragraph)
            assert not paragraph.endswith("::"), (page, paragraph)
            assert "`" not in paragraph, (page, paragraph)

    assert sections > 5


def test_a_returned_value_is_one_entry(site: Path) -> None:
    """A description of several lines is not taken for several values."""
    page = (site / "reference/evaluations/index.html").read_text()
    told = re.search(r"The paired difference per criterion.*?of this evaluation", page, re.S)

    assert told
    assert "<li" not in told[0]


def test_every_option_of_every_command_is_told(site: Path) -> None:
    """With its name, as the command line itself has it."""
    page = (site / "reference/commands/index.html").read_text()

    for path, command in commands("elluminate-async", typer.main.get_command(app)):
        start = page.index(f'id="{path.replace(" ", "-")}"')
        following = page.find("<h2", start)
        section = page[start : following if following > 0 else None]
        for option in (name for one in command.params for name in one.opts):
            if option.startswith("-"):
                assert option in section, f"{path} {option}"


def commands(path: str, command: Any) -> list[tuple[str, Any]]:
    """All commands that do something, by what is typed."""
    below = getattr(command, "commands", {})
    if not below:
        return [(path, command)]
    return [found for name, one in below.items() for found in commands(f"{path} {name}", one)]
