"""``client.ratings``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.call import Call, ChunkRefusedError, Upstream
from elluminate_async.engine.chunks import Item
from elluminate_async.engine.endings import unknown_outcome
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.engine.stream import HostedStream
from elluminate_async.errors import (
    AnswerTooLargeError,
    ElluminateError,
    InputError,
    ItemError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RejectedError,
)
from elluminate_async.resources.batches import BatchSetting, known_length
from elluminate_async.resources.connection import Resource, decode_list, encode, id_of
from elluminate_async.resources.echoes import Subject
from elluminate_async.resources.jobs import (
    accepted_work,
    doubt_left_by,
    follow_job,
    job_failure,
)
from elluminate_async.resources.journaling import (
    Journal,
    Sending,
    earlier_sending,
    journal_path,
)
from elluminate_async.resources.matching import ENDED_SETTLE
from elluminate_async.resources.pages import Listing
from elluminate_async.resources.rating_plan import (
    Responses,
    check_responses,
    checked_mode,
    repaired,
    source_of,
)
from elluminate_async.resources.rating_run import (
    RatingRun,
    by_result,
    incomplete_ones,
)
from elluminate_async.resources.singles import one_sending
from elluminate_async.resources.starting import start_job
from elluminate_async.schemas.jobs import RatingJobStatus
from elluminate_async.schemas.ratings import Rating, RatingBatchRequest, RatingMode, RatingRequest
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.records import OpenChunk

Ratings: TypeAlias = list[Rating]
"""A response's ratings, one per criterion. (Within the class ``list`` is its method.)"""

MAX_CHUNK = 100
"""Ids in one request at most: what a listing by ids can take in its URL."""

_BATCHES = ("ratings", "batches")


