"""`EarlierRows`: the rows that an earlier run has uploaded, read again by their ids."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import TYPE_CHECKING

from elluminate_async.operations.listing import PAGES_AHEAD, Listing
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext


class EarlierRows:
    """Rows of one collection by their ids, from its pages as far as they had to be read.

    The wire has no filter by ids. An upload keeps the order of its rows, and so do most
    services: the pages are read from the first on, and a row is forgotten once it was given,
    so that few are in memory. Where the order is another, or rows went meanwhile, more are.

    Args:
        context: Of the call.
        entries: The path of the collection's rows.
        shared: Whether a row may be asked for again, as several positions have it.
    """

    def __init__(
        self, context: CallContext, entries: tuple[str | int, ...], *, shared: bool
    ) -> None:
        self._listing = Listing(
            context.connection, TemplateVariables, *entries, policy=context.policy
        )
        self._shared = shared
        self._rows: dict[int, TemplateVariables] = {}
        self._next = 1
        self._size = 0
        self._at_end = False
        self._complete = False

    async def find(self, ids: Set[int]) -> dict[int, TemplateVariables]:
        """The rows of these ids that are there."""
        while not self._at_end and (missing := len(ids - self._rows.keys())):
            await self._read_pages(missing)
        if not self._complete and ids - self._rows.keys():
            # A row that moved to a page before, as others were deleted, was passed over.
            self._complete = True
            self._note(await self._listing)
        found = {id: self._rows[id] for id in ids & self._rows.keys()}
        if not self._shared:
            for id in found:
                del self._rows[id]
        return found

    async def _read_pages(self, rows: int) -> None:
        """Read as many pages as so many rows have."""
        count = min(PAGES_AHEAD, math.ceil(rows / self._size)) if self._size else 1
        for page in await self._listing.pages(self._next, count):
            self._note(page.items)
            self._size = max(self._size, page.size)
            self._at_end |= page.size < self._size or page.size == 0
        self._next += count

    def _note(self, rows: list[TemplateVariables]) -> None:
        self._rows.update((row.id, row) for row in rows)
