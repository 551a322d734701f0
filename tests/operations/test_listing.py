"""Listings over a scripted wire: every row once, none given up, no page too many."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import anyio
import pytest

from elluminate_async.batch import BatchOptions
from elluminate_async.config import Settings
from elluminate_async.errors import NotFoundError, ProtocolError, ServerError
from elluminate_async.limits.limits import Limits
from elluminate_async.operations.connection import Connection
from elluminate_async.operations.listing import MAX_PASSES, PAGES_AHEAD, Listing
from elluminate_async.operations.reading import MOST_UNREADABLE
from elluminate_async.schemas.base import MOST_ROWS, WireModel
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection as Wire
from elluminate_async.testing.raw import RawServer, Received, reply
from elluminate_async.transport.http import HttpTransport
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Row(WireModel):
    id: int


class Table:
    """Rows behind a paging endpoint; ``change`` runs before each page is read.

    Attributes:
        asked: How often each page was asked for; None is the page that was not named.
    """

    def __init__(self, count: int, size: int = 10) -> None:
        self.ids = list(range(1, count + 1))
        self.size = size
        self.asked = Counter[int | None]()
        self.peak = self.busy = 0
        self.change: Callable[[int], None] = lambda page: None
        self.answer: Callable[[int], bytes] = self.page

    def page(self, number: int) -> bytes:
        rows = self.ids[(number - 1) * self.size : number * self.size]
        if number > 1 and not rows:
            return reply(404, b'{"detail": "no such page"}')
        return self.shown(rows, len(self.ids))

    def shown(self, ids: list[int], count: int) -> bytes:
        items = [{"id": row} for row in ids]
        return reply(200, json.dumps({"items": items, "count": count}).encode())

    async def script(self, received: Received, connection: Wire) -> bytes:
        if received.path == "/api/v0/projects":
            return reply(200, b'{"items": [{"id": 1, "name": "p"}], "count": 1}')
        asked = parse_qs(received.target.partition("?")[2]).get("page")
        number = int(asked[0]) if asked else 1
        self.asked[number if asked else None] += 1
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await anyio.sleep(0.002)
        self.busy -= 1
        self.change(number)
        return self.answer(number)

    @asynccontextmanager
    async def listing(self) -> AsyncGenerator[Listing[Row]]:
        async with RawServer(self.script) as server:
            settings = Settings.resolve(base_url=server.url, api_key="k", environment={})
            limits = Limits(20, None)
            connection = Connection(
                HttpTransport(settings, limits=limits, connections=20),
                limits,
                BatchOptions(),
                project=None,
                by_token=False,
                skip_version_check=True,
            )
            try:
                yield Listing(connection, Row, "things", query={"name": "x"})
            finally:
                await connection.close()


async def ids_of(table: Table) -> list[int]:
    async with table.listing() as listing:
        return [row.id for row in await listing]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 101])
async def test_every_row_once_and_in_order(count: int) -> None:
    """Each page is asked for once, and none beyond the last."""
    table = Table(count)

    assert await ids_of(table) == table.ids
    assert table.asked == Counter(range(1, max(1, -(-count // 10)) + 1))


async def test_a_listing_sends_nothing_before_it_is_read() -> None:
    """Making one, and asking it for an iterator, costs nothing."""
    table = Table(30)
    async with table.listing() as listing:
        aiter(listing)
        await anyio.sleep(0.02)

    assert table.asked == {}


async def test_a_listing_can_be_read_again() -> None:
    """As it is then."""
    table = Table(3)
    async with table.listing() as listing:
        first = [row.id for row in await listing]
        table.ids.append(4)
        second = [row.id async for row in listing]

    assert (first, second) == ([1, 2, 3], [1, 2, 3, 4])


async def test_first_is_one_request() -> None:
    """The first row, or None."""
    table, empty = Table(30), Table(0)
    async with table.listing() as listing:
        found = await listing.first()
    async with empty.listing() as listing:
        nothing = await listing.first()

    assert found == Row(id=1)
    assert nothing is None
    assert table.asked == {None: 1}


async def test_pages_are_fetched_together() -> None:
    """Up to `PAGES_AHEAD` of them, and no more."""
    table = Table(300)

    assert await ids_of(table) == table.ids
    assert table.peak == PAGES_AHEAD


async def test_iterating_does_not_read_everything_first() -> None:
    """The first row comes after one page; leaving early leaves the rest unread."""
    table = Table(3000)
    async with table.listing() as listing:
        async for row in listing:
            assert row.id == 1
            break

    assert sum(table.asked.values()) <= 1 + 2 * PAGES_AHEAD


async def test_an_exact_multiple() -> None:
    """No request for the empty page behind the last."""
    table = Table(20)

    assert await ids_of(table) == table.ids
    assert set(table.asked) == {1, 2}


@pytest.mark.row(54)
async def test_pages_that_shrink(fired: Fired) -> None:
    """A service that gives shorter pages than its first is followed to its last row."""
    table = Table(50)

    def page(number: int) -> bytes:
        if number == 1:
            return table.shown(table.ids[:10], 50)
        fired()
        rows = table.ids[10 + (number - 2) * 4 : 10 + (number - 1) * 4]
        return table.shown(rows, 50) if rows else reply(404)

    table.answer = page

    assert sorted(await ids_of(table)) == table.ids


@pytest.mark.row(58)
async def test_duplicates_come_once(fired: Fired) -> None:
    """A row on two pages is one row, and what it displaced is found."""
    table = Table(30)
    moved = False

    def insert(number: int) -> None:
        nonlocal moved
        if number == 3 and not moved:
            moved = True
            fired()
            table.ids.insert(0, 999)  # every row moves one down

    table.change = insert
    found = await ids_of(table)

    assert sorted(found) == [*range(1, 31), 999]
    assert len(set(found)) == len(found)


@pytest.mark.row(58)
async def test_a_row_deleted_meanwhile_costs_no_other_row(fired: Fired) -> None:
    """Rows move up over a page's border: the one that slipped through is found."""
    table = Table(40)
    deleted = False

    def delete(number: int) -> None:
        nonlocal deleted
        if number == 1 and not deleted:
            deleted = True
            fired()
            asyncio.get_running_loop().call_soon(table.ids.remove, 5)

    table.change = delete
    found = await ids_of(table)

    assert len(set(found)) == len(found)
    assert set(table.ids) <= set(found)


