"""`RowReader`: the ways to read which rows an experiment has, and what each of them costs.

In bytes of the embedded server, a row of a listing takes some 3,000, and one of a map 250::

    by variables    a request for each entry, and its rows as documents
    the map         a request for 500 entries, and the keys of their rows
    the listing     a request for each page of rows, and all of them as documents

The listing is what tells; a map is trusted where it has as many rows as the listing counts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import anyio

from elluminate_async.errors import AnswerTooLargeError, APIError, ProtocolError
from elluminate_async.operations.at_once import for_each
from elluminate_async.operations.listing import PAGES_AHEAD
from elluminate_async.operations.maps import MapListing
from elluminate_async.operations.matching import NaturalKey, key_of
from elluminate_async.operations.parts import list_responses
from elluminate_async.schemas.experiments import ExperimentMapSample
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext

logger = logging.getLogger("elluminate_async")

FEW_VARIABLES = 4
"""Entries that are always asked for one by one."""

_SAMPLES_PER_PAGE = 500
_ENTRIES_FOR_A_PAGE = 4  # requests by variables that cost as much as one page of a map
_MAP_ROWS_FOR_A_ROW = 12  # rows of a map that cost less than one of a listing
_SOME = 5
_NO_SUCH_PAGE = (400, 403, 404, 405, 422)


class Depth(IntEnum):
    """How much a reading is to tell of."""

    VARIABLES = 0
    """Of some entries' rows, by whatever way is light."""
    ALL = 1
    """Of all rows."""
    LISTING = 2
    """Of all rows, by the listing itself."""


@dataclass(slots=True)
class Reading:
    """The rows of one reading, as far as it told of them.

    Attributes:
        keys: The natural key of each row, by its id.
        rows: Those rows whose documents came along.
        unrated: Ids of those that are said to have no rating.
        covers: The variables whose rows are all in it; None for all.
        is_steady: Whether nothing came or went while it was read, as far as can be told.
        depth: How it was read.
    """

    keys: dict[int, NaturalKey] = field(default_factory=dict[int, NaturalKey])
    rows: dict[int, PromptResponse] = field(default_factory=dict[int, PromptResponse])
    unrated: set[int] = field(default_factory=set[int])
    covers: frozenset[int] | None = None
    is_steady: bool = False
    depth: Depth = Depth.ALL

    def add(self, rows: Collection[PromptResponse]) -> None:
        """Add documents."""
        self.keys.update((row.id, key_of(row)) for row in rows)
        self.rows.update((row.id, row) for row in rows)

    def add_samples(self, samples: Collection[ExperimentMapSample]) -> None:
        """Add a page of a map."""
        for sample in samples:
            for row in sample.responses:
                self.keys[row.response_id] = NaturalKey(sample.template_variables_id, row.epoch)
                if row.num_criteria_passed is None and row.num_criteria_failed is None:
                    self.unrated.add(row.response_id)

    def agrees_with(self, other: Reading | None) -> bool:
        """Whether both are steady, and of the same rows."""
        return (
            other is not None
            and self.is_steady
            and other.is_steady
            and self.keys.keys() == other.keys.keys()
        )


