"""`ListingMatcher`: a call's rows by its experiment's listing, where a job tells no results."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import anyio

from elluminate_async.engine.records import ids_of_ranges, ranges_of
from elluminate_async.errors import DeadlineError, ServiceUnavailableError
from elluminate_async.operations.deadline import holding
from elluminate_async.operations.experiment_rows import ExperimentRows
from elluminate_async.operations.matching import ExpectedRow, NaturalKey
from elluminate_async.operations.reconciling import UNREADABLE, ReconcileSchedule
from elluminate_async.operations.row_readings import Depth, Reading
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.operations.chunk_log import ChunkLog
    from elluminate_async.operations.context import CallContext

logger = logging.getLogger("elluminate_async")

VISIBILITY_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each look for rows that a finished job made and the listing does not show."""


def _keys_left(chunk: UnfinishedChunk) -> list[NaturalKey]:
    """The natural keys of the positions of an earlier run's chunk that have no outcome."""
    pairs = zip(chunk.positions, chunk.facts["keys"], strict=True)
    return [NaturalKey(*key) for position, key in pairs if position in chunk.left]


LIGHT_LOOKS = 3
"""Looks after which the listing itself is read, in case that the map has not all rows."""


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
        self._before: set[int] = set()
        self._surveyed: set[int] = set()
        self._all_surveyed = False
        self._starting = anyio.Lock()
        self._asked: dict[NaturalKey, ExpectedRow] = {}
        self.had_doubt = False
        self.unreconciled: dict[int, ExpectedRow] = {}

    async def before_sending(
        self, variables_ids: Sequence[int], epoch: int | None = None
    ) -> list[NaturalKey]:
        """Note what is there already of these variables' rows; the keys to ask for."""
        await self.begin(variables_ids)
        return self._rows.number(variables_ids, epoch)

    def ask(self, wanted: Iterable[ExpectedRow]) -> None:
        """These are the rows that the call asks for, or an earlier run of it did."""
        self._asked.update((entry.key, entry) for entry in wanted)

    async def begin(self, variables_ids: Iterable[int]) -> None:
        """Note what is there already of these variables' rows, once, or what an earlier run noted.

        A call with a journal notes all rows, and so does one that comes with other variables
        after its first.
        """
        async with holding(self._starting, self._context.policy):
            if self._all_surveyed or self._surveyed.issuperset(variables_ids):
                return
            recovery = self._log.recovery
            if recovery is None and not self._surveyed:
                ids = set(variables_ids)
                reading = await self._rows.survey(self._context, ids)
                self._surveyed |= ids
            else:
                reading = await self._rows.survey(self._context, None)
                self._all_surveyed = True
            if recovery is None:
                self._all_surveyed |= reading.covers is None
                self._before |= reading.keys.keys()
                return
            state = recovery.journal.state
            if state.baseline is None:
                recovery.journal.baseline({"ids": ranges_of(reading.keys)})
                self._before |= reading.keys.keys()
                return
            with recovery.reading():
                before = frozenset(ids_of_ranges(state.baseline["ids"]))
                mine = [key for chunk in state.open_chunks for key in _keys_left(chunk)]
                taken = {int(id) for id, *_ in state.done.values()}
            await self._rows.recover(self._context, reading, mine, before | taken)
            self._before |= before

    def release(self, wanted: Iterable[ExpectedRow]) -> None:
        """No row will come for these keys."""
        for entry in wanted:
            self._asked.pop(entry.key, None)
            self._rows.asked[entry.key] -= 1

    async def find(self, wanted: Sequence[ExpectedRow]) -> dict[int, PromptResponse]:
        """Position to row; what stays out has no row that the listing shows (or fails to)."""
        found = self._claim(wanted)
        last: Reading | None = None
        for look, wait in enumerate(VISIBILITY_WAITS):
            missing = [entry for entry in wanted if entry.position not in found]
            if not missing:
                return found
            depth = Depth.VARIABLES if look < LIGHT_LOOKS else Depth.LISTING
            try:
                await anyio.sleep(self._context.policy.clock(wait))
                more, last = await self._look_for(missing, last, depth)
            except (*UNREADABLE, ServiceUnavailableError):
                # What was claimed is kept; whoever asked may settle the rest.
                return found
            if more and depth is Depth.LISTING:
                self._rows.distrust_map()
            found |= more
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
        last: Reading | None = None
        looks = 0
        while missing := [entry for entry in wanted if entry.position not in found]:
            if not await schedule.next_look():
                break
            depth = Depth.ALL if looks < LIGHT_LOOKS else Depth.LISTING
            looks += 1
            try:
                more, reading = await self._look_for(missing, last, depth)
                found |= more
                if more or (last is not None and reading.keys.keys() != last.keys.keys()):
                    schedule.news()
                last = reading
            except (DeadlineError, ServiceUnavailableError):
                break
            except UNREADABLE as error:
                logger.debug("the listing could not be read, trying again: %s", error)
                schedule.news()
        self.unreconciled |= {entry.position: entry for entry in missing}
        self.had_doubt = True
        return found

    async def final_reconcile(self) -> tuple[dict[int, PromptResponse], list[int]]:
        """After all chunks: rows that came late, by position, and the ids of surplus rows."""
        variables = {key.template_variables_id for key in self._asked}
        depth = Depth.LISTING if self.unreconciled else Depth.ALL
        await self._rows.look(self._context, variables, depth)
        found = self._claim(list(self.unreconciled.values()))
        return found, sorted(self._rows.pool.ids_of(self._asked))

    async def _look_for(
        self, wanted: Sequence[ExpectedRow], last: Reading | None, depth: Depth
    ) -> tuple[dict[int, PromptResponse], Reading]:
        """The rows that a look finds, and its reading, which is compared with the ``last``."""
        variables = {entry.key.template_variables_id for entry in wanted}
        reading = await self._rows.look(self._context, variables, depth)
        found = self._claim(wanted)
        missing = [entry for entry in wanted if entry.position not in found]
        if missing and self._interchangeable and reading.agrees_with(last):
            others = self._rows.pool.claim_any_epoch(
                missing, reserved=self._rows.asked, not_among=self._before
            )
            # Their own keys are not waited for any more, and rows of those are free for others.
            self._rows.asked.subtract(entry.key for entry in missing if entry.position in others)
            self._reconciled(others)
            found |= others
        return found, reading

    def _claim(self, wanted: Sequence[ExpectedRow]) -> dict[int, PromptResponse]:
        found = self._rows.pool.claim(wanted)
        self._rows.asked.subtract(entry.key for entry in wanted if entry.position in found)
        self._reconciled(found)
        return found

    def _reconciled(self, found: Iterable[int]) -> None:
        for position in found:
            self.unreconciled.pop(position, None)
