"""Which of the service's rows belongs to which position. Never by list order.

A response row names the entry of template variables it was made for and its epoch; together
they are its natural key. Repeated inputs get distinct epochs, so that the key is unique among
the rows of one client. Rows of another client may have it too: the configuration that a row
names, and whatever else it says of its request, must not contradict.

Three inputs, of which two are the row 7, on an experiment that has a response to 7 already::

    position 0, row 7  →  key (7, 2), as (7, 1) is taken     found: id 13, epoch 2
    position 1, row 8  →  key (8, 1)                         found: id 12, epoch 1
    position 2, row 7  →  key (7, 3)                         found: id 14, epoch 3

Was id 12 of another configuration, another client made it: position 1 goes on waiting, and is
unknown when the time to reconcile is over.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import anyio

from elluminate_async.engine.records import ids_of_ranges, ranges_of
from elluminate_async.errors import (
    DeadlineError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.operations.connection import holding
from elluminate_async.operations.echoes import Echo, config_of
from elluminate_async.operations.parts import list_responses
from elluminate_async.operations.reconciling import ReconcileSchedule
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.operations.chunk_log import ChunkLog
    from elluminate_async.operations.context import CallContext

logger = logging.getLogger("elluminate_async")

VISIBILITY_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each look for rows that a finished job made and the listing does not show."""

UNREADABLE = (DeadlineError, TransportError, RateLimitError, ServerError)
"""Errors that keep a listing from being read, for now."""

ENDED_SETTLE = 5.0
"""Seconds to settle what a job that has ended does not show."""


class NaturalKey(NamedTuple):
    """The part of a request that its response row echoes."""

    template_variables_id: int
    epoch: int


_ANY = Echo()


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True)
class ExpectedRow:
    """A position, the key its row will have and what else it will say; never changed."""

    position: int
    key: NaturalKey
    echo: Echo = _ANY

    def fits(self, row: PromptResponse) -> bool:
        """Whether a row of the key says nothing else that contradicts."""
        return self.echo is _ANY or self.echo.fits(row)


def key_of(row: PromptResponse) -> NaturalKey:
    """The natural key of a row."""
    return NaturalKey(row.prompt.template_variables.id, row.epoch)


class RowPool:
    """Rows that no position has claimed yet."""

    def __init__(self, rows: Iterable[PromptResponse] = ()) -> None:
        self._rows: defaultdict[NaturalKey, list[PromptResponse]] = defaultdict(list)
        self._ids: set[int] = set()
        self._configs: set[int] = set()
        self.add(rows)

    def add(self, rows: Iterable[PromptResponse]) -> None:
        """Add rows that were never added; of one key, those added first are claimed first."""
        for row in rows:
            if row.id not in self._ids:
                self._ids.add(row.id)
                self._rows[key_of(row)].append(row)

    def learn(self, rows: Iterable[PromptResponse]) -> None:
        """Note which configurations the service names in its rows, if it does."""
        self._configs.update(id for row in rows if (id := config_of(row)) is not None)

    def claim(self, wanted: Iterable[ExpectedRow]) -> dict[int, PromptResponse]:
        """Position to row, for the exact keys; each row once."""
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            rows = self._rows.get(entry.key)
            if rows and (row := self._best(entry, rows)):
                found[entry.position] = row
                rows.remove(row)
        return found

    def _best(self, entry: ExpectedRow, rows: Sequence[PromptResponse]) -> PromptResponse | None:
        """The first row that can be that of a position; one that names its configuration first."""
        wanted = entry.echo.config_id
        if wanted is None:
            fitting = (row for row in rows if entry.fits(row))
            if entry.echo.text is None and len(self._configs) > 1:
                # Nobody knows which is meant: of several one at least is somebody else's.
                several = list(fitting)
                return several[0] if len({*map(config_of, several)}) == 1 else None
            return next(fitting, None)
        unnamed: PromptResponse | None = None
        for row in rows:
            if entry.fits(row):
                if config_of(row) is not None:
                    return row
                # Where answers have their configuration's name, one without was stored.
                if unnamed is None and (row.error is not None or not self._configs):
                    unnamed = row
        return unnamed

    def ids_of(self, asked: Mapping[NaturalKey, ExpectedRow]) -> Iterator[int]:
        """Ids of the rows that are still there and may be those of positions, by their keys."""
        for key, rows in self._rows.items():
            if entry := asked.get(key):
                yield from (row.id for row in rows if entry.fits(row))

    def claim_any_epoch(
        self,
        wanted: Sequence[ExpectedRow],
        *,
        reserved: Mapping[NaturalKey, int],
        not_among: Container[int] = (),
    ) -> dict[int, PromptResponse]:
        """The same by the variables alone, for a service that sets epochs by itself.

        Args:
            wanted: Positions that no row of their own key was found for.
            reserved: How many rows of a key are left to the positions that ask for it.
            not_among: Ids of rows that belong to others.
        """
        spare: defaultdict[int, list[PromptResponse]] = defaultdict(list)
        # The pool may hold all rows of a large batch, and each chunk looks for its own.
        ids = {entry.key.template_variables_id for entry in wanted}
        for key, rows in self._rows.items():
            if key.template_variables_id not in ids:
                continue
            free = [row for row in rows if row.id not in not_among]
            spare[key.template_variables_id].extend(free[reserved.get(key, 0) :])
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            rows = spare.get(entry.key.template_variables_id)
            if rows and (row := self._best(entry, rows)):
                found[entry.position] = row
                rows.remove(row)
                self._rows[key_of(row)].remove(row)
        return found


