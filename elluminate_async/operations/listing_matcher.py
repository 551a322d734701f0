"""`ListingMatcher`: a call's rows by its experiment's listing, where a job tells no results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio

from elluminate_async.engine.records import ids_of_ranges, ranges_of
from elluminate_async.errors import DeadlineError, ServiceUnavailableError
from elluminate_async.operations.deadline import holding
from elluminate_async.operations.matching import ExpectedRow, NaturalKey, RowPool, key_of
from elluminate_async.operations.parts import list_responses
from elluminate_async.operations.reconciling import UNREADABLE, ReconcileSchedule
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.operations.chunk_log import ChunkLog
    from elluminate_async.operations.context import CallContext

logger = logging.getLogger("elluminate_async")

VISIBILITY_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each look for rows that a finished job made and the listing does not show."""


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


def _keys_left(chunk: UnfinishedChunk) -> list[NaturalKey]:
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
                        mine = [key for chunk in state.open_chunks for key in _keys_left(chunk)]
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
