"""Errors as problem documents (RFC 9457) that may be shown to anybody.

A web application that calls the service answers others for it. Of an error they learn what they
can act on: a status, a code, whether and when to try again, the id under which the service knows
the exchange. Its text, which may quote the service, an address or a prompt, is for the log alone.

| error | status |
|---|---|
| `RateLimitError` | 429 |
| `ServiceUnavailableError`, `ConnectError`, `ClientClosedError`, a 503 of the service | 503 |
| `DeadlineError`, `AttemptTimeoutError`, a 504 of the service, an item of code ``deadline`` | 504 |
| all else that the service, the model or the judge failed or refused | 502 |
| `ItemError` | that of its code, by the same rules |
| `BatchError`, or a group of nothing but these | that of its worst: not to be retried, then 504 |

That the service refuses this application's key is 502 too: a 401 would ask the reader for theirs.
Errors of the program itself, such as `InputError`, `ConfigurationError` and `JournalError`, have
none: they are bugs, unless an application says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

from pydantic import BaseModel

from elluminate_async.errors import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    ClientClosedError,
    ConnectError,
    DeadlineError,
    ElluminateError,
    GenerationError,
    InputError,
    ItemError,
    JobError,
    OutcomeUnknownError,
    PartialUploadError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RatingError,
    RejectedError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    UnsupportedError,
    is_passing_status,
)

MEDIA_TYPE: Final = "application/problem+json"

_QUOTING: Final = (InputError, ItemError, ProtocolError, RejectedError)

_RETRY_AFTER: Final = 5  # seconds, of a 429 or a 503 that names no time


class Problem(BaseModel):
    """A problem document.

    Attributes:
        type: ``about:blank``: the title is that of the status.
        title: Of the status.
        status: Of the HTTP answer that it is, or would be.
        detail: One sentence for people; never of the service's words.
        code: One of `elluminate_async.errors.codes`.
        retryable: Whether the same request may do better later, and does nothing twice. Never
            of an `OutcomeUnknownError`: `Batch.retry_failed` may go on with what was sent, and a
            reader of this can only have it sent anew.
        retry_after: Seconds to wait before that; also the header ``Retry-After``.
        request_id: The service's id of the exchange that failed, if it is known.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    retry_after: int | None = None
    request_id: str | None = None


class _Kind(NamedTuple):
    status: int
    detail: str
    code: str = "failed"
    retryable: bool = False


_AWAY = _Kind(503, "The service behind this one does not answer now.", "unavailable", True)
_LATE = _Kind(504, "There was no answer in time.", "deadline", True)
_LATE_UNKNOWN = _Kind(
    504,
    "There was no answer in time, and whether the request was carried out is not known: "
    "the same again may be done twice.",
    "deadline",
)
_FULL = _Kind(429, "The service behind this one is asked for too much now.", "http_429", True)
_FAILED = _Kind(502, "The service behind this one failed.")
_REFUSED = _Kind(502, "The service behind this one did not accept the request.")
# That it is the key is nobody's business but the owner's, who has a log.
_LOCKED = _Kind(502, "This server is not set up to use the service behind it.")

KINDS: Final[Mapping[type[Exception], _Kind]] = {
    RateLimitError: _FULL,
    ServiceUnavailableError: _AWAY,
    ConnectError: _AWAY._replace(code="connect"),
    ClientClosedError: _AWAY._replace(detail="This server is going down."),
    DeadlineError: _LATE,
    AttemptTimeoutError: _LATE._replace(code="timeout"),
    TransportError: _FAILED._replace(code="transport", retryable=True),
    AuthenticationError: _LOCKED,
    PermissionDeniedError: _LOCKED,
    ServerError: _FAILED,
    APIError: _REFUSED,
    JobError: _FAILED._replace(code="job_failed", retryable=True),
    GenerationError: _FAILED._replace(detail="The model gave no answer."),
    RatingError: _FAILED._replace(detail="The judge gave no verdict."),
    OutcomeUnknownError: _FAILED._replace(
        detail="The request was passed on, and whether it was carried out is not known: "
        "the same again may be done twice.",
    ),
    ItemError: _FAILED,
    UnsupportedError: _Kind(501, "The service behind this one cannot do that."),
    PartialUploadError: _REFUSED._replace(
        detail="The service behind this one took a part of what was sent."
    ),
}
"""The errors that have a problem; a class that is not here has that of its base."""

