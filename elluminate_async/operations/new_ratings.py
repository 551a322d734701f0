"""Which ratings are of this call: by a job's result, or by what the listing shows anew."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, cast

from pydantic import TypeAdapter, ValidationError

from elluminate_async.errors import (
    ElluminateError,
    ItemError,
    ItemErrorCode,
    OutcomeUnknownError,
    RatingError,
    ServerError,
)
from elluminate_async.errors.codes import item_code
from elluminate_async.operations.json_input import problem_of
from elluminate_async.schemas.jobs import REVOKED, JobStatus, RatingJobStatus
from elluminate_async.schemas.ratings import Rating, RatingValue
from elluminate_async.schemas.responses import PromptResponse

NO_RESULT: Final = "no_result"
"""The code of a response whose job has ended without a word about it."""

_RATINGS = TypeAdapter(list[Rating])
_INCOMPLETE: Final = "incomplete"
_MODEL_FAILED: Final = 424


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
            code = item_code(failure.code, "rating_failed")
            outcomes[id] = with_ratings(
                _rating_error(id, failure.message, code), _verdicts_in(document)
            )
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
            outcomes[id] = with_ratings(
                _incomplete(id, bad, len(ratings)), filter(_is_verdict, ratings)
            )
    return outcomes


def _verdicts_in(document: object) -> list[Rating]:
    """The verdicts in the result of an item that has not all; what cannot be read is none."""
    try:
        return [*filter(_is_verdict, _RATINGS.validate_python(document))]
    except ValidationError:
        return []


def with_ratings(error: ItemError, ratings: Iterable[Rating]) -> ItemError:
    """The error of a response, with the verdicts that it has all the same."""
    if not isinstance(error, RatingError):
        return error
    twin = copy.copy(error)
    twin.ratings = [rating.model_dump(mode="json") for rating in ratings]
    return twin


def ratings_of(error: RatingError) -> list[Rating]:
    """The verdicts beside an error, as objects."""
    return _RATINGS.validate_python(error.ratings)


def _was_read(document: object) -> bool:
    return isinstance(document, list) and type(cast("list[object]", document)[0]) is Rating


def incomplete_ones(
    outcomes: Mapping[int, list[Rating] | ItemError], problem: ElluminateError | None
) -> list[int]:
    """The responses that a job which succeeded left without a verdict by some criterion."""
    if problem is not None and getattr(problem, "code", None) != NO_RESULT:
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
        criteria[template_of(row)] |= new[id].keys()
    outcomes: dict[int, list[Rating] | ItemError] = {}
    for id, ratings in new.items():
        rated_by = criteria[template_of(after[id])]
        of_template = (pinned or {}).get(id, frozenset[int]())
        wanted = {*rated_by, *(of_template if of_template & rated_by else ())}
        if not ratings:
            continue
        verdicts = {id for id, rating in ratings.items() if _is_verdict(rating)}
        if missing := wanted - verdicts:
            known = [ratings[criterion] for criterion in sorted(verdicts)]
            outcomes[id] = with_ratings(_incomplete(id, missing, len(wanted)), known)
        else:
            outcomes[id] = [ratings[criterion] for criterion in sorted(ratings)]
    return outcomes


def template_of(row: PromptResponse) -> int | None:
    """The id of the template that a response was made with, if it says so."""
    return row.prompt.prompt_template.id if row.prompt.prompt_template is not None else None


def _is_verdict(rating: Rating) -> bool:
    return isinstance(rating.rating, RatingValue)


def _incomplete(id: int, missing: Collection[int], wanted: int) -> RatingError:
    text = f"{len(missing)} of {wanted} criteria have no verdict: {sorted(missing)}"
    return _rating_error(id, text, _INCOMPLETE)


@contextmanager
def rating_errors(id: int) -> Generator[None]:
    """Around the rating of one response by a request of its own.

    Raises:
        RatingError: The judge failed, or gave no complete verdict.
    """
    try:
        yield
    except ServerError as error:
        if error.status == _MODEL_FAILED:
            raise _rating_error(id, error.detail, "rating_failed") from None
        raise


def _rating_error(id: int, text: str, code: ItemErrorCode) -> RatingError:
    return RatingError(text, position=0, code=code, operation="rate", response_id=id)


def check_own(status: RatingJobStatus, asked: Sequence[int], job_id: str) -> None:
    """Raise where the results of a job are of other responses than were ``asked`` for."""
    said = status.prompt_response_ids
    if said is not None and said != [*asked]:
        raise OutcomeUnknownError(
            f"the job {job_id}, which the service named for these responses, rated others",
            position=0,
            operation="rate",
        )


def no_rating() -> OutcomeUnknownError:
    """The job has ended and its ratings are not there, or could not be looked for."""
    return OutcomeUnknownError(
        "the job has ended, and the service does not show new ratings for this response",
        position=0,
        operation="rate",
        code=NO_RESULT,
    )


def without_revoked(
    outcomes: Mapping[int, list[Rating] | ItemError],
) -> dict[int, list[Rating] | ItemError]:
    """Those but of responses that were not rated, as their job was cancelled."""
    return {
        id: one
        for id, one in outcomes.items()
        if not (isinstance(one, ItemError) and one.code == REVOKED)
    }
