"""How items end that got no outcome of their own: by the error of what carried them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from elluminate_async.errors import (
    APIError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineError,
    ElluminateError,
    InputError,
    ItemError,
    JobError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ServiceUnavailableError,
    TransportError,
    WrongEventLoopError,
)
from elluminate_async.errors.causes import cause_name
from elluminate_async.errors.codes import item_code
from elluminate_async.errors.deadlines import passed
from elluminate_async.schemas.jobs import REVOKED, JobStatusName

if TYPE_CHECKING:
    from elluminate_async.engine.chunks import Chunk
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.errors import ItemErrorCode

R = TypeVar("R")

FATAL = (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InputError,
    JournalError,
    NotFoundError,
    PermissionDeniedError,
    WrongEventLoopError,
)
"""True of all items alike, so that the batch stops and raises it."""

NOT_SENT_IN_TIME: Final = passed("before this item was sent")


def failed(error: ElluminateError | None, position: int, operation: str) -> ItemError:
    """An item whose sending ended with ``error``, or without a word about the item."""
    if error is not None:
        return item_error(error, position=position, operation=operation)
    return ItemError(
        "the service ended the job and has no result for this item",
        position=position,
        code="no_result",
        operation=operation,
    )


def past_deadline(
    position: int, operation: str, held: float = 0.0, *, may_be_sent: bool = False
) -> ItemError:
    """An item that the call did not come to before its deadline.

    Args:
        position: Of the item.
        operation: ``"generate"``, ``"rate"`` or ``"add"``.
        held: Seconds for which the service keeps the client waiting yet.
        may_be_sent: An earlier run may have sent it, so that its outcome is unknown.
    """
    kind, text = ItemError, NOT_SENT_IN_TIME
    if may_be_sent:
        kind = OutcomeUnknownError
        text = f"an earlier run may have sent this item, and {passed('before that was looked for')}"
    return kind(
        text,
        position=position,
        code="deadline",
        operation=operation,
        attempts=0,
        retry_after=held or None,
        cause=DeadlineError.__name__,
    )


def not_looked_for(error: ElluminateError, operation: str) -> OutcomeUnknownError:
    """An item that an earlier run may have sent, and that ``error`` kept this one from asking for.

    The position is to be set.
    """
    codes: dict[type[ElluminateError], ItemErrorCode] = {
        DeadlineError: "deadline",
        ServiceUnavailableError: "unavailable",
    }
    return OutcomeUnknownError(
        "an earlier run may have sent this item, and the service did not tell what became of it: "
        f"{error}",
        position=0,
        code=codes.get(type(error)),
        operation=operation,
        attempts=0,
        status=error.status if isinstance(error, APIError) else None,
        request_id=getattr(error, "request_id", None),
        retry_after=getattr(error, "retry_after", None),
        cause=cause_name(error),
    )


def cut_off(position: int, operation: str) -> OutcomeUnknownError:
    """An item that was in flight when its batch was ended."""
    return OutcomeUnknownError(
        "the batch was ended while this item was being sent or worked on",
        position=position,
        operation=operation,
    )


def unknown_outcome(
    error: ElluminateError, operation: str, *, response_id: int | None = None, way_on: str = ""
) -> OutcomeUnknownError:
    """The error of items whose request failed ambiguously; the position is to be set.

    Args:
        error: The failure.
        operation: ``"generate"``, ``"rate"`` or ``"add"``.
        response_id: The service's id of the response concerned, if there is one.
        way_on: What the caller can do about it, where no batch tells.
    """
    # In an outage the last failure is that of anybody, such as of who looks whether it is over.
    own = (error.own if isinstance(error, ServiceUnavailableError) else None) or error
    text = f"sent, and whether the service processed it is not known: {own}"
    return OutcomeUnknownError(
        "; ".join(filter(None, [text, "" if own is error else f"since then {error}", way_on])),
        position=0,
        code="deadline" if isinstance(own, DeadlineError) else None,
        operation=operation,
        attempts=int(getattr(error, "attempts", 1)),
        status=own.status if isinstance(own, APIError) else None,
        request_id=getattr(own, "request_id", None),
        response_id=response_id,
        retry_after=getattr(error, "retry_after", None),
        cause=cause_name(own),
    )


def is_revoked(error: BaseException | None) -> bool:
    """Whether it says that a job was cancelled: what it had not done, it never will."""
    return isinstance(error, JobError) and error.job_status == JobStatusName.REVOKED


def item_error(error: BaseException, *, position: int, operation: str) -> ItemError:
    """The error of an item whose request failed."""
    if isinstance(error, ItemError):
        return error.at(position)
    if isinstance(error, ElluminateError) and error.ambiguous:
        return unknown_outcome(error, operation).at(position)
    ours: dict[type[BaseException], ItemErrorCode] = {
        DeadlineError: "deadline",
        InputError: "bad_input",
    }
    if is_revoked(error):
        ours[JobError] = REVOKED
    code = ours.get(type(error)) or item_code(str(getattr(error, "code", "failed")))
    # Such as a certificate that is not trusted, which it will not be the next time either.
    fails_alike = isinstance(error, TransportError) and not error.worth_repeating
    return ItemError(
        str(error),
        position=position,
        code=code,
        operation=operation,
        # What cannot work is told before anything is sent.
        attempts=0 if isinstance(error, InputError) else int(getattr(error, "attempts", 1)),
        status=getattr(error, "status", None),
        request_id=getattr(error, "request_id", None),
        retryable=False if fails_alike else None,
        retry_after=getattr(error, "retry_after", None),
        cause=cause_name(error),
    )


def of_whole(
    chunk: Chunk[Any], pairs: Pairs[R], operation: str, error: Exception | None = None
) -> Pairs[R]:
    """Outcomes for all positions of ``chunk``: passed on, of aliases, of what ``error`` left."""
    if len(pairs) == len(chunk.items) and not chunk.has_more_positions:
        return pairs
    outcomes = dict(pairs)
    full: Pairs[R] = [(passed.position, passed.error) for passed in chunk.passed]
    for item in chunk.items:
        outcome = outcomes.get(item.position)
        if outcome is None:
            if isinstance(error, ElluminateError) and not chunk.is_of_earlier_run:
                outcome = failed(error, item.position, operation)
            else:
                outcome = cut_off(item.position, operation)
        full.append((item.position, outcome))
        for alias in item.aliases:
            full.append((alias, outcome.at(alias) if isinstance(outcome, ItemError) else outcome))
    return full