_OF_STATUS: Final = {503: _AWAY, 504: _LATE, 429: _FULL, 401: _LOCKED, 403: _LOCKED}
_OF_CODE: Final = {
    "connect": _AWAY,
    "unavailable": _AWAY,
    "not_sent": _AWAY,
    "deadline": _LATE,
    "timeout": _LATE,
    **{f"http_{status}": kind for status, kind in _OF_STATUS.items()},
}


def problem_of(
    error: BaseException, statuses: Mapping[type[Exception], int] | None = None
) -> Problem | None:
    """The problem that ``error`` is to others; None where it is no matter of the service's.

    Args:
        error: Any; of a group of errors, the worst of them, where each has a problem.
        statuses: For classes of errors, another status than in the table. An `InputError`, where
            the input is the reader's own: then the document has its text, which this package wrote.
    """
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = [problem_of(one, statuses) for one in _leaves(group)]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        return max(known, key=lambda one: (not one.retryable, one.status))
    own = _nearest(error, statuses or {})
    kind = _kind_of(error)
    if kind is None:
        if own is None:
            return None
        kind = _Kind(own, HTTPStatus(own).phrase + ".", "bad_input")
    if own is not None:
        detail = str(error) if isinstance(error, InputError) else kind.detail
        kind = kind._replace(status=own, detail=detail)
    return _document(kind, error)


def quotes(error: BaseException) -> bool:
    """Whether the text of ``error`` may quote an input, a prompt or an answer."""
    return not isinstance(error, ElluminateError) or isinstance(error, _QUOTING)


def internal_problem() -> Problem:
    """Of an error that is no matter of the service's."""
    detail = "This server made a mistake."
    return _document(_Kind(500, detail), None)


def _document(kind: _Kind, error: BaseException | None) -> Problem:
    wait: float | None = getattr(error, "retry_after", None)
    if wait is None and kind.status in (429, 503):
        wait = _RETRY_AFTER
    return Problem(
        title=HTTPStatus(kind.status).phrase,
        status=kind.status,
        detail=kind.detail,
        code=kind.code,
        retryable=kind.retryable,
        retry_after=None if wait is None else max(1, math.ceil(wait)),
        request_id=getattr(error, "request_id", None),
    )


def _kind_of(error: BaseException) -> _Kind | None:
    kind: _Kind | None = _nearest(error, KINDS)
    if kind is None:
        return None
    if isinstance(error, OutcomeUnknownError):
        return _LATE_UNKNOWN if error.code == "deadline" else kind._replace(code=error.code)
    if isinstance(error, ItemError):
        kind = _OF_CODE.get(error.code, kind)
        code = kind.code if kind is _LOCKED else error.code
        return kind._replace(code=code, retryable=error.retryable)
    if isinstance(error, DeadlineError) and error.ambiguous:
        return _LATE_UNKNOWN
    if isinstance(error, APIError):
        kind = _OF_STATUS.get(error.status, kind)
        passing = error.status == 429 or is_passing_status(error.status)
        kind = kind._replace(retryable=passing)
        if kind.detail != _LOCKED.detail:
            kind = kind._replace(code=error.code)
    elif isinstance(error, TransportError):
        kind = kind._replace(code=error.code, retryable=error.worth_repeating)
    return kind._replace(retryable=kind.retryable and not getattr(error, "ambiguous", False))


def _nearest(error: BaseException, table: Mapping[type[Exception], Any]) -> Any:
    """The entry of the error's class, else of the nearest of its bases that has one."""
    return next((table[base] for base in type(error).__mro__ if base in table), None)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", one))
        else:
            yield one