class RowReader:
    """Reads which rows one experiment has."""

    def __init__(self, experiment_id: int) -> None:
        self._experiment_id = experiment_id
        self._has_map = True
        self._is_crowded = False
        self._samples = 0
        self._rows = 0

    def distrust_map(self) -> None:
        """The listing shows what the map does not: only the listing is read from then on."""
        self._has_map = False

    def is_lighter_by_variables(self, variables: int) -> bool:
        """Whether to ask for so many entries one by one, by what was seen of the experiment."""
        pages = math.ceil(self._samples / _SAMPLES_PER_PAGE)
        most = max(FEW_VARIABLES, _ENTRIES_FOR_A_PAGE * pages)
        return not self._is_crowded and variables <= most

    def is_light_for_ratings(self, rows: int) -> bool:
        """Whether the map costs less than the documents of so many of its rows."""
        return self._has_map and 0 < self._rows <= _MAP_ROWS_FOR_A_ROW * rows

    async def by_variables(
        self, context: CallContext, variables: Collection[int]
    ) -> Reading | None:
        """The rows to these entries; None where one has more of them than a page."""
        reading = Reading(covers=frozenset(variables), is_steady=True, depth=Depth.VARIABLES)
        room = anyio.CapacityLimiter(PAGES_AHEAD)

        async def find(id: int) -> None:
            async with room:
                rows, count = await self._first_page(context, template_variables_id=id)
            reading.is_steady &= len(rows) == count
            reading.add(rows)

        await for_each(find, variables)
        if reading.is_steady:
            return reading
        self._is_crowded = True
        return None

    async def whole(self, context: CallContext, depth: Depth, *, steadily: bool) -> Reading:
        """All rows: by the map, or by the listing where there is none.

        Args:
            context: Of the call.
            depth: Whether the map will do.
            steadily: Whether to read a map again while its samples come and go, and to make sure
                that it has all rows.
        """
        if self._has_map and depth < Depth.LISTING:
            try:
                reading = await self._by_map(context, steadily=steadily)
            except (APIError, ProtocolError) as error:
                if isinstance(error, APIError) and error.status not in _NO_SUCH_PAGE:
                    raise
                logger.debug("an experiment has no map, and is listed: %s", error)
            else:
                if reading is not None:
                    return reading
                logger.debug("a map has not the rows that the listing counts: they are listed")
            self._has_map = False
        reading = Reading(is_steady=True, depth=Depth.LISTING)
        query = {"experiment_id": self._experiment_id}
        reading.add(await list_responses(context.connection, query, policy=context.policy))
        self._rows = len(reading.keys)
        return reading

    async def _by_map(self, context: CallContext, *, steadily: bool) -> Reading | None:
        """By the map; None where it was to be made sure of, and has not all rows."""
        reading = Reading()
        if not steadily:
            reading.is_steady = await self._read_map(context, reading, once=True)
            return reading
        for _ in range(2):
            reading = Reading(is_steady=True)
            await self._read_map(context, reading, once=False)
            rows, count = await self._first_page(context)
            if count == len(reading.keys) and all(row.id in reading.keys for row in rows):
                reading.add(rows)
                return reading
        return None

    async def _read_map(self, context: CallContext, reading: Reading, *, once: bool) -> bool:
        samples = 0

        async def take(found: list[ExperimentMapSample]) -> None:
            nonlocal samples
            samples += len(found)
            reading.add_samples(found)

        listing = MapListing(
            context.connection,
            self._experiment_id,
            per_page=_SAMPLES_PER_PAGE,
            policy=context.policy,
        )
        is_steady = True
        if once:
            is_steady = await listing.read_once(take)
        else:
            await listing.read(take)
        self._samples, self._rows = samples, len(reading.keys)
        return is_steady

    async def some(self, context: CallContext) -> Collection[PromptResponse]:
        """A few rows of the experiment, if it has any."""
        if self._has_map:
            few = MapListing(
                context.connection, self._experiment_id, per_page=_SOME, policy=context.policy
            )
            try:
                samples, self._samples = await few.first_page()
            except (APIError, ProtocolError) as error:
                if isinstance(error, APIError) and error.status not in _NO_SUCH_PAGE:
                    raise
                self._has_map = False
            else:
                ids = [row.response_id for sample in samples for row in sample.responses[:1]]
                query = {"response_ids": ids}
                return (
                    await list_responses(context.connection, query, policy=context.policy)
                    if ids
                    else []
                )
        return (await self._first_page(context))[0]

    async def _first_page(
        self, context: CallContext, **only: int
    ) -> tuple[list[PromptResponse], int]:
        """The first rows of the listing, and how many there are; -1 for a page over the cap."""
        query = {"experiment_id": self._experiment_id, **only}
        listing = list_responses(context.connection, query, policy=context.policy)
        try:
            return await listing.first_page()
        except AnswerTooLargeError:
            return [], -1
