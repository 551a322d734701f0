"""Listings: pages fetched concurrently, every row once, none given up."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import anyio
from pydantic import ValidationError

from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import AnswerTooLargeError, NotFoundError, ProtocolError
from elluminate_async.errors.arguments import flag
from elluminate_async.limits.backoff import back_off
from elluminate_async.operations.at_once import for_each
from elluminate_async.operations.connection import decode, decoded
from elluminate_async.operations.reading import Rows, parsed, read, read_json
from elluminate_async.schemas.base import Page, WireModel
from elluminate_async.transport.weight import check_weight

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.json_input import QueryValue
    from elluminate_async.transport.retry import Policy

M = TypeVar("M", bound=WireModel)

logger = logging.getLogger("elluminate_async")

PAGES_AHEAD = 8
"""Pages of one listing that are fetched at once."""

MAX_PASSES = 5
"""Passes over a listing that changes while it is read."""

_Deliver: TypeAlias = Callable[[list[M]], Awaitable[None]]

Query: TypeAlias = "Mapping[str, QueryValue]"

Parts: TypeAlias = Callable[[Query, AnswerTooLargeError], AsyncIterator[Query]]
"""Queries that together give the rows of one whose answer is over the cap, or that error."""


class Listing(Generic[M]):
    """A lazy listing: ``async for`` pages as it goes, ``await`` gives the whole list.

    It is no coroutine: `asyncio.run` takes a function that awaits it. Nothing is sent before
    that. Rows are told apart by id; when rows come or go while the pages are read, the listing is
    read again until its rows agree with its count or two passes agree with each other, so that no
    row is given up and none comes twice.

    A row that this version cannot read is left out, with one warning for all of them.

    Args:
        connection: Whose listing.
        model: Of a row.
        segments: Of its path.
        query: Its filters.
        policy: Budget and clocks of each request; None for a single call's.
        strict: Raise `ProtocolError` for a row that cannot be read instead.
        parts: How to ask for the rows in smaller parts where a page is over the cap.
        of_project: Whether its path is below the project, or below the service's root.

    Attributes:
        unreadable: How many rows were left out when it was last read.
    """

    def __init__(
        self,
        connection: Connection,
        model: type[M],
        *segments: str | int,
        query: Query | None = None,
        policy: Policy | None = None,
        strict: bool = False,
        parts: Parts | None = None,
        of_project: bool = True,
    ) -> None:
        self.unreadable = 0
        self._connection = connection
        self._model = model
        self._segments = segments
        self._query = dict(query or {})
        self._policy = policy
        self._strict = flag(strict, "strict")
        self._parts = parts
        self._of_project = of_project

    def __repr__(self) -> str:
        told = [f"{name}={value!r}" for name, value in self._query.items() if value is not None]
        return f"<Listing of {self._where} {' '.join(told)}".rstrip() + ">"

    @property
    def _where(self) -> str:
        return "/".join(map(str, self._segments))

    def __await__(self) -> Generator[Any, None, list[M]]:
        return self._all().__await__()

    def __aiter__(self) -> AsyncIterator[M]:
        self._connection.transport.check_usable()
        return OutcomeStream(self.read, self._connection.tasks, of=self._where)

    async def first(self) -> M | None:
        """The first row of the first page; None when there is none. One request.

        Raises:
            ProtocolError: It cannot be read.
        """
        page = await self._page(self._query, None)
        if page.problem and not page.items:
            raise ProtocolError(f"a row that cannot be read: {page.problem}", sent=True)
        return page.items[0] if page.items else None

    async def first_page(self) -> tuple[list[M], int]:
        """The rows of the first page, and the count of rows over all pages. One request."""
        page = await self._page(self._query, 1)
        return page.items, page.count

    async def pages(self, first: int, count: int) -> list[ReadPage[M]]:
        """So many pages from the number ``first`` on; one beyond the last is empty."""
        return await self._pages(self._query, range(first, first + count))

    async def named(self, what: str, name: str | None, **also: object) -> M:
        """The row of exactly that name, with ``also`` where it is not None; the query asks for it.

        A service may take the name for another word, or for a part of one, so what it shows is
        compared; where that is something else, all that it has for the query is. Of several
        versions the latest counts.

        Raises:
            NotFoundError: There is none.
        """
        wanted = {"name": name} | {key: value for key, value in also.items() if value is not None}

        def is_it(row: M) -> bool:
            return all(getattr(row, key, None) == value for key, value in wanted.items())

        first = None if name is None else await self.first()
        if first is not None and is_it(first):
            return first
        rows = [] if first is None else [row for row in await self._all() if is_it(row)]
        found = max(rows, key=_version, default=None)
        if found is None:
            asked = " ".join(f"{key} {value!r}" for key, value in wanted.items())
            raise NotFoundError(f"no {what} of exactly the {asked}", status=404)
        return found

    async def _all(self) -> list[M]:
        rows: list[M] = []

        async def collect(bunch: list[M]) -> None:
            rows.extend(bunch)

        await self.read(collect)
        return rows

    async def read(self, deliver: _Deliver[M]) -> None:
        """Deliver every row once, in the service's order within a pass.

        Raises:
            AnswerTooLargeError: A page is over the cap, and there are no smaller parts.
        """
        lost = _Lost()
        await self._read_all(self._query, deliver, set(), lost)
        self.unreadable = lost.count
        if lost.count:
            logger.warning(
                "%d rows of the listing of %s cannot be read by this version, and were left "
                "out; of the first: %s",
                lost.count,
                "/".join(map(str, self._segments)),
                lost.problem,
            )

    async def read_once(self, deliver: _Deliver[M]) -> bool:
        """Deliver the rows of one pass; whether they agree with the count that its pages name.

        Where rows come or go meanwhile, some that were there all the time may be left out.
        """
        seen: set[int] = set()

        async def take(page: ReadPage[M]) -> None:
            fresh = [row for row in page.items if _id(row) not in seen]
            seen.update(page.ids)
            await deliver(fresh)

        return await self._pass(self._query, take)

    async def _read_all(
        self, query: Query, deliver: _Deliver[M], seen: set[int], lost: _Lost
    ) -> None:
        try:
            await self._passes(query, deliver, seen, lost)
        except AnswerTooLargeError as error:
            if self._parts is None:
                raise
            parts = self._parts(query, error)
        else:
            return
        async for part in parts:
            await self._read_all(part, deliver, seen, lost)

    async def _passes(
        self, query: Query, deliver: _Deliver[M], seen: set[int], lost: _Lost
    ) -> None:
        whole: set[int] = set()
        last: set[int] | None = None
        for _ in range(MAX_PASSES):
            these: set[int] = set()

            async def take(page: ReadPage[M], these: set[int] = these) -> None:
                fresh = [row for row in page.items if _id(row) not in seen]
                these.update(page.ids)
                seen.update(page.ids)
                lost.note(page)
                await deliver(fresh)

            steady = await self._pass(query, take)
            whole |= these
            if (steady and these == whole) or these == last:
                return
            last = these

    async def _pass(self, query: Query, take: Callable[[ReadPage[M]], Awaitable[None]]) -> bool:
        """Read all pages once; whether their rows agree with the count they name."""
        first = await self._page(query, 1)
        await take(first)
        counts = {first.count}
        ids, nameless = set(first.ids), first.nameless
        size = first.size
        if size and size < first.count:
            number, last = 2, math.ceil(first.count / size)
            while number <= last:
                numbers = range(number, min(last, number + PAGES_AHEAD - 1) + 1)
                pages = await self._pages(query, numbers)
                before = len(ids) + nameless
                for page in pages:
                    await take(page)
                    counts.add(page.count)
                    ids |= page.ids
                    nameless += page.nameless
                number += len(pages)
                if len(ids) + nameless == before:
                    # A count that is far too high must not cost a request for each page of it.
                    return False
            # Pages shorter than the first leave rows behind the last page that was expected.
            while len(ids) + nameless < first.count:
                page = await self._page(query, number)
                if not page.ids - ids:
                    break
                await take(page)
                ids |= page.ids
                nameless += page.nameless
                number += 1
        return counts == {len(ids) + nameless}

    async def _pages(self, query: Query, numbers: range) -> list[ReadPage[M]]:
        found: dict[int, ReadPage[M]] = {}

        async def fetch(number: int) -> None:
            found[number] = await self._page(query, number)

        await for_each(fetch, numbers)
        return [found[number] for number in numbers]

    async def _page(self, query: Query, number: int | None) -> ReadPage[M]:
        """One page; of a pass it is asked for again when its answer is none.

        A pass is lost by its worst page, and may be of hundreds.
        """
        policy = self._policy or self._connection.policy()
        attempts = 1 if number is None else policy.max_attempts
        failures = 0
        while True:
            try:
                answer = await self._connection.call(
                    "GET",
                    *self._segments,
                    query={**query, "page": number},
                    policy=policy,
                    of_project=self._of_project,
                )
            except NotFoundError:
                if number is None or number == 1:
                    raise
                return ReadPage(list[M](), -1, 0, set(), 0, "")
            try:
                return decoded(answer, self._read)
            except AnswerTooLargeError:
                raise
            except ProtocolError as error:
                failures += 1
                wait = back_off(failures)
                if failures >= attempts or not policy.allows(wait):
                    error.attempts += failures - 1
                    raise
            await anyio.sleep(wait)

    def _read(self, body: bytes) -> ReadPage[M]:
        if check_weight(body):
            with suppress(ValidationError):
                whole = read_json(Page[self._model], body)
                ids = {*map(_id, whole.items)}
                return ReadPage(whole.items, whole.count, len(whole.items), ids, 0, "")
        page = read(Page[Any], parsed(body))
        rows = Rows(self._model, page.items)
        if rows.unreadable and self._strict:
            raise ValueError(rows.problem)
        items = [row for row in rows.read if isinstance(row, self._model)]
        ids = set(map(_id, items))
        nameless = 0
        if rows.unreadable:
            others = [_id_in(row) for row in rows.read if not isinstance(row, self._model)]
            ids.update(id for id in others if id is not None)
            nameless = others.count(None)
        return ReadPage(items, page.count, len(page.items), ids, nameless, rows.problem)


async def read_one(
    connection: Connection, kind: type[M], *segments: str | int, policy: Policy
) -> M:
    """One object; asked for again when the answer is none, as a whole batch may depend on it."""
    failures = 0
    while True:
        answer = await connection.call("GET", *segments, policy=policy)
        try:
            return decode(kind, answer)
        except ProtocolError:
            failures += 1
            wait = back_off(failures)
            if failures >= policy.max_attempts or not policy.allows(wait):
                raise
        await anyio.sleep(wait)


@dataclass(frozen=True, slots=True)
class ReadPage(Generic[M]):
    """A page as it was read.

    Attributes:
        items: Its readable rows.
        count: Rows over all pages, as it says.
        size: Its rows, the unreadable included.
        ids: Of all rows that have one, the unreadable included.
        nameless: How many have none.
        problem: What is wrong with the first unreadable row; empty without one.
    """

    items: list[M]
    count: int
    size: int
    ids: set[int]
    nameless: int
    problem: str


class _Lost:
    """Rows of a listing that could not be read, over all passes."""

    def __init__(self) -> None:
        self.problem = ""
        self._ids: set[int] = set()
        self._nameless = 0

    @property
    def count(self) -> int:
        """How many rows; of those without an id at most as many as one page had."""
        return len(self._ids) + self._nameless

    def note(self, page: ReadPage[Any]) -> None:
        """Count the unreadable rows of a page."""
        if page.problem:
            self.problem = self.problem or page.problem
            self._ids |= page.ids.difference(map(_id, page.items))
            self._nameless += page.nameless


def _version(row: WireModel) -> int:
    # Of a template it is a number; the first stays where there is none.
    found = getattr(row, "version", None)
    return found if isinstance(found, int) else 0


def _id(row: WireModel) -> int:
    found = getattr(row, "id", None)
    if not isinstance(found, int):
        raise ProtocolError("a listing's row has no id", sent=True)
    return found


def _id_in(row: object) -> int | None:
    found = cast("dict[str, object]", row).get("id") if isinstance(row, dict) else None
    return found if isinstance(found, int) else None
