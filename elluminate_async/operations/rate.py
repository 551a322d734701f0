"""`Rate`: chunks of responses, rated by the service's judge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from elluminate_async.engine.chunks import Item
from elluminate_async.engine.item_errors import is_revoked, unknown_outcome
from elluminate_async.engine.operation import ChunkRefusedError, ChunkRevokedError
from elluminate_async.engine.records import CONTENT, UnfinishedChunk
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.errors import (
    AnswerTooLargeError,
    ElluminateError,
    ItemError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RatingError,
    RejectedError,
)
from elluminate_async.operations.base import ChunkOperation
from elluminate_async.operations.chunk_log import (
    ChunkIntent,
    ResentChunk,
    in_doubt,
    not_own,
    not_there,
)
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.echoes import Subject, hash_of_ratings, hash_of_response
from elluminate_async.operations.jobs import (
    follow_job,
    job_failure,
    unknown_or_raise,
)
from elluminate_async.operations.json_input import encode
from elluminate_async.operations.new_ratings import (
    by_result,
    check_own,
    incomplete_ones,
    no_rating,
    ratings_of,
    with_ratings,
    without_revoked,
)
from elluminate_async.operations.rating_items import ids_of, those_of
from elluminate_async.operations.rating_matcher import RatingMatcher
from elluminate_async.operations.reconciling import ENDED_SETTLE
from elluminate_async.operations.run_keys import (
    KeyConflictError,
    Run,
    conflicts_in,
    honours_items,
    key_of_chunk,
    watches_job,
)
from elluminate_async.operations.sendings import Sendings
from elluminate_async.operations.starting import StartedJob, start_job
from elluminate_async.schemas.jobs import RatingJobStatus
from elluminate_async.schemas.ratings import Rating, RatingBatchRequest, RatingMode
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.operation import Outcomes

Ratings: TypeAlias = list[Rating]
"""A response's ratings, one per criterion."""

_BATCHES = ("ratings", "batches")

MAX_CHUNK = 100
"""Ids in one request at most: what a listing by ids can take in its URL."""


