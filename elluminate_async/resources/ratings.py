"""``client.ratings``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.call import Upstream
from elluminate_async.engine.outcomes import Pairs
from elluminate_async.engine.run import deliver_all, run_batch, stream_batch
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import InputError
from elluminate_async.operations.chunk_log import JournalPath, journal_path
from elluminate_async.operations.coalescing import Coalescer, rating
from elluminate_async.operations.connection import Connection, decode_list
from elluminate_async.operations.context import CallContext, single_policy
from elluminate_async.operations.item_keys import ItemKeys
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.new_ratings import rating_errors
from elluminate_async.operations.rate import Rate, Ratings
from elluminate_async.operations.rating_items import (
    RatedResponse,
    ResponsePairs,
    Responses,
    check_responses,
    checked_mode,
    noted,
    rated_by_id,
    repaired,
    source_of_run,
)
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import send_single
from elluminate_async.resources.base import Resource, shown
from elluminate_async.schemas.ratings import Rating, RatingMode, RatingRequest
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.tables.reading import length_of

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, ProgressCallback

_DeliverRated: TypeAlias = Callable[[list[RatedResponse]], Awaitable[None]]


class RatingsResource(Resource):
    """The judge's verdicts on responses: one rating per response and criterion.

    ``Ratings`` is a list of `Rating`, those of one response. ``Responses`` are responses or
    their ids: an iterable, plain or async, a `Batch`, or an `OutcomeStream` of generation;
    ``ResponsePairs`` are pairs of a position and a response, or its error. A
    ``JournalPath`` is a `str` or an `os.PathLike`, and ``ItemKeys`` are texts: an iterable, plain
    or async.
    """

    def __init__(self, connection: Connection, coalescer: Coalescer | None = None) -> None:
        super().__init__(connection)
        self._coalescer = coalescer

    def list(self, response: PromptResponse | int, *, strict: bool = False) -> Listing[Rating]:
        """The ratings of a response.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {"prompt_response_id": id_of(response, PromptResponse, "response")}
        return Listing(self._connection, Rating, "ratings", query=query, strict=strict)

    async def rate(
        self,
        response: PromptResponse | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        options: BatchOptions | None = None,
    ) -> Ratings:
        """Rate one response by every criterion of its template or experiment.

        By one request; with the client's ``coalesce``, in one chunk with those of others.

        Args:
            response: The response, or its id.
            rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
            options: Instead of the client's; its deadline, and 300 s at most.

        Raises:
            RejectedError: There is no criterion to rate by.
            ConflictError: A run or `experiments.retry_failed` is about to rate it.
            RatingError: The judge gave no verdict for some criterion.
            OutcomeUnknownError: Sent, and whether it was processed is not known.
            ServiceUnavailableError: It was not sent, as the service answers nobody.
        """
        id = id_of(response, PromptResponse, "response")
        mode = checked_mode(rating_mode)
        policy = single_policy(self._connection, options)
        telemetry = self._connection.telemetry
        with telemetry.call("rate", kind="single", total=1) as observed:
            ratings = None
            if self._coalescer is not None:
                ratings = await self._coalescer.rate(rated_by_id(id), mode, options, policy)
            if ratings is None:
                body = RatingRequest(prompt_response_id=id, rating_mode=mode)
                with rating_errors(id):
                    ratings = await send_single(
                        self._connection,
                        "rate",
                        Post(("ratings",), body, items=1),
                        partial(decode_list, Rating),
                        policy,
                        response_id=id,
                    )
            return telemetry.came(observed, ratings, rated=id)

    async def rate_many(
        self,
        responses: Responses,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Batch[Ratings]:
        """Rate every response by every criterion.

        Args:
            responses: n responses or their ids. The failed positions of a `Batch` are not
                sent: they keep their error, so that positions agree with ``responses``. A
                response that comes twice is rated once, for both positions.
            rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
            run: The name of the run that the call belongs to: in whatever process, and however
                often, a call of the run asks for it, a response is rated once by each criterion,
                where the service honours that as the embedded server does. The response is its
                key; see ``docs/how-to/runs.md``.
            item_keys: Those of the responses, n texts in step with them, which are not needed.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server, mode and criteria, and of the contents of the responses.
            options: Instead of the client's.
            progress: True shows it, a function is told of it: see `AsyncClient.evaluate`.

        Returns:
            n outcomes, outcome i the ratings of ``responses[i]``, one per criterion.
            Reading one that failed raises its `ItemError`: `RatingError` when the judge
            gave no verdict for some criterion (never counted as NO), `OutcomeUnknownError`
            when it was sent and nothing proves what became of it. With n = 0 nothing is sent.
            A chunk with a response that an experiment's job is about to rate fails with the
            code ``http_409``.

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
        context = CallContext.begin(self._connection, options)
        if isinstance(responses, PromptResponse | int):
            raise InputError("responses must be a list: pass [x] for one, or use rate(x)")
        if isinstance(responses, Sequence):
            check_responses(responses)
        source, of_run = source_of_run(responses, run, item_keys)
        upstream = None
        if isinstance(responses, Batch) and responses.failed:
            upstream = Upstream(responses, repaired)
        total, path = length_of(responses), journal_path(journal)
        mode = checked_mode(rating_mode)
        operation = Rate(context, mode, of_run, total=total, journal=path)
        call = operation.call(upstream)
        if self._coalescer is not None and of_run is None:
            call = self._coalescer.joined(call, rating(mode))
        with shown(call, progress) as call:
            return await run_batch(call, source)

    def stream_rate_many(
        self,
        responses: Responses | ResponsePairs,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
    ) -> OutcomeStream[tuple[int, Outcome[Ratings]]]:
        """`rate_many` as a stream of (position, outcome), as chunks finish.

        The stream of `stream_generate_many` can be passed straight in: responses are rated
        while others are still being generated, under the same limits. So can any pairs of a
        position and a response or its error, each position once: they keep their positions.
        """
        context = CallContext.begin(self._connection, options)
        total, path = length_of(responses), journal_path(journal)
        source, of_run = source_of_run(responses, run, item_keys, pairs=True)
        mode = checked_mode(rating_mode)
        operation = Rate(context, mode, of_run, total=total, journal=path)
        return stream_batch(operation.call(), source, self._connection.tasks)

    def stream_rated_many(
        self,
        responses: Responses | ResponsePairs,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
    ) -> OutcomeStream[RatedResponse]:
        """`stream_rate_many` that gives each response with its ratings.

        It keeps the responses that are being rated, so that the caller need not.
        """
        context = CallContext.begin(self._connection, options)
        total, path = length_of(responses), journal_path(journal)
        source, of_run = source_of_run(responses, run, item_keys, pairs=True)
        mode = checked_mode(rating_mode)
        operation = Rate(context, mode, of_run, total=total, journal=path)
        kept: dict[int, Outcome[PromptResponse] | int] = {}

        async def produce(deliver: _DeliverRated) -> None:
            async def pair(pairs: Pairs[Ratings]) -> None:
                await deliver([RatedResponse(p, kept.pop(p), ratings) for p, ratings in pairs])

            await deliver_all(operation.call(), noted(source, kept), pair)

        return OutcomeStream(produce, self._connection.tasks, of="rate")
