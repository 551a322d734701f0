"""When to send again: a verdict on each failed exchange, the waits, the budget.

Source: RFC 9110 section 9.2.2. A request that is not idempotent is repeated only when it is
known not to have been applied, or when the service recognises the repetition by its key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from elluminate_async.errors import (
    ConnectError,
    ProtocolError,
    TransportError,
    is_passing_status,
)
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.limits.backoff import back_off, throttle_back_off
from elluminate_async.transport.exchange import Answer, Request

if TYPE_CHECKING:
    from elluminate_async.limits.fairness import Share
    from elluminate_async.limits.limits import Limits

# What a retry costs, by why it is one. Source: botocore, and a fraction for what was not sent.
COST_FAILED = 14
COST_THROTTLED = 5
COST_NOT_SENT = 1

SHORTEST_WAIT = 0.1


class Verdict(Enum):
    """The proof that an exchange gives about its request."""

    NOT_SENT = "not sent"
    """No byte of it left this machine: sending again is free of risk."""

    REJECTED = "rejected"
    """A complete, readable 4xx: the service did not apply it."""

    ACCEPTED = "accepted"
    """A complete 2xx: the service applied it."""

    AMBIGUOUS = "ambiguous"
    """Anything else after the first byte: it may have been applied."""


# Sent by intermediaries that may have passed the request on all the same.
_AMBIGUOUS_4XX = frozenset({408})

# Refused for how it came, not for what it is: worth one more sending, on another connection.
# Sources: RFC 9110 section 15.5.20, RFC 8470 section 5.2.
_REFUSED_HERE = frozenset({421, 425})


def verdict_on(result: Answer | TransportError) -> Verdict:
    """The verdict on one attempt. Every 5xx is ambiguous, 503 too."""
    if isinstance(result, TransportError):
        return Verdict.AMBIGUOUS if result.sent else Verdict.NOT_SENT
    if 200 <= result.status < 300:
        return Verdict.ACCEPTED
    if 400 <= result.status < 500 and result.status not in _AMBIGUOUS_4XX:
        return Verdict.REJECTED
    return Verdict.AMBIGUOUS


def is_passing(result: Answer | TransportError) -> bool:
    """Whether the way or the moment failed it, and nothing that the request holds.

    An unreadable answer and a plain 500 may be due to the request, so they are none.
    """
    if isinstance(result, Answer):
        return is_passing_status(result.status)
    return result.worth_repeating and not isinstance(result, ProtocolError)


@dataclass(frozen=True, slots=True)
class Policy:
    """The budget and the clocks of one logical request.

    Attributes:
        deadline_at: `time.monotonic` at which it must have ended.
        max_attempts: Sendings that fail by what may be the request's own, the first
            included; with 1 nothing is ever sent again.
        retry_for: Seconds in which a request is sent again that the way or the moment failed;
            with 0 nothing is ever sent again.
        max_retry_after: The longest ``Retry-After`` in seconds that is waited for.
        connect_timeout: Seconds for one connection.
        attempt_timeout: Seconds for one exchange, from sending to the last byte.
        stream_silence: Seconds without a byte on an event stream.
        job_stall: Seconds in which a job's status may stay the same.
        limits: The client's limits, narrowed for this call; None for the client's as they are.
        share: The call's part of them, for all its requests; None for a call of this one.
    """

    deadline_at: float
    max_attempts: int = 3
    retry_for: float = 120.0
    max_retry_after: float = 120.0
    connect_timeout: float = 10.0
    attempt_timeout: float = 60.0
    stream_silence: float = 45.0
    job_stall: float = 1800.0
    limits: Limits | None = None
    share: Share | None = None

    @property
    def sends_again(self) -> bool:
        """Whether any request is sent more than once."""
        return self.max_attempts > 1 and self.retry_for > 0

    @property
    def patience(self) -> float:
        """Seconds without an answer to anybody after which nothing is waited for any more."""
        return self.retry_for if self.sends_again else 0.0

    def clock(self, seconds: float) -> float:
        """``seconds``, or what is left until the deadline where that is less."""
        return min(seconds, self.remaining())

    def remaining(self) -> float:
        """Seconds until the deadline.

        Raises:
            DeadlineError: It has passed.
        """
        seconds = self.deadline_at - time.monotonic()
        if seconds <= 0:
            raise deadline_passed()
        return seconds

    def allows(self, wait: float) -> bool:
        """Whether there is time to wait so long and then send."""
        return wait <= self.max_retry_after and time.monotonic() + wait < self.deadline_at


def is_answer(result: Answer | TransportError) -> bool:
    """Whether the service is there: it answered, and not that it failed."""
    return isinstance(result, Answer) and result.status < 500 and not is_passing(result)


def told_to_wait(request: Request, result: Answer | TransportError) -> bool:
    """Whether nothing was done and "come later" was said.

    That is a 429, or a 409 with ``Retry-After`` while an earlier request with the same
    key is still running; or this process says so, having no descriptor left.
    """
    if not isinstance(result, Answer):
        return isinstance(result, ConnectError) and result.exhausted
    in_flight = result.status == 409 and request.method == "POST" and request.repeatable
    return result.status == 429 or (in_flight and result.retry_after is not None)


def wait_when_told(result: Answer | TransportError, times: int, policy: Policy) -> float | None:
    """Seconds to wait after being told so for the ``times``-th time; None to give up."""
    wait = _asked(result) or throttle_back_off(times)
    return wait if policy.sends_again and policy.allows(wait) else None


def may_repeat(request: Request, result: Answer | TransportError) -> bool:
    """Whether another sending does no harm, and could end otherwise."""
    if isinstance(result, Answer):
        if result.is_redirect:
            return False
    elif not result.worth_repeating:
        return False
    verdict = verdict_on(result)
    return verdict is Verdict.NOT_SENT or (verdict is Verdict.AMBIGUOUS and request.repeatable)


def wait_after_failure(
    request: Request,
    result: Answer | TransportError,
    failures: int,
    policy: Policy,
    *,
    own_failures: int = 0,
    failing_for: float = 0.0,
) -> float | None:
    """Seconds to wait before the next attempt; None when there must be none.

    Args:
        request: What was sent.
        result: How that ended.
        failures: Failed attempts so far.
        policy: Its budget and clocks.
        own_failures: Those of them that may be the request's own; 0 for all.
        failing_for: Seconds since the first of them.
    """
    if not policy.sends_again:
        return None
    asked = _asked(result)
    wait = asked or back_off(failures)
    if isinstance(result, Answer) and result.status in _REFUSED_HERE:
        again = failures == 1
    elif is_passing(result):
        left = policy.retry_for - failing_for
        # The last attempt is shortly before the end, and not at once after the one before.
        wait = wait if asked else min(wait, max(left - SHORTEST_WAIT, SHORTEST_WAIT))
        again = may_repeat(request, result) and wait < left
    else:
        again = may_repeat(request, result) and (own_failures or failures) < policy.max_attempts
    return wait if again and policy.allows(wait) else None


def to_repeat(request: Request, result: Answer | TransportError) -> Request:
    """``request`` for the attempt after ``result``."""
    refused = isinstance(result, Answer) and result.status in _REFUSED_HERE
    return replace(request, fresh_connection=True) if refused else request


def _asked(result: Answer | TransportError) -> float | None:
    return result.retry_after if isinstance(result, Answer) else None
