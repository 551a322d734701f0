"""Rows of an earlier run, read again by their ids from a listing that has no such filter."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from elluminate_async import AsyncClient
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.earlier_rows import EarlierRows
from elluminate_async.testing import ScriptedService
from elluminate_async.testing.documents import Entry

PAGE, ROWS = 10, 100
ENTRIES = "GET collections/{id}/entries"


@dataclass
class Scene:
    """A collection of 100 rows, in pages of ten."""

    service: ScriptedService
    ids: list[int]
    rows: EarlierRows

    async def find_all(self) -> list[int]:
        """The ids of the rows that are found, ten at a time."""
        found: list[int] = []
        for first in range(0, ROWS, PAGE):
            found += sorted(await self.rows.find({*self.ids[first : first + PAGE]}))
        return found

    @property
    def entries(self) -> list[Entry]:
        """The rows in the order of the listing."""
        return self.service._store.collections[0].entries

    @property
    def requests(self) -> int:
        return self.service.traffic.count(ENTRIES)


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async with (
        ScriptedService(page_size=PAGE) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        collection, _ = await client.collections.get_or_create("values")
        rows = await client.template_variables.add_many(
            [{"n": n} for n in range(ROWS)], collection=collection, skip_existing=False
        )
        entries = ("collections", collection.id, "entries")
        context = CallContext.begin(client._connection, None)
        earlier = EarlierRows(context, entries, shared=False)
        yield Scene(service, [row.id for row in rows], earlier)


async def test_a_row_is_in_memory_until_it_was_given(scene: Scene) -> None:
    """In the order of the upload each page is read once, and no row of it stays."""
    for first in range(0, ROWS, PAGE):
        wanted = {*scene.ids[first : first + PAGE]}
        assert (await scene.rows.find(wanted)).keys() == wanted
        assert scene.rows._rows == {}

    assert scene.requests == ROWS // PAGE


async def test_rows_in_another_order_are_read_once(scene: Scene) -> None:
    """They wait in memory for whoever asks for them."""
    random.Random(1).shuffle(scene.entries)

    assert await scene.find_all() == scene.ids
    assert scene.requests <= ROWS // PAGE + 1


async def test_rows_that_moved_to_a_page_before_are_found(scene: Scene) -> None:
    """What the pages had not is looked for in the whole listing, once."""
    half = {*scene.ids[: ROWS // 2]}
    assert (await scene.rows.find(half)).keys() == half
    scene.entries.reverse()

    rest = {*scene.ids[ROWS // 2 :]}
    assert (await scene.rows.find(rest)).keys() == rest
    requests = scene.requests
    assert await scene.rows.find({10**6}) == {}
    assert scene.requests == requests
