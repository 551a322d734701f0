"""This SDK and the official 1.5.2 do the same: what they ask for, and what is stored then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.official.differential.canonical import Fact, differences
from tests.official.differential.copies import by_the_official, by_the_sdk, seeded
from tests.official.differential.intended import INTENDED
from tests.official.differential.registry import OPERATIONS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.official, pytest.mark.anyio]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of the store that all begin with."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


async def test_the_two_do_the_same(tmp_path: Path, store: Path) -> None:
    """Requests, answers and stores agree but for what is listed, and all that is listed occurs."""
    await seeded(store)
    async with asyncio.TaskGroup() as both:
        ours = both.create_task(by_the_sdk(tmp_path / "ours", store))
        theirs = both.create_task(by_the_official(tmp_path / "official", store))

    found = {name: differences(ours.result()[name], theirs.result()[name]) for name in OPERATIONS}
    listed = {name: INTENDED.get(name, {}).keys() for name in OPERATIONS}
    unlisted = {name: sorted(found[name] - listed[name]) for name in OPERATIONS}
    stale = {name: sorted(listed[name] - found[name]) for name in OPERATIONS}
    assert {name: lines for name, lines in unlisted.items() if lines} == {}
    assert {name: lines for name, lines in stale.items() if lines} == {}


def test_operations_are_forty_and_more() -> None:
    """Of all nouns, and no difference is listed for another."""
    assert len(OPERATIONS) >= 40
    assert INTENDED.keys() <= OPERATIONS.keys()


def test_what_is_told_of_two_sides() -> None:
    """Parts of what both have, what only one has and how often; no order, no repeated look."""
    look = Fact("GET /batches/{task}", {"status": "200"})
    post = Fact("POST /batches", {"status": "200", "body mode": '"FAST"'})
    page = Fact("GET /responses", {"query page": "1"})
    ours = [post._replace(parts={"status": "200", "header Key": "given"}), look, look]
    theirs = [look, page, post, page]

    assert differences(theirs, [page, look, page, post]) == set()
    assert differences(ours, theirs) == {
        "ours: POST /batches header Key=given",
        'official: POST /batches body mode="FAST"',
        "official: GET /responses?page=1, 2 times",
    }
