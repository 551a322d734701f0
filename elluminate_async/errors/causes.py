"""From the errors of items back to the one error behind all of them."""

from __future__ import annotations

import re
from collections.abc import Collection
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
    RedirectError,
    ServiceUnavailableError,
    TransportError,
    api_error_class,
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
_OUTAGE = re.compile(r"no answer since (\S+ \S+) UTC, last: (.*) \(it is asked again in", re.DOTALL)
_BY_NAME = {kind.__name__: kind for kind in _KINDS}


def cause_name(error: BaseException) -> str | None:
    """The name of the public class of ``error``, where `one_cause` can make one of it again."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((name for name in names if name in _BY_NAME), None)


def one_cause(errors: Collection[ItemError]) -> ElluminateError | None:
    """The error that all of ``errors`` come from; None when there are several, or it is unknown.

    It tells the longest wait and the most attempts of any item, and the first one's text.
    """
    causes = {(error.cause, error.status) for error in errors}
    if len(causes) != 1:
        return None
    ((name, status),) = causes
    kind = _BY_NAME.get(name or "")
    if kind is None:
        return None
    first = next(iter(errors))
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
        facts |= _outage(text)
    # Not by the constructors, which differ, but as unpickling does.
    cause.__dict__.update(facts)
    return cause


def _told_by(error: ItemError) -> str:
    """The item's text, without what the cause puts around it again."""
    text = error.text.removeprefix(f"[{error.status}] ")
    if error.retry_after is not None:
        text = text.removesuffix(f", told to wait {error.retry_after:g} s")
    return text


def _outage(text: str) -> dict[str, Any]:
    """What the text of a `ServiceUnavailableError` says of it, to the second."""
    since, last = datetime.now(UTC), text
    if said := _OUTAGE.search(text):
        since = datetime.fromisoformat(said[1]).replace(tzinfo=UTC)
        last = said[2]
    return {"since": since, "last": last}