@pytest.mark.row(54)
async def test_a_listing_that_always_changes_ends(fired: Fired) -> None:
    """After `MAX_PASSES` passes at the latest; every row that was there all along is in it."""
    table = Table(25)

    def add(number: int) -> None:
        fired()
        table.ids.append(max(table.ids) + 1)

    table.change = add
    found = await ids_of(table)

    assert set(range(1, 26)) <= set(found)
    assert len(set(found)) == len(found)
    assert table.asked[1] <= MAX_PASSES


@pytest.mark.row(54)
async def test_a_last_page_that_repeats_for_ever(fired: Fired) -> None:
    """Pages beyond the end that show the last one again: it ends, each row once."""
    table = Table(25)

    def page(number: int) -> bytes:
        fired(times=number > 3)
        return table.shown(table.ids[(min(number, 3) - 1) * 10 : min(number, 3) * 10], 1000)

    table.answer = page
    with anyio.fail_after(10):
        found = await ids_of(table)

    assert found == table.ids
    assert sum(table.asked.values()) <= MAX_PASSES * 2 * (1 + PAGES_AHEAD)


@pytest.mark.row(54)
async def test_an_empty_page_with_a_count(fired: Fired) -> None:
    """A count without rows is no reason to go on for ever."""
    table = Table(0)

    def page(number: int) -> bytes:
        fired()
        return table.shown([], 500)

    table.answer = page
    with anyio.fail_after(10):
        assert await ids_of(table) == []
    assert sum(table.asked.values()) <= MAX_PASSES


@pytest.mark.row(54)
@pytest.mark.parametrize("wrong", [-3, 3, 1000])
async def test_a_count_that_is_wrong(wrong: int, fired: Fired) -> None:
    """Read again until two passes agree; every row that the pages show, in few requests."""
    table = Table(25)

    def page(number: int) -> bytes:
        fired()
        return table.shown(table.ids[(number - 1) * 10 : number * 10], 25 + wrong)

    table.answer = page
    with anyio.fail_after(10):
        found = await ids_of(table)

    assert found == table.ids
    assert 2 <= table.asked[1] <= MAX_PASSES
    assert sum(table.asked.values()) <= MAX_PASSES * 2 * (1 + PAGES_AHEAD)


