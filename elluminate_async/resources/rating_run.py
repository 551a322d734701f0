"""What the chunks of one call of `RatingsResource` share, and which ratings are its own."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
from pydantic import TypeAdapter, ValidationError

from elluminate_async.engine.chunks import AnswerSizes, Item
from elluminate_async.engine.records import OpenChunk
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.errors import (
    APIError,
    ElluminateError,
    ItemError,
    OutcomeUnknownError,
    RatingError,
    ServiceUnavailableError,
)
from elluminate_async.resources.batches import BatchSetting
from elluminate_async.resources.connection import holding
from elluminate_async.resources.echoes import Subject, hash_of_ratings, hash_of_response
from elluminate_async.resources.journaling import ChunkLog, Intent, not_own, not_there
from elluminate_async.resources.json_input import problem_of
from elluminate_async.resources.matching import UNREADABLE
from elluminate_async.resources.pages import Listing
from elluminate_async.resources.parts import list_responses
from elluminate_async.resources.pins import pins_of_criteria
from elluminate_async.resources.settling import Settling
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.jobs import JobStatus, RatingJobStatus
from elluminate_async.schemas.ratings import Rating, RatingMode, RatingValue
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.version import Capability

logger = logging.getLogger("elluminate_async")

_RATINGS = TypeAdapter(list[Rating])
_INCOMPLETE = "incomplete"
_NO_RESULT = "no_result"


class RatingRun:
    """The mode of one call, and what the service has of its responses."""

    def __init__(self, setting: BatchSetting, rating_mode: RatingMode) -> None:
        self.setting = setting
        self.rating_mode = rating_mode
        self.log = ChunkLog(setting, "rate")
        self.sizes = AnswerSizes()
        self._criteria: dict[int, Mapping[int, str]] = {}
        self._reading = anyio.Lock()
        self._told = False

    async def ratings_now(self, ids: Sequence[int]) -> dict[int, PromptResponse]:
        """The responses of these ids as they are, with their ratings."""
        rows = await list_responses(
            self.setting.connection, {"response_ids": ids}, policy=self.setting.policy
        )
        wanted = set(ids)
        return {row.id: row for row in rows if row.id in wanted}

    async def baseline(
        self, ids: Sequence[int], earlier: OpenChunk | None
    ) -> dict[int, list[int]] | None:
        """The ids of the ratings that each response has before it is rated.

        None where the status of a job tells its results, and no such ids are needed.
        """
        policy = self.setting.policy
        if await self.setting.connection.has(Capability.RESULTS_WITH_STATUS, policy):
            return None
        if earlier is not None and earlier.facts.get("before") is not None:
            with self.log.reading():
                before = earlier.facts["before"].items()
                return {int(id): [int(rating) for rating in ratings] for id, ratings in before}
        rows = await self.ratings_now(ids)
        for row in rows.values():
            # Pinned before the first job; what cannot be read now is read with the ratings.
            with suppress(*UNREADABLE):
                await self._criteria_of(row)
        return {id: [rating.id for rating in row.ratings] for id, row in rows.items()}

    def intend(
        self,
        items: Sequence[Item[Subject]],
        ids: Sequence[int],
        before: Mapping[int, Sequence[int]] | None,
        body: bytes,
    ) -> Intent:
        """How to send a chunk that was never sent."""
        facts: dict[str, Any] = {"ids": ids, "before": before}
        if self.log.recovery is not None:
            # Of those that came with their content, the hashes of the inputs have it.
            read = {i.value.id: i.value.content for i in items if i.value.response is None}
            facts["contents"] = read
        return self.log.intend([item.position for item in items], body, facts)

    def asked_by(self, earlier: OpenChunk) -> list[int]:
        """The ids in the request of a chunk that was sent before, in its order."""
        with self.log.reading():
            return [int(id) for id in earlier.facts["ids"]]

    @staticmethod
    def fingerprint(subject: Subject) -> str:
        """Equal for the same response with the same content."""
        content = None if subject.response is None else subject.hash()
        return fingerprint_of(subject.id, content)

    @staticmethod
    def reference(subject: Subject, ratings: Sequence[Rating]) -> list[Any]:
        """Which ratings a response has, and a hash of both."""
        return [
            [rating.id for rating in ratings],
            hash_of_ratings(subject.hash() or "", ratings),
        ]

    async def pin_criteria(self, rows: Iterable[PromptResponse]) -> None:
        """Have the journal know by what responses are rated, once for each template.

        Raises:
            JournalError: It was something else when the journal was begun.
        """
        if self.log.recovery is None:
            return
        for template, row in {_template_of(row): row for row in rows}.items():
            if template is None:
                continue
            if not self._criteria.get(template):
                # One without criteria gets some when it is rated first.
                self._criteria.pop(template, None)
            await self._criteria_of(row)
            if criteria := self._criteria[template]:
                name = f"criteria of the prompt template {template}"
                self.log.recovery.pin({name: pins_of_criteria(criteria)})

    async def not_theirs(
        self, items: Sequence[Item[Subject]], earlier: OpenChunk | None
    ) -> dict[int, ItemError]:
        """Of a call with a journal: the responses that are not what the call is about, by id.

        Their ids are of other responses now, or they were changed. Of what was given by id
        the content is learned, for the journal.
        """
        if self.log.recovery is None:
            return {}
        rows = await self.ratings_now([item.value.id for item in items])
        await self.pin_criteria(rows.values())
        known: Mapping[str, str | None] = {}
        if earlier is not None:
            with self.log.reading():
                known = {**earlier.facts["contents"]}
        problems: dict[int, ItemError] = {}
        for item in items:
            subject, row = item.value, rows.get(item.value.id)
            if row is None:
                # The service says so itself, where it is asked to rate it.
                if earlier is not None:
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
        if self.log.recovery is None:
            return outcomes
        rows = await self.ratings_now(list(outcomes))
        ids = {id: {rating.id for rating in row.ratings} for id, row in rows.items()}
        return {
            id: outcome
            for id, outcome in outcomes.items()
            if isinstance(outcome, ItemError)
            or {rating.id for rating in outcome} <= ids.get(id, set())
        }

    async def fetch(
        self, items: Sequence[Item[Subject]], done: Mapping[int, Any]
    ) -> AsyncIterator[tuple[int, list[Rating] | ItemError]]:
        """The ratings of these references, by position, as they are at the service now."""
        with self.log.reading():
            ids = {position: [int(id) for id in ids] for position, (ids, _) in done.items()}
            said = {position: hash for position, (_, hash) in done.items()}
        rows = await self.ratings_now([item.value.id for item in items])
        await self.pin_criteria(rows.values())
        for item in items:
            position, row = item.position, rows.get(item.value.id)
            there = {rating.id: rating for rating in row.ratings} if row is not None else {}
            if row is None or not there.keys() >= {*ids[position]}:
                yield position, not_there(position, "rate", "ratings")
                continue
            ratings = [there[id] for id in ids[position]]
            content = hash_of_response(row)
            own = item.value.response is None or item.value.hash() == content
            if own and hash_of_ratings(content, ratings) == said[position]:
                yield position, ratings
            else:
                yield position, not_own(position, "rate", f"a rating of the response {row.id}")

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

    async def settle(
        self, ids: Sequence[int], before: Mapping[int, Container[int]], settle: float
    ) -> tuple[dict[int, list[Rating] | ItemError], bool]:
        """Response id to outcome, after a sending of which not all is known.

        Looks until each response has a new rating by every criterion of its template, or no
        new one came for ``settle`` seconds in which the listing could be read, or the
        deadline passes. Also whether the last
        look could read the listing: else what has no outcome may have its ratings.
        """
        settling = Settling(self.setting.policy, settle)
        shown = ""
        outcomes: dict[int, list[Rating] | ItemError] = {}
        readable = False
        while await settling.next_look():
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
                settling.news()
        return outcomes, readable

    def check_own(self, status: RatingJobStatus, asked: Sequence[int], job_id: str) -> None:
        """Raise where the results of a job are of other responses than were ``asked`` for."""
        said = status.prompt_response_ids
        if said is not None and said != [*asked]:
            raise OutcomeUnknownError(
                f"the job {job_id}, which the service named for these responses, rated others",
                position=0,
                operation="rate",
            )

    def no_rating(self) -> OutcomeUnknownError:
        """The job has ended and its ratings are not there, or could not be looked for."""
        return OutcomeUnknownError(
            "the job has ended, and the service does not show new ratings for this response",
            position=0,
            operation="rate",
            code=_NO_RESULT,
        )

    async def _criteria_of(self, row: PromptResponse) -> frozenset[int]:
        template = row.prompt.prompt_template
        if template is None:
            return frozenset()
        async with holding(self._reading, self.setting.policy):
            if template.id not in self._criteria:
                self._criteria[template.id] = await self._read_criteria(template.id)
            return frozenset(self._criteria[template.id])

    async def _read_criteria(self, template_id: int) -> Mapping[int, str]:
        try:
            found = await Listing(
                self.setting.connection,
                Criterion,
                "criteria",
                query={"prompt_template_id": template_id},
                policy=self.setting.policy,
            )
        except UNREADABLE:
            raise
        except APIError:
            # Refused for good: what rated a response's neighbours tells what it is missing.
            return {}
        return {criterion.id: criterion.criterion_str for criterion in found}


def by_result(ids: Sequence[int], status: JobStatus) -> dict[int, list[Rating] | ItemError]:
    """Response id to outcome, by the terminal status document, which is in request order.

    What has neither a rating nor a reason for having none is left out.
    """
    result = status.result or []
    if len(result) != len(ids):
        return {}
    failures = {failure.index: failure for failure in status.item_failures}
    outcomes: dict[int, list[Rating] | ItemError] = {}
    for index, (id, document) in enumerate(zip(ids, result, strict=True)):
        if failure := failures.get(index):
            outcomes[id] = _rating_error(id, failure.message, failure.code)
            continue
        if not document:
            continue
        ratings: list[Rating] = document
        # What was not read with the status is read once more, for its error.
        if not _was_read(document):
            try:
                ratings = _RATINGS.validate_python(document)
            except ValidationError as error:
                text = f"unreadable ratings: {problem_of(error)}"
                outcomes[id] = _rating_error(id, text, "protocol")
                continue
        outcomes[id] = ratings
        if not all([type(rating.rating) is RatingValue for rating in ratings]):
            bad = [rating.criterion.id for rating in ratings if not _is_verdict(rating)]
            outcomes[id] = _incomplete(id, bad, len(ratings))
    return outcomes


def _was_read(document: object) -> bool:
    return isinstance(document, list) and type(cast("list[object]", document)[0]) is Rating


def incomplete_ones(
    outcomes: Mapping[int, list[Rating] | ItemError], problem: ElluminateError | None
) -> list[int]:
    """The responses that a job which succeeded left without a verdict by some criterion."""
    if problem is not None and getattr(problem, "code", None) != _NO_RESULT:
        return []
    return [
        id
        for id, outcome in outcomes.items()
        if isinstance(outcome, RatingError) and outcome.code == _INCOMPLETE
    ]


def new_ratings(
    before: Mapping[int, Container[int]],
    after: Mapping[int, PromptResponse],
    pinned: Mapping[int, frozenset[int]] | None = None,
) -> dict[int, list[Rating] | ItemError]:
    """Response id to outcome, by what the listing shows now and did not before.

    Of two new ratings by one criterion the later counts. A response that lacks a criterion
    which rated another of the same template in this chunk, or one of those ``pinned`` for it,
    is incomplete, not a NO. Criteria pinned by template say nothing of an experiment that
    rates by a set of its own.
    """
    new: dict[int, dict[int, Rating]] = {}
    criteria: defaultdict[int | None, set[int]] = defaultdict(set)
    for id, row in after.items():
        old = before.get(id, ())
        fresh = sorted((r for r in row.ratings if r.id not in old), key=lambda r: r.id)
        new[id] = {rating.criterion.id: rating for rating in fresh}
        criteria[_template_of(row)] |= new[id].keys()
    outcomes: dict[int, list[Rating] | ItemError] = {}
    for id, ratings in new.items():
        rated_by = criteria[_template_of(after[id])]
        of_template = (pinned or {}).get(id, frozenset[int]())
        wanted = {*rated_by, *(of_template if of_template & rated_by else ())}
        if not ratings:
            continue
        verdicts = {id for id, rating in ratings.items() if _is_verdict(rating)}
        if missing := wanted - verdicts:
            outcomes[id] = _incomplete(id, missing, len(wanted))
        else:
            outcomes[id] = [ratings[criterion] for criterion in sorted(ratings)]
    return outcomes


def _template_of(row: PromptResponse) -> int | None:
    return row.prompt.prompt_template.id if row.prompt.prompt_template is not None else None


def _is_verdict(rating: Rating) -> bool:
    return isinstance(rating.rating, RatingValue)


def _incomplete(id: int, missing: Collection[int], wanted: int) -> RatingError:
    text = f"{len(missing)} of {wanted} criteria have no verdict: {sorted(missing)}"
    return _rating_error(id, text, _INCOMPLETE)


def _rating_error(id: int, text: str, code: str) -> RatingError:
    return RatingError(text, position=0, code=code, operation="rate", response_id=id)