class RatingsResource(Resource):
    """What the judge says of responses: one rating per response and criterion."""

    def list(self, response: PromptResponse | int, *, strict: bool = False) -> Listing[Rating]:
        """The ratings of a response.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {"prompt_response_id": id_of(response, "response")}
        return Listing(self._connection, Rating, "ratings", query=query, strict=strict)

    async def rate(
        self, response: PromptResponse | int, *, rating_mode: RatingMode = RatingMode.DETAILED
    ) -> Ratings:
        """Rate one response by every criterion of its template or experiment.

        Raises:
            RejectedError: There is no criterion to rate by.
            OutcomeUnknownError: Sent, and whether it was processed is not known.
            ServiceUnavailableError: It was not sent, as the service answers nobody.
        """
        id = id_of(response, "response")
        body = RatingRequest(prompt_response_id=id, rating_mode=checked_mode(rating_mode))
        with one_sending("rate", response_id=id):
            answer = await self._connection.call("POST", "ratings", body=body, keyed=True)
        return decode_list(Rating, answer)

    async def rate_many(
        self,
        responses: Responses,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> Batch[Ratings]:
        """Rate every response by every criterion.

        Args:
            responses: n responses or their ids. The failed positions of a `Batch` are not
                sent: they keep their error, so that positions agree with ``responses``. A
                response that comes twice is rated once, for both positions.
            rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server, mode and criteria, and of the contents of the responses.
            options: Instead of the client's.

        Returns:
            n outcomes, outcome i the ratings of ``responses[i]``, one per criterion.
            Reading one that failed raises its `ItemError`: `RatingError` when the judge
            gave no verdict for some criterion (never counted as NO), `OutcomeUnknownError`
            when it was sent and nothing proves what became of it. With n = 0 nothing is sent.

        Raises:
            InputError: An entry is no response.
            AuthenticationError, PermissionDeniedError: True of all items; ``error.partial``
                is what had arrived.
            JournalError: The journal cannot be used, or is of another call or other inputs,
                or the criteria were changed since; the text has the difference.

        Cost: about two requests per chunk of at most 100. A service that sends no results
        with a job's status costs two listings of the chunk's responses as well, and a
        journal one of them.
        Memory: O(n) results, ``max_concurrency`` chunks in flight.

        Source: ``POST ratings/batches`` and its event stream, protocol of SDK 1.5.2.
        """
        setting = BatchSetting.begin(self._connection, options)
        if isinstance(responses, PromptResponse | int):
            raise InputError("responses must be a list: pass [x] for one, or use rate(x)")
        if isinstance(responses, Sequence):
            check_responses(responses)
        source = source_of(responses)
        upstream = None
        if isinstance(responses, Batch) and responses.failed:
            upstream = Upstream(responses, repaired)
        total, path = known_length(responses), journal_path(journal)
        call = self._call(setting, rating_mode, total, path, upstream)
        return await run_batch(call, source)

    def stream_rate_many(
        self,
        responses: Responses,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> HostedStream[tuple[int, Outcome[Ratings]]]:
        """`rate_many` as a stream of (position, outcome), as chunks finish.

        The stream of `stream_generate_many` can be passed straight in: responses are rated
        while others are still being generated, under the same limits.
        """
        setting = BatchSetting.begin(self._connection, options)
        call = self._call(setting, rating_mode, known_length(responses), journal_path(journal))
        return stream_batch(call, source_of(responses), self._connection.tasks)

    def _call(
        self,
        setting: BatchSetting,
        rating_mode: RatingMode,
        total: int | None,
        journal: Path | None,
        upstream: Upstream[Subject] | None = None,
    ) -> Call[Subject, Ratings]:
        run = RatingRun(setting, checked_mode(rating_mode))
        recovery = run.log.open_with(
            journal,
            arguments={"rating_mode": run.rating_mode.value},
            total=total,
            fingerprint=run.fingerprint,
            reference=run.reference,
            fetch=run.fetch,
            resume=partial(self._send_chunk, run),
        )
        return setting.call(
            "rate",
            partial(self._send_chunk, run),
            partial(self._send_chunk, run),
            total=total,
            options=setting.options.replace(chunk_size=min(MAX_CHUNK, setting.options.chunk_size)),
            recovery=recovery,
            again=lambda anew: self._call(anew, rating_mode, total, journal),
            upstream=upstream,
            sizes=run.sizes,
        )

    async def _send_chunk(
        self, run: RatingRun, items: Sequence[Item[Subject]], earlier: OpenChunk | None = None
    ) -> AsyncIterator[tuple[int, Ratings | ItemError]]:
        """POST a chunk, follow its job, yield an outcome for every response it rated.

        Where nothing is known of a sending, what new ratings there are tell. What a job left
        incomplete is rated once more. A chunk of an ``earlier`` run is gone on with where the
        journal says that it was left.
        """
        outcomes: dict[int, Ratings | ItemError] = {}
        outcomes |= await run.not_theirs(items, earlier)
        ids = list(dict.fromkeys(i.value.id for i in items if i.value.id not in outcomes))
        problem: ElluminateError | None = None
        if ids:
            theirs = [item for item in items if item.value.id in ids] if outcomes else items
            found, problem = await self._send_once(run, ids, theirs, earlier)
            outcomes |= found
        if again := incomplete_ones(outcomes, problem):
            theirs = [item for item in items if item.value.id in again]
            # What became of the first time stays, whatever stops the second.
            with suppress(ChunkRefusedError, ElluminateError):
                outcomes |= (await self._send_once(run, again, theirs, None))[0]
        for item in items:
            if (outcome := outcomes.get(item.value.id)) is not None:
                failed = isinstance(outcome, ItemError)
                yield item.position, outcome.at(item.position) if failed else outcome
        if problem is not None and any(id not in outcomes for id in ids):
            raise problem

    async def _send_once(
        self,
        run: RatingRun,
        ids: Sequence[int],
        items: Sequence[Item[Subject]],
        earlier: OpenChunk | None,
    ) -> tuple[dict[int, Ratings | ItemError], ElluminateError | None]:
        """Outcomes by response id, and what is wrong with the ids that have none."""
        policy = run.setting.policy
        before = await run.baseline(ids, earlier)
        outcomes: dict[int, Ratings | ItemError] = {}
        problem: ElluminateError | None = None
        try:
            job_id = await self._start_job(run, ids, items, before, earlier)
            with accepted_work():
                status = await follow_job(
                    self._connection,
                    RatingJobStatus,
                    *_BATCHES,
                    job_id,
                    operation="rate",
                    policy=policy,
                    measured=partial(run.sizes.learn, items),
                )
                problem = job_failure(job_id, status.status, status.error_msg)
                if before is None:
                    asked = ids if earlier is None else run.asked_by(earlier)
                    run.check_own(status, asked, job_id)
                    outcomes = by_result(asked, status)
                    outcomes = {id: outcomes[id] for id in ids if id in outcomes}
                    if earlier is not None:
                        outcomes = await run.shown(outcomes)
                    return outcomes, problem or run.no_rating()
                outcomes = await run.new_ratings(ids, before) or {}
        except ElluminateError as error:
            if isinstance(error, AnswerTooLargeError):
                run.sizes.learn_too_large(items)
            problem = doubt_left_by(error, "rate")
        # What is incomplete may only not be shown yet.
        left = [id for id in ids if not isinstance(outcomes.get(id), list)]
        if left and before is not None:
            seconds = run.setting.options.settle
            if not isinstance(problem, OutcomeUnknownError):
                # The job has ended, so its ratings should be there: they may only be late.
                problem, seconds = problem or run.no_rating(), min(seconds, ENDED_SETTLE)
            with accepted_work():
                found, readable = await run.settle(left, before, seconds)
            outcomes |= found
            late = not readable or time.monotonic() >= policy.deadline_at
            if isinstance(problem, JobError) and late:
                # There was no look that could tell what it did before it failed.
                problem = unknown_outcome(problem, "rate")
        return outcomes, problem

    async def _start_job(
        self,
        run: RatingRun,
        ids: Sequence[int],
        items: Sequence[Item[Subject]],
        before: Mapping[int, Sequence[int]] | None,
        earlier: OpenChunk | None,
    ) -> str:
        if earlier is not None and earlier.job_id is not None:
            return earlier.job_id
        # A key belongs to the whole request, whatever is known of its responses by now.
        asked = ids if earlier is None else run.asked_by(earlier)
        request = RatingBatchRequest(prompt_response_ids=[*asked], rating_mode=run.rating_mode)
        body = encode(request)
        if earlier is not None:
            await run.log.require_same(earlier, body)
            with earlier_sending():
                return await self._post(run, body, Sending(earlier.key), len(asked))
        intent = run.intend(items, ids, before, body)
        return await self._post(run, body, intent, len(ids))

    async def _post(self, run: RatingRun, body: bytes, sending: Sending, items: int) -> str:
        try:
            job_id = await start_job(
                self._connection,
                *_BATCHES,
                body=body,
                empty=encode(
                    RatingBatchRequest(prompt_response_ids=[], rating_mode=run.rating_mode)
                ),
                sending=sending,
                operation="rate",
                policy=run.setting.policy,
                items=items,
            )
        except (RejectedError, PayloadTooLargeError, NotFoundError) as error:
            raise ChunkRefusedError(error) from None
        with accepted_work():
            run.log.accepted(sending.key, job_id)
        return job_id