@pytest.mark.row(54)
async def test_a_page_size_that_changes_between_pages(fired: Fired) -> None:
    """Longer pages overlap, shorter ones leave gaps: no row twice, none given up."""
    table = Table(60)
    sizes = [10, 10, 30]

    def page(number: int) -> bytes:
        # From its third answer on the service has longer pages, and starts to count anew.
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        fired(times=size == 30)
        return table.shown(table.ids[(number - 1) * size : number * size], 60)

    table.answer = page
    found = await ids_of(table)

    assert sorted(found) == table.ids


async def test_a_404_on_a_later_page_is_the_end() -> None:
    """Rows were deleted meanwhile; what is left is the listing."""
    table = Table(30)

    def delete(number: int) -> None:
        if number == 1:
            del table.ids[15:]

    table.change = delete
    found = await ids_of(table)

    assert set(found) == set(range(1, 16))


async def test_a_404_on_the_first_page_is_an_error() -> None:
    """Its parent does not exist."""
    table = Table(0)
    table.answer = lambda number: reply(404, b'{"detail": "no experiment"}')
    with pytest.raises(NotFoundError, match="no experiment"):
        await ids_of(table)


async def test_a_page_that_fails_for_good_is_the_listings_error() -> None:
    """Bare, not in a group; nothing incomplete is returned."""
    table = Table(100)
    table.answer = lambda number: reply(500) if number == 4 else table.page(number)
    with pytest.raises(ServerError):
        await ids_of(table)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"items": {"name": "x"}, "count": 1}', b'{"items": []}', b"<html>"]
)
async def test_a_page_that_is_none(body: bytes) -> None:
    """A `ProtocolError`, whatever came."""
    table = Table(1)
    table.answer = lambda number: reply(200, body)
    with pytest.raises(ProtocolError):
        await ids_of(table)


async def test_a_page_that_is_none_once_is_asked_for_again() -> None:
    """One spoiled answer among many costs one request, not the listing."""
    table, spoiled = Table(100), [b"", b"<html>"]

    def answer(number: int) -> bytes:
        return reply(200, spoiled.pop()) if number == 4 and spoiled else table.page(number)

    table.answer = answer

    assert await ids_of(table) == table.ids
    assert not spoiled


async def test_ten_thousand_rows() -> None:
    """Reading stays linear."""
    table = Table(10_000, size=500)
    started = time.process_time()  # however busy the machine is

    assert await ids_of(table) == table.ids
    assert time.process_time() - started < 5


@pytest.mark.row(130)
async def test_unreadable_rows_cost_no_second_pass(fired: Fired) -> None:
    """They count as rows of their pages: each page is asked for once, and `unreadable` is exact."""
    table = Table(30)

    def page(number: int) -> bytes:
        items: list[dict[str, object]] = [
            {"id": id} for id in table.ids[(number - 1) * 10 : number * 10]
        ]
        if number == 2:
            fired()
            items[4] = {"id": "fifteen"}
            items[7] = {"name": "x"}
        return reply(200, json.dumps({"items": items, "count": 30}).encode())

    table.answer = page
    async with table.listing() as listing:
        found = [row.id for row in await listing]

    assert found == [id for id in table.ids if id not in (15, 18)]
    assert listing.unreadable == 2
    assert set(table.asked.values()) == {1}


@pytest.mark.row(130)
async def test_the_first_row_is_never_skipped(fired: Fired) -> None:
    """Whoever looks for one row is told that it cannot be read, not that there is none."""
    table = Table(1)

    def page(number: int) -> bytes:
        fired()
        return reply(200, b'{"items": [{"name": "x"}], "count": 1}')

    table.answer = page
    async with table.listing() as listing:
        with pytest.raises(ProtocolError, match="id: Field required"):
            await listing.first()


@pytest.mark.row(129)
@pytest.mark.parametrize("row", [b'{"id": 1}', b"{}"], ids=["readable", "not"])
async def test_a_page_of_too_many_rows(row: bytes, fired: Fired) -> None:
    """More than `MOST_ROWS` are no page, and more than `MOST_UNREADABLE` unreadable ones."""
    count = (MOST_ROWS if row != b"{}" else MOST_UNREADABLE) + 1
    table = Table(1)
    body = b'{"items": [' + b",".join([row] * count) + b'], "count": 1}'

    def page(number: int) -> bytes:
        fired()
        return reply(200, body)

    table.answer = page
    with pytest.raises(ProtocolError):
        await ids_of(table)
