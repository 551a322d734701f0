"""Rows that a collection has already, looked up by their content."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from elluminate_async.operations.at_once import for_each
from elluminate_async.operations.connection import decode
from elluminate_async.operations.listing import Listing
from elluminate_async.schemas.template_variables import EntryRequest, TemplateVariables
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext

FEW = 4
"""Rows that are asked for singly without a look at how many the collection has."""

_AT_ONCE = 8

_encode = json.JSONEncoder(sort_keys=True).encode


class ExistingRows:
    """The rows of one collection, as far as one call had to read them.

    The wire has no filter by content. Where the service says that it answers an equal entry
    with the row that exists, a few rows are asked for one by one; elsewhere that could make a
    second row, so the listing is read, until all that are looked for have been seen.

    Args:
        context: Of the call.
        entries: The path of the collection's rows.
    """

    def __init__(self, context: CallContext, entries: tuple[str | int, ...]) -> None:
        self._context = context
        self._entries = entries
        self._rows: dict[str, TemplateVariables] = {}
        self._complete = False
        self._stopped_early = False

    def added(self, rows: Iterable[TemplateVariables]) -> None:
        """The call added these, after which values equal to theirs exist."""
        if self._complete:
            self._note(rows)

    async def find(self, values: Sequence[bytes]) -> list[TemplateVariables]:
        """The rows of these values, as JSON, that exist."""
        keys = {content_key(json.loads(value)): value for value in values}
        missing = {key: value for key, value in keys.items() if key not in self._rows}
        if missing and not self._complete and await self._has_equal_entries():
            await self._ask_for_few(missing)
            missing = {key: value for key, value in keys.items() if key not in self._rows}
        if missing and not self._complete:
            await self._read(set(missing))
        return [self._rows[key] for key in keys if key in self._rows]

    async def _has_equal_entries(self) -> bool:
        context = self._context
        return await context.connection.has(Capability.EQUAL_ENTRIES, context.policy)

    async def _ask_for_few(self, missing: dict[str, bytes]) -> None:
        """Ask for each row, where the listing has more pages than there are rows to ask for."""
        if len(missing) > FEW:
            page, count = await self._listing().first_page()
            self._note(page)
            missing = {key: value for key, value in missing.items() if key not in self._rows}
            if not page or len(missing) >= math.ceil(count / len(page)):
                return
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        await for_each(partial(self._ask, limiter), missing.values())

    async def _ask(self, limiter: anyio.CapacityLimiter, value: bytes) -> None:
        context = self._context
        async with limiter:
            answer = await context.connection.call(
                "POST",
                *self._entries,
                body=EntryRequest(input_values=json.loads(value)),
                policy=context.policy,
                harmless=True,
            )
        self._note([decode(TemplateVariables, answer)])

    async def _read(self, missing: set[str]) -> None:
        """Read the listing: once as far as need be, the next time to its end."""

        async def take(rows: list[TemplateVariables]) -> None:
            missing.difference_update(self._note(rows))
            if not missing and not self._stopped_early:
                raise _AllFoundError

        try:
            await self._listing().read(take)
            self._complete = True
        except _AllFoundError:
            self._stopped_early = True

    def _listing(self) -> Listing[TemplateVariables]:
        context = self._context
        return Listing(context.connection, TemplateVariables, *self._entries, policy=context.policy)

    def _note(self, rows: Iterable[TemplateVariables]) -> list[str]:
        """Keep rows, of equal ones the first; their keys."""
        keys: list[str] = []
        for row in rows:
            key = content_key(row.input_values)
            self._rows.setdefault(key, row)
            keys.append(key)
        return keys


class _AllFoundError(Exception):
    """Ends the reading of a listing."""


def content_key(values: Mapping[str, Any]) -> str:
    """The same for equal contents, whatever the order of the names."""
    return _encode(values)
