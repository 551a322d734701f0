"""Which of the service's rows belongs to which position. Never by list order.

A response row names the entry of template variables it was made for and its epoch; together
they are its natural key. Repeated inputs get distinct epochs, so that the key is unique.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import anyio

from elluminate_async.errors import DeadlineError
from elluminate_async.resources.pages import Listing
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.resources.batches import BatchSetting

VISIBILITY_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each look for rows that a finished job made and the listing does not show."""

FIRST_SETTLE_WAIT = 1.0
LONGEST_SETTLE_WAIT = 15.0


class NaturalKey(NamedTuple):
    """What a response row echoes of its request."""

    template_variables_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A position and the key its row will have."""

    position: int
    key: NaturalKey


def key_of(row: PromptResponse) -> NaturalKey:
    """The natural key of a row."""
    return NaturalKey(row.prompt.template_variables.id, row.epoch)


class RowPool:
    """Rows that no position has claimed yet."""

    def __init__(self, rows: Iterable[PromptResponse] = ()) -> None:
        self._rows: defaultdict[NaturalKey, deque[PromptResponse]] = defaultdict(deque)
        self.add(rows)

    def add(self, rows: Iterable[PromptResponse]) -> None:
        """Add rows; of one key, those added first are claimed first."""
        for row in rows:
            self._rows[key_of(row)].append(row)

    def claim(self, wanted: Iterable[Wanted]) -> dict[int, PromptResponse]:
        """Position to row, for the exact keys; each row once."""
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            if rows := self._rows.get(entry.key):
                found[entry.position] = rows.popleft()
        return found

    def ids_of(self, keys: Container[NaturalKey]) -> Iterator[int]:
        """Ids of the rows of these keys that are still there."""
        for key, rows in self._rows.items():
            if key in keys:
                yield from (row.id for row in rows)

    def claim_any_epoch(
        self, wanted: Iterable[Wanted], asked: Counter[NaturalKey]
    ) -> dict[int, PromptResponse]:
        """The same by the variables alone, for a service that sets epochs by itself.

        Rows of a key that some position of the call asked for are left to that position.
        """
        spare: defaultdict[int, deque[PromptResponse]] = defaultdict(deque)
        for key, rows in self._rows.items():
            if key not in asked:
                spare[key.template_variables_id].extend(rows)
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            if rows := spare.get(entry.key.template_variables_id):
                row = found[entry.position] = rows.popleft()
                self._rows[key_of(row)].remove(row)
        return found


def match_result(
    wanted: Sequence[Wanted], rows: Sequence[PromptResponse]
) -> dict[int, PromptResponse]:
    """Position to row, for the ``result`` of a terminal status document.

    The list is in the request's order, which its rows confirm by the variables they echo.
    Where one does not, or the length differs, the rows are matched by their keys alone.
    """
    if len(rows) == len(wanted) and all(
        row.prompt.template_variables.id == entry.key.template_variables_id
        for entry, row in zip(wanted, rows, strict=True)
    ):
        return {entry.position: row for entry, row in zip(wanted, rows, strict=True)}
    return RowPool(rows).claim(wanted)


class ListingMatcher:
    """Matches by the experiment's listing, for a service that sends no results.

    One pass over the listing serves every chunk that waits for one. Rows that were there
    before the call belong to others and are never matched.

    Attributes:
        had_doubt: Whether there was a sending of which nothing was known.
        unsettled: Positions that such a sending left without a row.
    """

    def __init__(self, setting: BatchSetting, experiment_id: int) -> None:
        self._setting = setting
        self._experiment_id = experiment_id
        self._lock = anyio.Lock()
        self._passes = 0
        self._known: set[int] | None = None
        self._last: frozenset[int] = frozenset()
        self._steady = False
        self._pool = RowPool()
        self._asked: Counter[NaturalKey] = Counter()
        self._rows_seen = 0
        self.had_doubt = False
        self.unsettled: dict[int, Wanted] = {}

    async def before_sending(self, wanted: Iterable[Wanted]) -> None:
        """Note what is there already, once, before the first chunk goes out."""
        self._asked.update(entry.key for entry in wanted)
        async with self._lock:
            if self._known is None:
                self._known = {row.id for row in await self._rows()}

    async def find(self, wanted: Sequence[Wanted]) -> dict[int, PromptResponse]:
        """Position to row; what stays out has no row that the listing shows."""
        found = self._claim(wanted)
        for wait in VISIBILITY_WAITS:
            missing = [entry for entry in wanted if entry.position not in found]
            if not missing:
                return found
            await anyio.sleep(self._setting.policy.clock(wait))
            found |= await self._look_for(missing)
        return found

    async def settle(self, wanted: Sequence[Wanted]) -> dict[int, PromptResponse]:
        """Position to row, after a sending of which nothing is known.

        Looks until every row is there, or no new one came for `BatchOptions.settle` seconds,
        or the deadline passes. That a row stays out proves nothing: it may come later.
        """
        settle = self._setting.options.settle
        found = self._claim(wanted)
        quiet_since, wait = time.monotonic(), min(FIRST_SETTLE_WAIT, settle / 4)
        while missing := [entry for entry in wanted if entry.position not in found]:
            if time.monotonic() - quiet_since >= settle:
                break
            rows = self._rows_seen
            try:
                await anyio.sleep(self._setting.policy.clock(wait))
                found |= await self._look_for(missing)
            except DeadlineError:
                break
            wait = min(wait * 2, LONGEST_SETTLE_WAIT, settle / 4)
            if self._rows_seen != rows:
                quiet_since = time.monotonic()
        self.unsettled |= {entry.position: entry for entry in missing}
        self.had_doubt = True
        return found

    async def last_look(self) -> tuple[dict[int, PromptResponse], list[int]]:
        """After all chunks: rows that came late, by position, and the ids of surplus rows."""
        await self._look()
        found = self._claim(list(self.unsettled.values()))
        return found, sorted(self._pool.ids_of(self._asked))

    async def _look_for(self, wanted: Sequence[Wanted]) -> dict[int, PromptResponse]:
        await self._look()
        found = self._claim(wanted)
        if self._steady:
            missing = [entry for entry in wanted if entry.position not in found]
            found |= self._pool.claim_any_epoch(missing, self._asked)
        return found

    def _claim(self, wanted: Sequence[Wanted]) -> dict[int, PromptResponse]:
        found = self._pool.claim(wanted)
        for position in found:
            self.unsettled.pop(position, None)
        return found

    async def _look(self) -> None:
        """One pass that began after this was called; shared by those who wait for one."""
        begun = self._passes
        async with self._lock:
            if self._passes > begun:
                return
            self._passes += 1
            rows = await self._rows()
            known = self._known if self._known is not None else set[int]()
            self._pool.add(row for row in rows if row.id not in known)
            known.update(row.id for row in rows)
            self._rows_seen = len(known)
            ids = frozenset(row.id for row in rows)
            self._steady, self._last = ids == self._last, ids

    async def _rows(self) -> list[PromptResponse]:
        return await Listing(
            self._setting.connection,
            PromptResponse,
            "responses",
            query={"experiment_id": self._experiment_id},
            policy=self._setting.policy,
        )
