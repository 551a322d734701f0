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
    NO_RESULT,
    by_result,
    incomplete_ones,
    ratings_of,
    with_ratings,
)
from elluminate_async.operations.rating_matcher import RatingMatcher
from elluminate_async.operations.reconciling import ENDED_SETTLE
from elluminate_async.operations.starting import start_job
from elluminate_async.schemas.jobs import REVOKED, RatingJobStatus
from elluminate_async.schemas.ratings import Rating, RatingBatchRequest, RatingMode

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
        *,
        total: int | None,
        journal: Path | None,
        pins_criteria: bool = True,
    ) -> None:
        super().__init__(context, "rate", total=total, journal=journal)
        self._mode = rating_mode
        self._pins_criteria = pins_criteria
        self._matcher = RatingMatcher(context, self.log)

    def _with(self, context: CallContext) -> Self:
        return type(self)(
            context,
            self._mode,
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
        return {"rating_mode": self._mode.value}

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
        outcomes: dict[int, Ratings | ItemError] = {}
        outcomes |= await self._not_theirs(items, unfinished)
        ids = list(dict.fromkeys(i.value.id for i in items if i.value.id not in outcomes))
        problem: ElluminateError | None = None
        if ids:
            theirs = [item for item in items if item.value.id in ids] if outcomes else items
            found, problem = await self._send_once(ids, theirs, unfinished)
            outcomes |= found
        revoked = unfinished is not None and is_revoked(problem)
        if revoked:
            outcomes = {id: one for id, one in outcomes.items() if not _was_revoked(one)}
        again: Sequence[int] = incomplete_ones(outcomes, problem)
        if again and (again := await self._matcher.completable(again)):
            theirs = [item for item in items if item.value.id in again]
            # What became of the first time stays, whatever stops the second.
            with suppress(ChunkRefusedError, ElluminateError):
                outcomes |= (await self._send_once(again, theirs, None))[0]
        for item in items:
            if (outcome := outcomes.get(item.value.id)) is not None:
                failed = isinstance(outcome, ItemError)
                yield item.position, outcome.at(item.position) if failed else outcome
        if problem is not None and any(id not in outcomes for id in ids):
            raise ChunkRevokedError if revoked else problem

    async def _send_once(
        self,
        ids: Sequence[int],
        items: Sequence[Item[Subject]],
        unfinished: UnfinishedChunk | None,
    ) -> tuple[dict[int, Ratings | ItemError], ElluminateError | None]:
        """Outcomes by response id, and what is wrong with the ids that have none."""
        policy = self.context.policy
        given = [item.value.response for item in items if item.value.response is not None]
        before = await self._matcher.baseline(ids, given, unfinished)
        outcomes: dict[int, Ratings | ItemError] = {}
        problem: ElluminateError | None = None
        try:
            job_id = await self._start_job(ids, items, before, unfinished)
            with in_doubt():
                status = await follow_job(
                    self.context.connection,
                    RatingJobStatus,
                    *_BATCHES,
                    job_id,
                    operation="rate",
                    policy=policy,
                    measured=partial(self.sizes.learn, items),
                )
                problem = job_failure(job_id, status.status, status.error_msg)
                if before is None:
                    asked = ids if unfinished is None else self._asked_by(unfinished)
                    self._check_own(status, asked, job_id)
                    outcomes = by_result(asked, status)
                    outcomes = {id: outcomes[id] for id in ids if id in outcomes}
                    if unfinished is not None:
                        outcomes = await self._shown(outcomes)
                    return outcomes, problem or self._no_rating()
                outcomes = await self._matcher.new_ratings(ids, before) or {}
        except ElluminateError as error:
            if isinstance(error, AnswerTooLargeError):
                self.sizes.learn_too_large(items)
            problem = unknown_or_raise(error, "rate")
        # What is incomplete may only not be shown yet.
        left = [id for id in ids if not isinstance(outcomes.get(id), list)]
        if left and before is not None:
            seconds = self.context.options.settle
            if not isinstance(problem, OutcomeUnknownError):
                # The job has ended, so its ratings should be there: they may only be late.
                problem, seconds = problem or self._no_rating(), min(seconds, ENDED_SETTLE)
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
    ) -> str:
        if unfinished is not None and unfinished.job_id is not None:
            return unfinished.job_id
        # A key belongs to the whole request, whatever is known of its responses by now.
        asked = ids if unfinished is None else self._asked_by(unfinished)
        request = RatingBatchRequest(prompt_response_ids=[*asked], rating_mode=self._mode)
        body = encode(request)
        if unfinished is not None:
            await self.log.require_same(unfinished, body)
            with in_doubt():
                return await self._post(body, ResentChunk(unfinished.key), len(asked))
        intent = self._intend(items, ids, before, body)
        return await self._post(body, intent, len(ids))

    async def _post(self, body: bytes, sending: ResentChunk, items: int) -> str:
        try:
            job_id = await start_job(
                self.context.connection,
                *_BATCHES,
                body=body,
                empty=encode(RatingBatchRequest(prompt_response_ids=[], rating_mode=self._mode)),
                sending=sending,
                operation="rate",
                policy=self.context.policy,
                items=items,
            )
        except (RejectedError, PayloadTooLargeError, NotFoundError) as error:
            raise ChunkRefusedError(error) from None
        with in_doubt():
            self.log.accepted(sending.key, job_id)
        return job_id

    def _intend(
        self,
        items: Sequence[Item[Subject]],
        ids: Sequence[int],
        before: Mapping[int, Sequence[int]] | None,
        body: bytes,
    ) -> ChunkIntent:
        """How to send a chunk that was never sent."""
        facts: dict[str, Any] = {"ids": ids, "before": before}
        if self.log.recovery is not None:
            # Of those that came with their content, the hashes of the inputs have it.
            read = {i.value.id: i.value.content for i in items if i.value.response is None}
            facts["contents"] = read
        return self.log.intend([item.position for item in items], body, facts)

    def _asked_by(self, unfinished: UnfinishedChunk) -> list[int]:
        """The ids in the request of a chunk that was sent before, in its order."""
        with self.log.reading():
            return [int(id) for id in unfinished.facts["ids"]]

    async def _not_theirs(
        self, items: Sequence[Item[Subject]], unfinished: UnfinishedChunk | None
    ) -> dict[int, ItemError]:
        """Of a call with a journal: the responses that are not what the call is about, by id.

        Their ids are of other responses now, or they were changed. Of what was given by id
        the content is learned, for the journal.
        """
        if self.log.recovery is None:
            return {}
        rows = await self._matcher.ratings_now([item.value.id for item in items])
        if self._pins_criteria:
            await self._matcher.pin_criteria(rows.values())
        known: Mapping[str, str | None] = {}
        if unfinished is not None:
            with self.log.reading():
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

    async def _shown(
        self, outcomes: dict[int, Ratings | ItemError]
    ) -> dict[int, Ratings | ItemError]:
        """Those of an earlier run's job whose ratings are ratings of these very responses."""
        if self.log.recovery is None:
            return outcomes
        rows = await self._matcher.ratings_now(list(outcomes))
        ids = {id: {rating.id for rating in row.ratings} for id, row in rows.items()}
        return {
            id: outcome
            for id, outcome in outcomes.items()
            if isinstance(outcome, ItemError)
            or {rating.id for rating in outcome} <= ids.get(id, set())
        }

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

    def _check_own(self, status: RatingJobStatus, asked: Sequence[int], job_id: str) -> None:
        """Raise where the results of a job are of other responses than were ``asked`` for."""
        said = status.prompt_response_ids
        if said is not None and said != [*asked]:
            raise OutcomeUnknownError(
                f"the job {job_id}, which the service named for these responses, rated others",
                position=0,
                operation="rate",
            )

    def _no_rating(self) -> OutcomeUnknownError:
        """The job has ended and its ratings are not there, or could not be looked for."""
        return OutcomeUnknownError(
            "the job has ended, and the service does not show new ratings for this response",
            position=0,
            operation="rate",
            code=NO_RESULT,
        )


def _was_revoked(outcome: Ratings | ItemError) -> bool:
    """Whether a response was not rated, as its job was cancelled."""
    return isinstance(outcome, ItemError) and outcome.code == REVOKED