def match_result(
    wanted: Sequence[ExpectedRow],
    rows: Sequence[PromptResponse],
    *,
    in_order: bool = True,
    interchangeable: bool = False,
) -> dict[int, PromptResponse]:
    """Position to row, for the ``result`` of a terminal status document.

    The list is in the request's order, which its rows confirm by the variables they echo.
    Where one does not, or the length differs, the rows are matched by their keys alone, and
    what is ``interchangeable`` also by its variables, where the service sets epochs itself.
    """
    if in_order and [row.prompt.template_variables.id for row in rows] == [
        entry.key.template_variables_id for entry in wanted
    ]:
        return {entry.position: row for entry, row in zip(wanted, rows, strict=True)}
    pool = RowPool(rows)
    found = pool.claim(wanted)
    if interchangeable:
        # All of these rows are of this very request.
        missing = [entry for entry in wanted if entry.position not in found]
        found |= pool.claim_any_epoch(missing, reserved={})
    return found


class ExperimentRows:
    """One client's knowledge of one experiment's rows, over all its calls.

    It numbers the epochs that the calls ask for, above all that are there, so that no two
    calls, nor a call and a row of anybody else, ever have a natural key in common. One pass
    over the listing serves everybody who waits for one.

    Attributes:
        pool: Rows that came since the first pass and that no call has claimed.
        known: Ids of all rows ever seen.
        asked: How often each key was asked for and not claimed yet.
        steady: Whether the last two passes agreed.
    """

    def __init__(self, experiment_id: int) -> None:
        self.pool = RowPool()
        self.known: set[int] = set()
        self.asked: Counter[NaturalKey] = Counter()
        self.steady = False
        self._experiment_id = experiment_id
        self._highest: dict[int, int] = {}
        self._lock = anyio.Lock()
        self._passes = 0
        self._last: frozenset[int] = frozenset()

    def number(self, variables_ids: Iterable[int]) -> list[NaturalKey]:
        """A key that is new for each of these."""
        keys: list[NaturalKey] = []
        for id in variables_ids:
            self._highest[id] = self._highest.get(id, 0) + 1
            keys.append(NaturalKey(id, self._highest[id]))
        self.asked.update(keys)
        return keys

    async def recover(
        self, context: CallContext, mine: Sequence[NaturalKey], others: Container[int]
    ) -> None:
        """Offer the rows that an earlier run's chunks made: all that are not of ``others``.

        Args:
            context: Of the call.
            mine: The keys that those chunks asked for.
            others: Ids of rows that were there before them, or have their position.
        """
        rows = await self._list(context)
        self.pool.learn(rows)
        self.pool.add(row for row in rows if row.id not in others)
        for key in mine:
            self._highest[key[0]] = max(self._highest.get(key[0], 0), key.epoch)
            self.asked[key] = max(self.asked[key], 1)

    async def _list(self, context: CallContext) -> list[PromptResponse]:
        query = {"experiment_id": self._experiment_id}
        return await list_responses(context.connection, query, policy=context.policy)

    async def look(self, context: CallContext) -> None:
        """One pass that began after this was called; shared by those who wait for one."""
        # A pass that is under way began before this.
        begun = self._passes + self._lock.statistics().locked
        async with holding(self._lock, context.policy):
            if self._passes > begun:
                return
            rows = await self._list(context)
            self.pool.learn(rows)
            first = self._passes == 0
            self._passes += 1
            for row in rows:
                key = key_of(row)
                self._highest[key[0]] = max(self._highest.get(key[0], 0), row.epoch)
                if row.id not in self.known and not first:
                    self.pool.add([row])
                self.known.add(row.id)
            ids = frozenset(row.id for row in rows)
            self.steady, self._last = ids == self._last, ids


def keys_left(chunk: UnfinishedChunk) -> list[NaturalKey]:
    """The natural keys of the positions of an earlier run's chunk that have no outcome."""
    pairs = zip(chunk.positions, chunk.facts["keys"], strict=True)
    return [NaturalKey(*key) for position, key in pairs if position in chunk.left]