class Rate(ChunkOperation[Subject, Ratings]):
    """Has responses rated.

    Args:
        context: Of the call.
        rating_mode: With or without the judge's reasoning.
        run: That the call belongs to.
        total: Number of positions, where it is known beforehand.
        journal: Path of the call's journal.
        pins_criteria: Whether the journal learns the criteria of the responses' templates; not
            needed where an experiment's own set rates them, which the caller looks after.
    """

    of: ClassVar[type | None] = Rating

    def __init__(
        self,
        context: CallContext,
        rating_mode: RatingMode,
        run: Run | None = None,
        *,
        total: int | None,
        journal: Path | None,
        pins_criteria: bool = True,
    ) -> None:
        super().__init__(context, "rate", total=total, journal=journal)
        self._mode = rating_mode
        self._run = run
        self._is_keyed = False
        self._pins_criteria = pins_criteria
        self._matcher = RatingMatcher(context, self.log)

    def _with(self, context: CallContext) -> Self:
        return type(self)(
            context,
            self._mode,
            self._run,
            total=self._total,
            journal=self._journal,
            pins_criteria=self._pins_criteria,
        )

    @property
    def options(self) -> BatchOptions:
        """The options of the call, with chunks that the service takes."""
        options = self.context.options
        return options.replace(chunk_size=min(MAX_CHUNK, options.chunk_size))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments by which a journal knows the call."""
        run = {} if self._run is None else {"run": self._run.name}
        return {"rating_mode": self._mode.value, **run}

    def fingerprint(self, value: Subject) -> str:
        """Equal for the same response with the same content."""
        return fingerprint_of(value.id, None if value.response is None else value.hash())

    def reference(self, value: Subject, result: Ratings) -> list[Any]:
        """Which ratings a response has, and a hash of both."""
        return [[rating.id for rating in result], hash_of_ratings(value.hash() or "", result)]

    def rated(self, value: Subject) -> int | None:
        """The id of the response."""
        return value.id

    def partial_reference(self, value: Subject, error: ItemError) -> list[Any] | None:
        """The verdicts that there are of a response which has not all, and its error."""
        if not isinstance(error, RatingError) or not error.ratings:
            return None
        plain = {name: part for name, part in error.to_dict().items() if name not in CONTENT}
        return [*self.reference(value, ratings_of(error)), plain]

    async def _send(
        self, items: Sequence[Item[Subject]], unfinished: UnfinishedChunk | None
    ) -> Outcomes[Ratings]:
        """POST a chunk, follow its job, yield an outcome for every response it rated.

        Where nothing is known of a sending, what new ratings there are tell. What a job left
        incomplete is rated once more. An ``unfinished`` chunk is gone on with where it was left.
        """
        self._is_keyed = await honours_items(self.context, self._run)
        outcomes: dict[int, Ratings | ItemError] = {}
        outcomes |= await self._matcher.not_theirs(items, unfinished, pins=self._pins_criteria)
        problem: ElluminateError | None = None
        known = unfinished
        if known is not None and known.job_id is None and self._is_keyed and known.facts.get("run"):
            # The run keeps what it did from being done twice, whatever it was.
            known = None
        if ids := ids_of(items, without=outcomes):
            found, problem = await self._send_first(ids, items, known)
            outcomes |= found
        revoked = unfinished is not None and is_revoked(problem)
        if revoked:
            outcomes = without_revoked(outcomes)
        again: Sequence[int] = incomplete_ones(outcomes, problem)
        if again and (again := await self._matcher.completable(again)):
            # What became of the first time stays, whatever stops the second.
            with suppress(ChunkRefusedError, KeyConflictError, ElluminateError):
                outcomes |= (await self._send_once(again, those_of(items, again), None))[0]
        for item in items:
            if (outcome := outcomes.get(item.value.id)) is not None:
                failed = isinstance(outcome, ItemError)
                yield item.position, outcome.at(item.position) if failed else outcome
        if problem is not None and any(id not in outcomes for id in ids):
            raise ChunkRevokedError if revoked else problem

    async def _send_first(
        self, ids: Sequence[int], items: Sequence[Item[Subject]], unfinished: UnfinishedChunk | None
    ) -> tuple[dict[int, Ratings | ItemError], ElluminateError | None]:
        """`_send_once`, and of a run once more what another process of it has left undone."""
        sendings = Sendings(
            self._run,
            self.context.policy.deadline_at,
            is_keyed=self._is_keyed,
            is_matched=not self.context.connection.offers(Capability.RESULTS_WITH_STATUS),
        )
        outcomes: dict[int, Ratings | ItemError] = {}
        left = ids
        while left and sendings.goes_on:
            try:
                found, latest = await self._send_once(
                    left, those_of(items, left), unfinished, anew=sendings.anew
                )
                sendings.came(latest)
                if sendings.goes_on:
                    # Each that was not rated is asked for once more.
                    found = without_revoked(found)
            except KeyConflictError as conflict:
                found = {id: conflict.error_of(0, "rate") for id in left if id in conflict.which}
            except (ChunkRefusedError, ElluminateError) as error:
                if sendings.failed(error):
                    raise
                found = {}
            unfinished = None
            outcomes |= found
            left = [id for id in left if id not in outcomes]
        return outcomes, sendings.problem

    async def _send_once(
        self,
        ids: Sequence[int],
        items: Sequence[Item[Subject]],
        unfinished: UnfinishedChunk | None,
        *,
        anew: bool = False,
    ) -> tuple[dict[int, Ratings | ItemError], ElluminateError | None]:
        """Outcomes by response id, and what is wrong with the ids that have none."""
        policy = self.context.policy
        given = [item.value.response for item in items if item.value.response is not None]
        before = await self._matcher.baseline(ids, given, unfinished)
        outcomes: dict[int, Ratings | ItemError] = {}
        problem: ElluminateError | None = None
        try:
            job = await self._start_job(ids, items, before, unfinished, anew=anew)
            with in_doubt():
                status = await follow_job(
                    self.context.connection,
                    RatingJobStatus,
                    *_BATCHES,
                    job.id,
                    operation="rate",
                    policy=policy,
                    measured=partial(self.sizes.learn, items),
                    watches=watches_job(job, self._run, is_keyed=self._is_keyed),
                )
                problem = job_failure(job.id, status.status, status.error_msg)
                if before is None:
                    asked = ids if unfinished is None else self._asked_by(unfinished)
                    check_own(status, asked, job.id)
                    outcomes = by_result(asked, status)
                    outcomes = {id: outcomes[id] for id in ids if id in outcomes}
                    if unfinished is not None:
                        outcomes = await self._matcher.shown(outcomes)
                    return outcomes, problem or no_rating()
                outcomes = await self._matcher.new_ratings(ids, before) or {}
        except ElluminateError as error:
            if isinstance(error, AnswerTooLargeError):
                self.sizes.learn_too_large(items)
                if self._is_keyed:
                    # Asked for in smaller parts: what was rated is known by the run.
                    raise ChunkRefusedError(error) from None
            problem = unknown_or_raise(error, "rate")
        # What is incomplete may only not be shown yet.
        left = [id for id in ids if not isinstance(outcomes.get(id), list)]
        if left and before is not None:
            seconds = self.context.options.settle
            if not isinstance(problem, OutcomeUnknownError):
                # The job has ended, so its ratings should be there: they may only be late.
                problem, seconds = problem or no_rating(), min(seconds, ENDED_SETTLE)
            with in_doubt():
                found, readable = await self._matcher.reconcile(left, before, seconds)
            outcomes |= found
            late = not readable or time.monotonic() >= policy.deadline_at
            if isinstance(problem, JobError) and late:
                # There was no look that could tell what it did before it failed.
                problem = unknown_outcome(problem, "rate")
        return outcomes, problem

    async def _start_job(
        self,
        ids: Sequence[int],
        items: Sequence[Item[Subject]],
        before: Mapping[int, Sequence[int]] | None,
        unfinished: UnfinishedChunk | None,
        *,
        anew: bool,
    ) -> StartedJob:
        if unfinished is not None and unfinished.job_id is not None:
            return StartedJob(unfinished.job_id)
        # A key belongs to the whole request, whatever is known of its responses by now.
        asked = ids if unfinished is None else self._asked_by(unfinished)
        body = self._body(asked)
        if unfinished is not None:
            await self.log.require_same(unfinished, body)
            with in_doubt():
                return await self._post(body, ResentChunk(unfinished.key), asked)
        key = key_of_chunk(
            self.context, self._run, "rate", ids, body, is_keyed=self._is_keyed, anew=anew
        )
        return await self._post(body, self._intend(items, ids, before, body, key), ids)

    def _body(self, ids: Sequence[int]) -> bytes:
        """The request to rate these responses."""
        run = self._run.wire if self._run is not None and self._is_keyed else None
        return encode(
            RatingBatchRequest(prompt_response_ids=[*ids], rating_mode=self._mode, run=run)
        )

    async def _post(self, body: bytes, sending: ResentChunk, asked: Sequence[int]) -> StartedJob:
        try:
            job = await start_job(
                self.context.connection,
                *_BATCHES,
                body=body,
                empty=encode(RatingBatchRequest(prompt_response_ids=[], rating_mode=self._mode)),
                sending=sending,
                operation="rate",
                policy=self.context.policy,
                items=len(asked),
            )
        except (RejectedError, PayloadTooLargeError, NotFoundError) as error:
            if indices := conflicts_in(error, len(asked)):
                raise KeyConflictError({asked[index] for index in indices}, error) from None
            raise ChunkRefusedError(error) from None
        with in_doubt():
            self.log.accepted(sending.key, job.id)
        return job

    def _intend(
        self,
        items: Sequence[Item[Subject]],
        ids: Sequence[int],
        before: Mapping[int, Sequence[int]] | None,
        body: bytes,
        key: str,
    ) -> ChunkIntent:
        """How to send a chunk that was never sent."""
        facts: dict[str, Any] = {"ids": ids, "before": before}
        if self._is_keyed:
            facts["run"] = True
        if self.log.recovery is not None:
            # Of those that came with their content, the hashes of the inputs have it.
            read = {i.value.id: i.value.content for i in items if i.value.response is None}
            facts["contents"] = read
        return self.log.intend([item.position for item in items], body, facts, key)

    def _asked_by(self, unfinished: UnfinishedChunk) -> list[int]:
        """The ids in the request of a chunk that was sent before, in its order."""
        with self.log.reading():
            return [int(id) for id in unfinished.facts["ids"]]

    async def fetch(
        self, items: Sequence[Item[Subject]], references: Mapping[int, Any]
    ) -> Outcomes[Ratings]:
        """The ratings of these references, by position, as they are at the service now."""
        with self.log.reading():
            ids = {position: [int(id) for id in one[0]] for position, one in references.items()}
            said = {position: one[1] for position, one in references.items()}
            errors = {
                position: ItemError.from_dict(one[2])
                for position, one in references.items()
                if len(one) > 2
            }
        rows = await self._matcher.ratings_now([item.value.id for item in items])
        if self._pins_criteria:
            await self._matcher.pin_criteria(rows.values())
        for item in items:
            position, row = item.position, rows.get(item.value.id)
            there = {rating.id: rating for rating in row.ratings} if row is not None else {}
            error = errors.get(position)
            if row is None or not there.keys() >= {*ids[position]}:
                yield position, error or not_there(position, "rate", "ratings")
                continue
            ratings = [there[id] for id in ids[position]]
            content = hash_of_response(row)
            own = item.value.response is None or item.value.hash() == content
            if own and hash_of_ratings(content, ratings) == said[position]:
                yield position, ratings if error is None else with_ratings(error, ratings)
            else:
                yield position, not_own(position, "rate", f"a rating of the response {row.id}")
