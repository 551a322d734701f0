"""Listings: pages fetched concurrently, every row once, none given up."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import anyio
from pydantic import ValidationError

from elluminate_async.engine.stream import HostedStream
from elluminate_async.errors import NotFoundError, ProtocolError
from elluminate_async.limits.backoff import back_off
from elluminate_async.resources.connection import decode
from elluminate_async.resources.json_input import problem_of
from elluminate_async.schemas.base import Page, WireModel

if TYPE_CHECKING:
    from elluminate_async.resources.connection import Connection, QueryValue
    from elluminate_async.transport.exchange import Answer
    from elluminate_async.transport.retry import Policy

M = TypeVar("M", bound=WireModel)

logger = logging.getLogger("elluminate_async")

PAGES_AHEAD = 8
"""Pages of one listing that are fetched at once."""

MAX_PASSES = 5
"""Passes over a listing that changes while it is read."""

_Deliver: TypeAlias = Callable[[list[M]], Awaitable[None]]


class Listing(Generic[M]):
    """A lazy listing: ``async for`` pages as it goes, ``await`` gives the whole list.

    Nothing is sent before that. Rows are told apart by id; when rows come or go while the
    pages are read, the listing is read again until its rows agree with its count or two
    passes agree with each other, so that no row is given up and none comes twice.

    Args:
        connection: Whose listing.
        model: Of a row.
        segments: Of its path.
        query: Its filters.
        policy: Budget and clocks of each request; None for a single call's.
        skip_unreadable: Leave out a row that is no such document, instead of raising for all.
    """

    def __init__(
        self,
        connection: Connection,
        model: type[M],
        *segments: str | int,
        query: Mapping[str, QueryValue] | None = None,
        policy: Policy | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        self._connection = connection
        self._model = model
        self._segments = segments
        self._query = dict(query or {})
        self._policy = policy
        self._skip_unreadable = skip_unreadable

    def __await__(self) -> Generator[Any, None, list[M]]:
        return self._all().__await__()

    def __aiter__(self) -> AsyncIterator[M]:
        return HostedStream(self.read, self._connection.tasks)

    async def first(self) -> M | None:
        """The first row of the first page; None when there is none. One request."""
        page = await self._page(None)
        return page.items[0] if page.items else None

    async def first_page(self) -> tuple[list[M], int]:
        """The rows of the first page, and the count of rows over all pages. One request."""
        page = await self._page(1)
        return page.items, page.count

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
        """Deliver every row once, in the service's order within a pass."""
        seen: set[int] = set()
        last: set[int] | None = None
        for _ in range(MAX_PASSES):
            these: set[int] = set()

            async def take(bunch: list[M], these: set[int] = these) -> None:
                fresh = [row for row in bunch if _id(row) not in seen]
                these.update(_id(row) for row in bunch)
                seen.update(these)
                await deliver(fresh)

            steady = await self._pass(take)
            if (steady and these == seen) or these == last:
                return
            last = these

    async def _pass(self, take: _Deliver[M]) -> bool:
        """Read all pages once; whether their rows agree with the count they name."""
        first = await self._page(1)
        await take(first.items)
        counts = {first.count}
        ids = {_id(row) for row in first.items}
        size = first.size
        if size and size < first.count:
            number, last = 2, math.ceil(first.count / size)
            while number <= last:
                pages = await self._pages(range(number, min(last, number + PAGES_AHEAD - 1) + 1))
                before = len(ids)
                for page in pages:
                    await take(page.items)
                    counts.add(page.count)
                    ids.update(_id(row) for row in page.items)
                number += len(pages)
                if len(ids) == before:
                    # A count that is far too high must not cost a request for each page of it.
                    return False
            # Pages shorter than the first leave rows behind the last page that was expected.
            while len(ids) < first.count:
                page = await self._page(number)
                fresh = {_id(row) for row in page.items} - ids
                if not fresh:
                    break
                await take(page.items)
                ids |= fresh
                number += 1
        return counts == {len(ids)}

    async def _pages(self, numbers: range) -> list[_ReadPage[M]]:
        found: dict[int, _ReadPage[M]] = {}

        async def fetch(number: int) -> None:
            found[number] = await self._page(number)

        try:
            async with anyio.create_task_group() as tasks:
                for number in numbers:
                    tasks.start_soon(fetch, number)
        except ExceptionGroup as group:
            # The caller asked for a listing, not for a group of requests.
            raise group.exceptions[0] from None
        return [found[number] for number in numbers]

    async def _page(self, number: int | None) -> _ReadPage[M]:
        """One page; of a pass it is asked for again when its answer is none.

        A pass is lost by its worst page, and may be of hundreds.
        """
        policy = self._policy or self._connection.policy()
        attempts = 1 if number is None else policy.max_attempts
        failures = 0
        while True:
            try:
                answer = await self._connection.call(
                    "GET", *self._segments, query={**self._query, "page": number}, policy=policy
                )
            except NotFoundError:
                if number is None or number == 1:
                    raise
                return _ReadPage(list[M](), -1, 0)
            try:
                return self._read(answer)
            except ProtocolError as error:
                failures += 1
                wait = back_off(failures)
                if failures >= attempts or not policy.allows(wait):
                    error.attempts += failures - 1
                    raise
            await anyio.sleep(wait)

    def _read(self, answer: Answer) -> _ReadPage[M]:
        try:
            page = decode(Page[self._model], answer)
        except ProtocolError:
            if not self._skip_unreadable:
                raise
            return self._readable(decode(Page[Any], answer))
        return _ReadPage(page.items, page.count, len(page.items))

    def _readable(self, page: Page[Any]) -> _ReadPage[M]:
        rows: list[M] = []
        for document in page.items:
            try:
                rows.append(self._model.model_validate(document))
            except ValidationError as error:
                problem = self._connection.blotted(problem_of(error))
                logger.warning("a row of a listing was skipped: %s", problem)
        return _ReadPage(rows, page.count, len(page.items))


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
class _ReadPage(Generic[M]):
    """The readable rows of a page, the count it names, and how many rows it has in all."""

    items: list[M]
    count: int
    size: int


def _version(row: WireModel) -> int:
    # Of a template it is a number; the first stays where there is none.
    found = getattr(row, "version", None)
    return found if isinstance(found, int) else 0


def _id(row: WireModel) -> int:
    found = getattr(row, "id", None)
    if not isinstance(found, int):
        raise ProtocolError("a listing's row has no id", sent=True)
    return found
