"""The history of one logical request: attempts so far, and whether another follows."""

from __future__ import annotations

import time

from elluminate_async.errors import (
    AttemptTimeoutError,
    DeadlineError,
    ElluminateError,
    RateLimitError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.telemetry import ObservedAttempt
from elluminate_async.transport.exchange import Answer, Request, final_error
from elluminate_async.transport.retry import (
    COST_FAILED,
    COST_NOT_SENT,
    COST_THROTTLED,
    SHORTEST_WAIT,
    Policy,
    Verdict,
    is_passing,
    may_repeat,
    told_to_wait,
    verdict_on,
    wait_after_failure,
    wait_when_told,
)


class AttemptHistory:
    """The sendings of one request so far.

    Attributes:
        cost: What the next sending draws on the retry budget; 0 for the first.
        spent: What all sendings so far have drawn on it.
        ambiguous: Whether one of them may have been applied.
        failing_since: `time.monotonic` of the first that failed; None before that.
        observed: The last of them, as observers see it.
    """

    def __init__(self, request: Request, policy: Policy) -> None:
        self.cost = 0
        self.spent = 0
        self.ambiguous = False
        self.failing_since: float | None = None
        self.observed: ObservedAttempt | None = None
        self._request = request
        self._policy = policy
        self._failures = 0
        self._own_failures = 0
        self._told = 0
        self._last: Answer | TransportError | None = None

    @property
    def count(self) -> int:
        """Sendings so far."""
        return self._failures + self._told

    def wait_after(self, result: Answer | TransportError) -> float | None:
        """Count a sending that ended so; seconds to wait before the next, None for no next."""
        self.spent += self.cost
        self._last = result
        if told_to_wait(self._request, result):
            self._told += 1
            # A key in flight is this request's own: something on the way sent it before.
            in_flight = isinstance(result, Answer) and result.status == 409
            self.ambiguous = self.ambiguous or in_flight
            self.cost = COST_THROTTLED
            return wait_when_told(result, self._told, self._policy)
        now = time.monotonic()
        if self.failing_since is None:
            self.failing_since = now
        self._failures += 1
        self._own_failures += not is_passing(result)
        verdict = verdict_on(result)
        self.cost = COST_NOT_SENT if verdict is Verdict.NOT_SENT else COST_FAILED
        self.ambiguous = self.ambiguous or verdict is Verdict.AMBIGUOUS
        if self._is_models_failure(result):
            # It is the answer under the key: what became of the earlier sendings too.
            self.ambiguous = False
        return wait_after_failure(
            self._request,
            result,
            self._failures,
            self._policy,
            own_failures=self._own_failures,
            failing_for=now - self.failing_since,
        )

    def _is_models_failure(self, result: Answer | TransportError) -> bool:
        failed = isinstance(result, Answer) and result.status == 424
        return failed and self._request.method == "POST" and self._request.repeatable

    @property
    def outlasted(self) -> bool:
        """Whether the failures went on for as long as they are waited out."""
        last = self._last
        if last is None or self.failing_since is None or not self._policy.sends_again:
            return False
        waited = time.monotonic() - self.failing_since
        passing = is_passing(last) and may_repeat(self._request, last)
        return passing and waited + 2 * SHORTEST_WAIT >= self._policy.retry_for

    def last_error(self) -> ElluminateError:
        """The error to raise when there is no next sending."""
        assert self._last is not None
        error = final_error(self._request, self._last, self.count)
        error.ambiguous = self.ambiguous
        return error

    def cut_short_by(self, error: ElluminateError) -> ElluminateError:
        """The error to raise when ``error`` kept the next sending from an end of its own."""
        last = self._last
        if isinstance(error, ServiceUnavailableError | RateLimitError):
            error.attempts = self.count
        if isinstance(error, ServiceUnavailableError) and last is not None:
            error.own = self.last_error()
        if isinstance(error, DeadlineError):
            if not error.attempts and isinstance(last, Answer) and last.status == 429:
                # It waited for the service's limit, so that is what it ended by.
                return self.last_error()
            if not error.attempts and last is not None:
                error = DeadlineError(f"{error}; before that: {self.last_error()}")
            error.attempts += self.count
        error.ambiguous = error.ambiguous or self.ambiguous
        return error


def note(result: Answer | TransportError, attempt: ObservedAttempt) -> None:
    """Note how an attempt ended, for observers."""
    if not attempt.is_observed:
        return
    attempt.verdict = verdict_on(result).value
    if isinstance(result, TransportError):
        attempt.cause, attempt.text = type(result).__name__, str(result)
        return
    attempt.status, attempt.request_id = result.status, result.request_id
    if result.status >= 400:
        attempt.cause = str(result.status)


def timed_out(request: Request, policy: Policy, *, sent: bool) -> TransportError:
    """The error of an attempt whose clock has expired.

    Raises:
        DeadlineError: It was the call's deadline that had cut it.
    """
    try:
        policy.remaining()
    except DeadlineError as error:
        error.ambiguous = sent
        error.attempts = 1
        # What is being handled holds the request's headers in its frames.
        error.__context__ = None
        raise
    return AttemptTimeoutError(
        f"no answer to {request.method} {request.target} within {policy.attempt_timeout:.3g} s",
        sent=sent,
    )
