"""docs/migration.md has every public name of the official clients, and ours are there."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import elluminate_async
from elluminate_async import AsyncClient
from tests.official.test_official_clients import run, server

if TYPE_CHECKING:
    from tests.server.program import Program

__all__ = ["server"]

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
VERSIONS = ("0.6.12", "1.5.2")
_ROW = re.compile(r"^\| (`.*?) \| (`[^|]*?) \|", re.M)


def rows() -> list[tuple[list[str], list[str]]]:
    """The official names of each row, and ours."""
    return [
        (re.findall(r"`([^`]+)`", theirs), re.findall(r"`([^`]+)`", ours))
        for theirs, ours in _ROW.findall(PAGE.read_text("utf-8"))
    ]


@pytest.mark.official
def test_every_public_name_of_the_official_clients_has_its_row(server: Program) -> None:
    """Those of the installed packages, each once; and no row is of a name that there is not."""
    there = {
        name for version in VERSIONS for name in json.loads(run(version, "names.py", server.url))
    }
    told = Counter(name for theirs, _ in rows() for name in theirs)

    assert sorted(there - set(told)) == []
    assert sorted(set(told) - there) == []
    assert [name for name, count in told.items() if count > 1] == []


def test_what_the_page_names_here_is_here() -> None:
    """Methods of a client, its arguments, and names of the package."""
    named = {name.partition("(")[0] for _, ours in rows() for name in ours}
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:1")

    assert len(named) > 80
    for name in named:
        first, *rest = name.split(".")
        root = client if first == "client" else getattr(elluminate_async, first)
        assert reduce(getattr, rest, root) is not None, name