class ListingMatcher:
    """Matches by the experiment's listing, for a service that sends no results.

    Rows that were there before the call belong to others and are never matched. Memory: the
    experiment's rows that this client has seen.

    Args:
        context: Of the call.
        experiment_id: Whose rows.
        interchangeable: Whether rows of the same variables are as good as each other, as
            generated ones are; otherwise only the exact key matches.
        log: Of the call, for a journal.

    Attributes:
        had_doubt: Whether there was a sending of which nothing was known.
        unreconciled: Positions that such a sending left without a row.
    """

    def __init__(
        self, context: CallContext, experiment_id: int, *, interchangeable: bool, log: ChunkLog
    ) -> None:
        self._context = context
        self._log = log
        self._interchangeable = interchangeable
        self._rows = context.connection.keep(ExperimentRows, experiment_id)
        self._before: frozenset[int] | None = None
        self._starting = anyio.Lock()
        self._asked: dict[NaturalKey, ExpectedRow] = {}
        self.had_doubt = False
        self.unreconciled: dict[int, ExpectedRow] = {}

    async def before_sending(self, variables_ids: Sequence[int]) -> list[NaturalKey]:
        """Note what is there already, before the first chunk; the keys to ask for."""
        await self.begin()
        return self._rows.number(variables_ids)

    def ask(self, wanted: Iterable[ExpectedRow]) -> None:
        """These are the rows that the call asks for, or an earlier run of it did."""
        self._asked.update((entry.key, entry) for entry in wanted)

    async def begin(self) -> None:
        """Note what is there already, once, or take what an earlier run noted."""
        async with holding(self._starting, self._context.policy):
            if self._before is not None:
                return
            await self._rows.look(self._context)
            before = frozenset(self._rows.known)
            if (recovery := self._log.recovery) is not None:
                state = recovery.journal.state
                if state.baseline is None:
                    recovery.journal.baseline({"ids": ranges_of(before)})
                else:
                    with recovery.reading():
                        before = frozenset(ids_of_ranges(state.baseline["ids"]))
                        mine = [key for chunk in state.open_chunks for key in keys_left(chunk)]
                        taken = {int(id) for id, *_ in state.done.values()}
                    await self._rows.recover(self._context, mine, before | taken)
            self._before = before

    def release(self, wanted: Iterable[ExpectedRow]) -> None:
        """No row will come for these keys."""
        for entry in wanted:
            self._asked.pop(entry.key, None)
            self._rows.asked[entry.key] -= 1

    async def find(self, wanted: Sequence[ExpectedRow]) -> dict[int, PromptResponse]:
        """Position to row; what stays out has no row that the listing shows (or fails to)."""
        found = self._claim(wanted)
        for wait in VISIBILITY_WAITS:
            missing = [entry for entry in wanted if entry.position not in found]
            if not missing:
                return found
            try:
                await anyio.sleep(self._context.policy.clock(wait))
                found |= await self._look_for(missing)
            except (*UNREADABLE, ServiceUnavailableError):
                # What was claimed is kept; whoever asked may settle the rest.
                return found
        return found

    async def reconcile(
        self, wanted: Sequence[ExpectedRow], settle: float
    ) -> dict[int, PromptResponse]:
        """Position to row, after a sending of which nothing is known.

        Looks until every row is there, or no new one came for ``settle`` seconds in which
        the listing could be read, or the deadline passes. That a row stays out proves
        nothing: it may come later.
        """
        found = self._claim(wanted)
        schedule = ReconcileSchedule(self._context.policy, settle)
        while missing := [entry for entry in wanted if entry.position not in found]:
            if not await schedule.next_look():
                break
            rows = len(self._rows.known)
            try:
                found |= await self._look_for(missing)
            except (DeadlineError, ServiceUnavailableError):
                break
            except UNREADABLE as error:
                logger.debug("the listing could not be read, trying again: %s", error)
                schedule.news()
            if len(self._rows.known) != rows:
                schedule.news()
        self.unreconciled |= {entry.position: entry for entry in missing}
        self.had_doubt = True
        return found

    async def final_reconcile(self) -> tuple[dict[int, PromptResponse], list[int]]:
        """After all chunks: rows that came late, by position, and the ids of surplus rows."""
        await self._rows.look(self._context)
        found = self._claim(list(self.unreconciled.values()))
        return found, sorted(self._rows.pool.ids_of(self._asked))

    async def _look_for(self, wanted: Sequence[ExpectedRow]) -> dict[int, PromptResponse]:
        await self._rows.look(self._context)
        found = self._claim(wanted)
        missing = [entry for entry in wanted if entry.position not in found]
        if missing and self._rows.steady and self._interchangeable:
            others = self._rows.pool.claim_any_epoch(
                missing, reserved=self._rows.asked, not_among=self._before or ()
            )
            # Their own keys are not waited for any more, and rows of those are free for others.
            self._rows.asked.subtract(entry.key for entry in missing if entry.position in others)
            self._reconciled(others)
            found |= others
        return found

    def _claim(self, wanted: Sequence[ExpectedRow]) -> dict[int, PromptResponse]:
        found = self._rows.pool.claim(wanted)
        self._rows.asked.subtract(entry.key for entry in wanted if entry.position in found)
        self._reconciled(found)
        return found

    def _reconciled(self, found: Iterable[int]) -> None:
        for position in found:
            self.unreconciled.pop(position, None)
