"""`RatingMatcher`: the ratings that responses had before a chunk, and those that are new."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress

import anyio

from elluminate_async.engine.chunks import Item
from elluminate_async.engine.records import UnfinishedChunk
from elluminate_async.errors import APIError, ItemError, NotFoundError, ServiceUnavailableError
from elluminate_async.operations.chunk_log import ChunkLog, not_own, not_there
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.deadline import holding
from elluminate_async.operations.echoes import Subject, hash_of_response
from elluminate_async.operations.experiment_rows import ExperimentRows
from elluminate_async.operations.listing import Listing, read_one
from elluminate_async.operations.new_ratings import new_ratings, template_of
from elluminate_async.operations.parts import list_responses
from elluminate_async.operations.pins import pins_of_criteria
from elluminate_async.operations.reconciling import UNREADABLE, ReconcileSchedule
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.version import Capability

logger = logging.getLogger("elluminate_async")


class RatingMatcher:
    """Tells new ratings from old ones, and complete from incomplete ones.

    Args:
        context: Of the call.
        log: Of the call; its journal learns by which criteria responses are rated.
    """

    def __init__(self, context: CallContext, log: ChunkLog) -> None:
        self._context = context
        self._log = log
        self._criteria: dict[int, Mapping[int, str]] = {}
        self._reading = anyio.Lock()
        self._told = False

    async def ratings_now(self, ids: Sequence[int]) -> dict[int, PromptResponse]:
        """The responses of these ids as they are, with their ratings."""
        rows = await list_responses(
            self._context.connection, {"response_ids": ids}, policy=self._context.policy
        )
        wanted = set(ids)
        return {row.id: row for row in rows if row.id in wanted}

    async def baseline(
        self,
        ids: Sequence[int],
        given: Iterable[PromptResponse],
        unfinished: UnfinishedChunk | None,
    ) -> dict[int, list[int]] | None:
        """The ids of the ratings that each response has before it is rated.

        None where the status of a job tells its results, and no such ids are needed.

        Args:
            ids: Of the responses.
            given: Those of them that the caller has, as they were read.
            unfinished: What an earlier sending of them noted.
        """
        policy = self._context.policy
        if await self._context.connection.has(Capability.RESULTS_WITH_STATUS, policy):
            return None
        if unfinished is not None and unfinished.facts.get("before") is not None:
            with self._log.reading():
                before = unfinished.facts["before"].items()
                return {int(id): [int(rating) for rating in ratings] for id, ratings in before}
        rows = await self._unrated(given)
        if left := [id for id in ids if id not in rows]:
            rows |= await self.ratings_now(left)
        for row in rows.values():
            # Pinned before the first job; what cannot be read now is read with the ratings.
            with suppress(*UNREADABLE):
                await self._criteria_of(row)
        return {id: [rating.id for rating in row.ratings] for id, row in rows.items()}

    async def _unrated(self, given: Iterable[PromptResponse]) -> dict[int, PromptResponse]:
        """Those that have no rating now, as the map of their experiment tells, by id.

        Only of rows that this client has read itself, without a rating, which tells it their
        experiment; of all others the documents are read.
        """
        fresh = {row.id: row for row in given if not row.ratings}
        for rows in self._context.connection.all_kept(ExperimentRows):
            if fresh and fresh.keys() <= rows.known:
                unrated = await rows.unrated(self._context, len(fresh))
                return {id: row for id, row in fresh.items() if id in unrated}
        return {}

    async def pin_criteria(self, rows: Iterable[PromptResponse]) -> None:
        """Have the journal know by what responses are rated, once for each template.

        Raises:
            JournalError: It was something else when the journal was begun.
        """
        if self._log.recovery is None:
            return
        for template, row in {template_of(row): row for row in rows}.items():
            if template is None:
                continue
            if not self._criteria.get(template):
                # One without criteria gets some when it is rated first.
                self._criteria.pop(template, None)
            await self._criteria_of(row)
            if criteria := self._criteria[template]:
                name = f"criteria of the prompt template {template}"
                self._log.recovery.pin({name: pins_of_criteria(criteria)})

    async def not_theirs(
        self, items: Sequence[Item[Subject]], unfinished: UnfinishedChunk | None, *, pins: bool
    ) -> dict[int, ItemError]:
        """Of a call with a journal: the responses that are not what the call is about, by id.

        Their ids are of other responses now, or they were changed. Of what was given by id
        the content is learned, for the journal.
        """
        if self._log.recovery is None:
            return {}
        rows = await self.ratings_now([item.value.id for item in items])
        if pins:
            await self.pin_criteria(rows.values())
        known: Mapping[str, str | None] = {}
        if unfinished is not None:
            with self._log.reading():
                known = {**unfinished.facts["contents"]}
        problems: dict[int, ItemError] = {}
        for item in items:
            subject, row = item.value, rows.get(item.value.id)
            if row is None:
                # The service says so itself, where it is asked to rate it.
                if unfinished is not None:
                    problems[subject.id] = not_there(item.position, "rate", "response")
                continue
            there = hash_of_response(row)
            content = subject.hash() or known.get(str(subject.id)) or there
            if content != there:
                problems[subject.id] = not_own(item.position, "rate", f"the response {row.id}")
            subject.content = content
        return problems

    async def shown(
        self, outcomes: dict[int, list[Rating] | ItemError]
    ) -> dict[int, list[Rating] | ItemError]:
        """Those of an earlier run's job whose ratings are ratings of these very responses."""
        if self._log.recovery is None:
            return outcomes
        rows = await self.ratings_now(list(outcomes))
        ids = {id: {rating.id for rating in row.ratings} for id, row in rows.items()}
        return {
            id: outcome
            for id, outcome in outcomes.items()
            if isinstance(outcome, ItemError)
            or {rating.id for rating in outcome} <= ids.get(id, set())
        }

    async def new_ratings(
        self, ids: Sequence[int], before: Mapping[int, Container[int]]
    ) -> dict[int, list[Rating] | ItemError] | None:
        """Response id to outcome, by what the listing shows now; None when it cannot be read."""
        try:
            after = await self.ratings_now(ids)
            criteria = {id: await self._criteria_of(row) for id, row in after.items()}
        except UNREADABLE as error:
            logger.debug("the ratings could not be read: %s", error)
            return None
        outcomes = new_ratings(before, after, criteria)
        self._tell_of_change(outcomes, criteria)
        return outcomes

    async def completable(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of incomplete responses that may be whole if they are rated again.

        Not those that lack but criteria which were deleted: no verdict is to come by these.
        """
        connection, policy = self._context.connection, self._context.policy
        if await connection.has(Capability.RESULTS_WITH_STATUS, policy):
            return ids
        try:
            lacking: dict[int, frozenset[int]] = {}
            for id, row in (await self.ratings_now(ids)).items():
                shown = {rating.criterion.id for rating in row.ratings}
                lacking[id] = await self._criteria_of(row) - shown
            gone = {one for one in set[int]().union(*lacking.values()) if await self._is_gone(one)}
        except UNREADABLE:
            return ids
        return [id for id in ids if not lacking.get(id) or lacking[id] - gone]

    async def _is_gone(self, criterion_id: int) -> bool:
        connection, policy = self._context.connection, self._context.policy
        try:
            await read_one(connection, Criterion, "criteria", criterion_id, policy=policy)
        except NotFoundError:
            return True
        except UNREADABLE:
            raise
        except APIError:
            # Refused for good: it may be there.
            return False
        return False

    def _tell_of_change(
        self,
        outcomes: Mapping[int, list[Rating] | ItemError],
        pinned: Mapping[int, frozenset[int]],
    ) -> None:
        for id, outcome in outcomes.items():
            rated_by = (
                {rating.criterion.id for rating in outcome}
                if isinstance(outcome, list)
                else set[int]()
            )
            added = sorted(rated_by - pinned[id])
            # All of them added: an experiment that rates by a set of its own.
            if added and rated_by & pinned[id] and not self._told:
                self._told = True
                logger.warning(
                    "rate: criteria were added to a template while its responses were being "
                    "rated, and some have ratings by %s as well",
                    added,
                )

    async def reconcile(
        self, ids: Sequence[int], before: Mapping[int, Container[int]], settle: float
    ) -> tuple[dict[int, list[Rating] | ItemError], bool]:
        """Response id to outcome, after a sending of which not all is known.

        Looks until each response has a new rating by every criterion of its template, or no
        new one came for ``settle`` seconds in which the listing could be read, or the
        deadline passes. Also whether the last
        look could read the listing: else what has no outcome may have its ratings.
        """
        schedule = ReconcileSchedule(self._context.policy, settle)
        shown = ""
        outcomes: dict[int, list[Rating] | ItemError] = {}
        readable = False
        while await schedule.next_look():
            try:
                found = await self.new_ratings(ids, before)
            except ServiceUnavailableError:
                return outcomes, False
            readable = found is not None
            outcomes = found or outcomes
            if all(isinstance(outcomes.get(id), list) for id in ids):
                break
            # Ids of ratings and texts of what is incomplete: equal while nothing comes.
            if not readable or shown != (shown := str(outcomes)):
                schedule.news()
        return outcomes, readable

    async def _criteria_of(self, row: PromptResponse) -> frozenset[int]:
        template = row.prompt.prompt_template
        if template is None:
            return frozenset()
        async with holding(self._reading, self._context.policy):
            if template.id not in self._criteria:
                self._criteria[template.id] = await self._read_criteria(template.id)
            return frozenset(self._criteria[template.id])

    async def _read_criteria(self, template_id: int) -> Mapping[int, str]:
        try:
            found = await Listing(
                self._context.connection,
                Criterion,
                "criteria",
                query={"prompt_template_id": template_id},
                policy=self._context.policy,
            )
        except UNREADABLE:
            raise
        except APIError:
            # Refused for good: what rated a response's neighbours tells what it is missing.
            return {}
        return {criterion.id: criterion.criterion_str for criterion in found}
