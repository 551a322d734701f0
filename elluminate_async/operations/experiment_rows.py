"""`ExperimentRows`: which rows an experiment has, read as lightly as the service allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from elluminate_async.operations.deadline import holding
from elluminate_async.operations.matching import NaturalKey, RowPool
from elluminate_async.operations.parts import list_responses
from elluminate_async.operations.row_readings import Depth, Reading, RowReader

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext
    from elluminate_async.schemas.responses import PromptResponse

MOST_IDS = 100
"""Ids in one query: what fits into a URL."""


GATHERING = 0.005
"""Seconds for which a pass is put off that all chunks of a call need."""


class ExperimentRows:
    """One client's knowledge of one experiment's rows, over all its calls.

    It numbers the epochs that the calls ask for, above all that are there, so that no two
    calls, nor a call and a row of anybody else, ever have a natural key in common. So before a
    call sends, it surveys the rows of its variables, and what is there of these then is never
    taken for a row of its own. Afterwards it looks for rows that are new: by the variables,
    where those are few, or by the experiment's map, of which one pass serves everybody who
    waits for one; the documents of new rows alone are read. A service without a map is asked
    for the whole listing.

    Attributes:
        pool: Rows that came after a survey of their variables, and that no call has claimed.
        known: Ids of all rows that a survey found, or whose document was read.
        asked: How often each key was asked for and not claimed yet.
    """

    def __init__(self, experiment_id: int) -> None:
        self.pool = RowPool()
        self.known: set[int] = set()
        self.asked: Counter[NaturalKey] = Counter()
        self._reader = RowReader(experiment_id)
        self._highest: dict[int, int] = {}
        self._surveyed: set[int] = set()
        self._all_surveyed = False
        self._learned = False
        self._lock = anyio.Lock()
        # Passes over all rows are numbered: the latest that was begun, and that was read.
        self._begun = self._read = 0
        self._last = Reading()

    def number(self, variables_ids: Iterable[int], epoch: int | None = None) -> list[NaturalKey]:
        """A key for each of these, whose rows were surveyed: new, or of that ``epoch``."""
        keys: list[NaturalKey] = []
        for id in variables_ids:
            highest = self._highest.get(id, 0)
            keys.append(NaturalKey(id, epoch or highest + 1))
            self._highest[id] = max(highest, keys[-1].epoch)
        self.asked.update(keys)
        return keys

    async def survey(self, context: CallContext, variables: Collection[int] | None) -> Reading:
        """The rows that there are to these variables, None for all: before anything is sent."""
        reading = None
        if variables is not None and self._reader.is_lighter_by_variables(len(variables)):
            reading = await self._reader.by_variables(context, variables)
        if reading is None:
            reading = await self._pass(context, Depth.ALL, steadily=True)
        self._take(reading)
        await self._learn_configurations(context, reading)
        return reading

    async def look(self, context: CallContext, variables: Collection[int], depth: Depth) -> Reading:
        """Read, and put into the pool, what is new of the rows to these variables.

        Whatever could be seen when this was called is in it, unless rows come and go meanwhile.
        The variables were surveyed.
        """
        reading = None
        if depth is Depth.VARIABLES and self._reader.is_lighter_by_variables(len(variables)):
            reading = await self._reader.by_variables(context, variables)
        if reading is None:
            reading = await self._pass(context, depth, steadily=False)
        new = self._take(reading)
        self._add([reading.rows[id] for id in new if id in reading.rows])
        await self._fetch(context, reading, variables, [id for id in new if id not in self.known])
        return reading

    def distrust_map(self) -> None:
        """The listing has shown what the map did not."""
        self._reader.distrust_map()

    async def recover(
        self,
        context: CallContext,
        reading: Reading,
        mine: Sequence[NaturalKey],
        others: Container[int],
    ) -> None:
        """Offer the rows that an earlier run's chunks made: all that are not of ``others``.

        Args:
            context: Of the call.
            reading: Its survey of all rows.
            mine: The keys that those chunks asked for.
            others: Ids of rows that were there before them, or have their position.
        """
        self._add([row for id, row in reading.rows.items() if id not in others])
        variables = {key.template_variables_id for key in mine}
        left = [id for id in reading.keys if id not in others and id not in reading.rows]
        await self._fetch(context, reading, variables, left)
        for key in mine:
            self._highest[key[0]] = max(self._highest.get(key[0], 0), key.epoch)
            self.asked[key] = max(self.asked[key], 1)

    async def unrated(self, context: CallContext, count: int) -> Container[int]:
        """Ids of rows that have no rating now, where the map tells that for ``count`` of them."""
        if not self._reader.is_light_for_ratings(count):
            return ()
        # The chunks of a call begin together.
        reading = await self._pass(context, Depth.ALL, steadily=False, gathering=GATHERING)
        self._take(reading)
        return reading.unrated

    def _take(self, reading: Reading) -> list[int]:
        """Learn of a reading's rows; the ids of those that are new and were not read yet."""
        new: list[int] = []
        highest = self._highest
        for id, key in reading.keys.items():
            variables, epoch = key
            if epoch > highest.get(variables, 0):
                highest[variables] = epoch
            if id in self.known:
                continue
            if self._all_surveyed or variables in self._surveyed:
                new.append(id)
            elif reading.covers is None or variables in reading.covers:
                # Nothing was sent for these variables before their first survey.
                self.known.add(id)
        if reading.is_steady:
            if reading.covers is None:
                self._all_surveyed = True
            else:
                self._surveyed.update(reading.covers)
        return new

    async def _fetch(
        self,
        context: CallContext,
        reading: Reading,
        variables: Collection[int],
        new: Iterable[int],
    ) -> None:
        """Read the documents of those of these ids that are rows to the variables."""
        wanted = set(variables)
        ids = [id for id in new if reading.keys[id].template_variables_id in wanted]
        for start in range(0, len(ids), MOST_IDS):
            query = {"response_ids": ids[start : start + MOST_IDS]}
            self._add(await list_responses(context.connection, query, policy=context.policy))

    def _add(self, rows: Collection[PromptResponse]) -> None:
        self.pool.learn(rows)
        self.pool.add(rows)
        self.known.update(row.id for row in rows)

    async def _pass(
        self, context: CallContext, depth: Depth, *, steadily: bool, gathering: float = 0.0
    ) -> Reading:
        """A reading of all rows that began after this was called; shared by those who wait.

        Where several are likely to ask for one, it begins ``gathering`` seconds later.
        """
        called = self._begun
        if gathering:
            await anyio.sleep(context.policy.clock(gathering))
        async with holding(self._lock, context.policy):
            last = self._last
            if self._read > called and last.depth >= depth and last.is_steady >= steadily:
                return last
            self._begun = this = self._begun + 1
            reading = await self._reader.whole(context, depth, steadily=steadily)
            # Those who share it need no documents: what is new is in the pool by then.
            self._last, self._read = replace(reading, rows={}), this
            self._add([reading.rows[id] for id in self._take(reading) if id in reading.rows])
            return reading

    async def _learn_configurations(self, context: CallContext, reading: Reading) -> None:
        """Learn from a few rows, once, whether the service names configurations in them."""
        if self._learned or self.pool.names_configurations:
            return
        rows: Collection[PromptResponse] = list(reading.rows.values())
        if not rows and reading.covers is not None:
            rows = await self._reader.some(context)
        self.pool.learn(rows)
        self._learned = bool(rows)
