"""From the errors of items back to the one error behind all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from elluminate_async.errors import (
    APIError,
    AttemptTimeoutError,
    ConnectError,
    DeadlineError,
    ElluminateError,
    InputError,
    ItemError,
    OutcomeUnknownError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    api_error_class,
    is_passing_status,
)

_KINDS: tuple[type[ElluminateError], ...] = (
    *{api_error_class(status) for status in (*range(400, 432), 500)},
    TransportError,
    ConnectError,
    AttemptTimeoutError,
    ProtocolError,
    RedirectError,
    DeadlineError,
    InputError,
    ServiceUnavailableError,
)
_UNAVAILABLE = ServiceUnavailableError.__name__
_OF_THE_WAY = frozenset(
    kind.__name__ for kind in (TransportError, ConnectError, AttemptTimeoutError)
)
_OUTAGE = re.compile(r"no answer since (\S+ \S+) UTC, last: (.*) \(it is asked again in", re.DOTALL)
_BY_NAME = {kind.__name__: kind for kind in _KINDS}


def cause_name(error: BaseException) -> str | None:
    """The name of the public class of ``error``, where `one_cause` can make one of it again."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((name for name in names if name in _BY_NAME), None)


def one_cause(errors: Collection[ItemError]) -> ElluminateError | None:
    """The error that all of ``errors`` come from; None when there are several, or it is unknown.

    One outage, or one limit, may end items in different ways: then it is the error of that. It
    tells the longest wait and the most attempts of any item, and the text of the first that
    has it.
    """
    found = _shared_kind(errors)
    if found is None:
        return None
    kind, first = found
    status = first.status
    text = _told_by(first)
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    cause = kind.__new__(kind, text)
    cause.args = (text,)
    facts: dict[str, Any] = {
        "attempts": max(error.attempts for error in errors),
        "request_id": next((e.request_id for e in errors if e.request_id is not None), None),
        "retry_after": max(waits, default=None),
        "ambiguous": any(isinstance(error, OutcomeUnknownError) for error in errors),
    }
    if issubclass(kind, APIError):
        facts |= {"status": status, "detail": text, "method": "", "path": "", "body": None}
    if issubclass(kind, TransportError):
        facts["sent"] = not issubclass(kind, ConnectError)
    if issubclass(kind, ServiceUnavailableError):
        text, of_outage = _outage(text)
        cause.args = (text,)
        facts |= of_outage
    # Not by the constructors, which differ, but as unpickling does.
    cause.__dict__.update(facts)
    return cause


def cause_counts(errors: Iterable[ItemError]) -> dict[str, int]:
    """How many of ``errors`` come from what, the most frequent first.

    A cause is the class of the error behind, with its status, as in ``ServerError 503``; or the
    item's own code, where there is none behind.
    """
    named = (
        " ".join(filter(None, (error.cause, str(error.status or ""))))
        if error.cause
        else error.code
        for error in errors
    )
    return dict(Counter(named).most_common())


def _shared_kind(
    errors: Collection[ItemError],
) -> tuple[type[ElluminateError], ItemError] | None:
    """The class of the one error behind, and the first item that has its text."""
    first = next(iter(errors))
    told = next((error for error in errors if _OUTAGE.search(error.text)), None)
    if told is not None and all(map(_is_of_outage, errors)):
        return ServiceUnavailableError, told
    if len({(error.cause, error.status) for error in errors}) == 1:
        kind = _BY_NAME.get(first.cause or "")
        return None if kind is None else (kind, first)
    if all(map(_is_of_outage, errors)):
        return ServiceUnavailableError, first
    if all(map(_is_of_limit, errors)):
        limited = (error for error in errors if error.cause == RateLimitError.__name__)
        longest = max(limited, key=lambda error: error.retry_after or 0.0, default=None)
        return None if longest is None else (RateLimitError, longest)
    return None


def _is_of_outage(error: ItemError) -> bool:
    """Whether it failed by the way to the service, or by what stands before it."""
    if error.code == ServiceUnavailableError.code or error.cause == _UNAVAILABLE:
        return True
    if error.cause == ServerError.__name__:
        return is_passing_status(error.status or 500)
    # Not one that would come again, such as by a certificate that is not trusted.
    lasting = not error.retryable and not isinstance(error, OutcomeUnknownError)
    return error.cause in _OF_THE_WAY and not lasting


def _is_of_limit(error: ItemError) -> bool:
    """Whether the service's limit refused it, or kept it until the deadline."""
    held = error.cause == DeadlineError.__name__ and error.retry_after is not None
    return error.cause == RateLimitError.__name__ or held


def _told_by(error: ItemError) -> str:
    """The item's text, without what the cause puts around it again."""
    text = error.text.removeprefix(f"[{error.status}] ")
    if error.retry_after is not None:
        text = text.removesuffix(f", told to wait {error.retry_after:g} s")
    return text


def _outage(text: str) -> tuple[str, dict[str, Any]]:
    """The text of a `ServiceUnavailableError`, and what it says of it, to the second."""
    said = _OUTAGE.search(text)
    if said is None:
        said_so = f"the service is unavailable: {text}"
        return said_so, {"since": datetime.now(UTC), "last": text}
    since = datetime.fromisoformat(said[1]).replace(tzinfo=UTC)
    return text, {"since": since, "last": said[2]}
