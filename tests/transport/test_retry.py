"""The verdict on an exchange, and what follows from it: again or not, and when."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async.errors import (
    AttemptTimeoutError,
    ConnectError,
    DeadlineError,
    ProtocolError,
    TransportError,
)
from elluminate_async.limits.backoff import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    THROTTLE_BASE,
    THROTTLE_CAP,
    back_off,
    throttle_back_off,
)
from elluminate_async.transport.exchange import Answer, Request
from elluminate_async.transport.retry import (
    Policy,
    Verdict,
    told_to_wait,
    verdict_on,
    wait_after_failure,
    wait_when_told,
)

GET = Request("GET", ["x"])
POST = Request("POST", ["x"])
KEYED = Request("POST", ["x"], idempotency_key="k", key_honoured=True)
KEY_NOT_HONOURED = Request("POST", ["x"], idempotency_key="k")
HARMLESS = Request("POST", ["x"], harmless=True)
PATCH = Request("PATCH", ["x"])


def answer(status: int, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def policy(
    seconds: float = 1000.0,
    max_attempts: int = 3,
    max_retry_after: float = 120,
    retry_for: float = 120,
) -> Policy:
    return Policy(
        time.monotonic() + seconds,
        max_attempts=max_attempts,
        max_retry_after=max_retry_after,
        retry_for=retry_for,
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_2xx_is_accepted(status: int) -> None:
    """Any complete 2xx."""
    assert verdict_on(answer(status)) is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 409, 410, 413, 414, 415, 418, 421, 422, 425, 429, 451]
)
def test_a_4xx_is_rejected(status: int) -> None:
    """A complete 4xx proves that nothing was applied."""
    assert verdict_on(answer(status)) is Verdict.REJECTED


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 307, 308, 408, 500, 501, 502, 503, 504, 520, 599]
)
def test_what_an_intermediary_may_have_sent_is_ambiguous(status: int) -> None:
    """Redirects, 408 and every 5xx, 503 included, prove nothing."""
    assert verdict_on(answer(status)) is Verdict.AMBIGUOUS


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectError("x", sent=False), Verdict.NOT_SENT),
        (AttemptTimeoutError("x", sent=False), Verdict.NOT_SENT),
        (AttemptTimeoutError("x", sent=True), Verdict.AMBIGUOUS),
        (ProtocolError("x", sent=True), Verdict.AMBIGUOUS),
        (TransportError("x", sent=True), Verdict.AMBIGUOUS),
    ],
)
def test_a_failure_is_judged_by_what_was_sent(error: TransportError, verdict: Verdict) -> None:
    """Not by its class: before the first byte nothing happened, after it anything may have."""
    assert verdict_on(error) is verdict


@pytest.mark.parametrize("request_", [GET, KEYED, HARMLESS, Request("DELETE", ["x"])])
@pytest.mark.parametrize("result", [answer(503), answer(500), TransportError("x", sent=True)])
def test_what_is_ambiguous_is_repeated_where_it_does_no_harm(
    request_: Request, result: Answer | TransportError
) -> None:
    """Idempotent methods, a key that the service honours, a POST known to be harmless."""
    assert wait_after_failure(request_, result, 1, policy()) is not None


@pytest.mark.parametrize("request_", [POST, PATCH, KEY_NOT_HONOURED])
@pytest.mark.parametrize(
    "result",
    [answer(503), answer(500), answer(503, Retry_After="1"), TransportError("x", sent=True)],
)
def test_what_is_ambiguous_is_not_repeated_elsewhere(
    request_: Request, result: Answer | TransportError
) -> None:
    """A second sending could be paid for twice; a key that nobody honours changes nothing."""
    assert wait_after_failure(request_, result, 1, policy()) is None


def test_what_was_not_sent_is_always_repeated() -> None:
    """A POST too."""
    assert wait_after_failure(POST, ConnectError("x", sent=False), 1, policy()) is not None


def test_what_would_fail_alike_is_not_repeated() -> None:
    """A bad certificate stays bad."""
    error = ConnectError("x", sent=False)
    error.worth_repeating = False

    assert wait_after_failure(GET, error, 1, policy()) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_repeated(status: int) -> None:
    """It would be the same again."""
    assert wait_after_failure(GET, answer(status), 1, policy()) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_rejection_is_final(status: int) -> None:
    """For a GET and under a key too."""
    assert wait_after_failure(GET, answer(status), 1, policy()) is None
    assert wait_after_failure(KEYED, answer(status), 1, policy()) is None


@pytest.mark.parametrize("status", [421, 425])
def test_what_was_refused_for_how_it_came_is_sent_once_more(status: int) -> None:
    """It was not applied, so that a POST is too."""
    assert wait_after_failure(POST, answer(status), 1, policy()) is not None
    assert wait_after_failure(POST, answer(status), 2, policy()) is None


OWN = [*map(answer, (500, 501, 505, 506, 508, 510)), ProtocolError("x", sent=True)]
PASSING = [
    *map(answer, (408, 502, 503, 504, 507, 509, 511, 520, 529, 530, 598, 599)),
    ConnectError("x", sent=False),
    AttemptTimeoutError("x", sent=True),
    TransportError("x", sent=True),
]


@pytest.mark.parametrize("result", OWN)
@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_max_attempts_counts_the_first(result: Answer | TransportError, max_attempts: int) -> None:
    """After n failures of n attempts that may be the request's own there is none left."""
    budget = policy(max_attempts=max_attempts)

    waits = [wait_after_failure(GET, result, n, budget) for n in range(1, max_attempts + 1)]

    assert waits[-1] is None
    assert None not in waits[:-1]


@pytest.mark.parametrize("result", PASSING)
def test_what_the_moment_failed_is_bounded_by_time(result: Answer | TransportError) -> None:
    """However often: until `retry_for` seconds after its first failure, and then no more."""
    budget = policy(max_attempts=2, retry_for=30)

    assert wait_after_failure(GET, result, 50, budget, failing_for=20) is not None
    assert wait_after_failure(GET, result, 50, budget, failing_for=30) is None


def test_the_last_attempt_is_at_the_end_of_the_time() -> None:
    """A back-off is cut to what is left of it; a figure of the service's is not."""
    budget = policy(retry_for=30)

    assert wait_after_failure(GET, answer(503), 9, budget, failing_for=29) == pytest.approx(
        1, abs=0.2
    )
    told = answer(503, Retry_After="2")
    assert wait_after_failure(GET, told, 9, budget, failing_for=29) is None


def test_failures_of_both_kinds_have_bounds_of_their_own() -> None:
    """Ten that the moment failed take nothing from the attempts of a plain 500."""
    assert wait_after_failure(GET, answer(500), 12, policy(), own_failures=2) is not None
    assert wait_after_failure(GET, answer(500), 13, policy(), own_failures=3) is None


@pytest.mark.parametrize("result", [*OWN, *PASSING, answer(421)])
@pytest.mark.parametrize("changes", [{"retry_for": 0}, {"max_attempts": 1}])
def test_nothing_is_sent_again_where_that_is_turned_off(
    result: Answer | TransportError, changes: dict[str, Any]
) -> None:
    """By either option, whatever failed it."""
    assert wait_after_failure(GET, result, 1, policy(**changes)) is None


def test_retry_after_replaces_the_back_off() -> None:
    """The service's figure, exactly; never earlier."""
    assert wait_after_failure(GET, answer(503, Retry_After="7"), 1, policy()) == 7
    assert wait_when_told(answer(429, Retry_After="7"), 1, policy()) == 7


def test_a_retry_after_that_is_too_long_ends_it() -> None:
    """Beyond `max_retry_after` or the deadline it fails at once instead of coming early."""
    assert wait_when_told(answer(429, Retry_After="121"), 1, policy()) is None
    assert wait_when_told(answer(429, Retry_After="120"), 1, policy()) == 120
    assert wait_when_told(answer(429, Retry_After="20"), 1, policy(10)) is None
    assert wait_after_failure(GET, answer(503, Retry_After="20"), 1, policy(10)) is None


def test_one_attempt_means_one_request() -> None:
    """With ``max_attempts=1`` or ``retry_for=0`` being told to wait is final as well."""
    assert wait_when_told(answer(429), 1, policy(retry_for=0)) is None
    assert wait_when_told(answer(429), 1, policy(max_attempts=1)) is None
    assert wait_when_told(answer(429, Retry_After="1"), 1, policy(max_attempts=1)) is None


@pytest.mark.parametrize("request_", [GET, POST, KEYED])
def test_a_429_says_to_wait(request_: Request) -> None:
    """Whatever the request, with or without the header, and is no failed attempt."""
    assert told_to_wait(request_, answer(429))
    assert wait_when_told(answer(429), 50, policy(max_attempts=2)) is not None


def test_a_409_of_a_key_in_flight_says_to_wait() -> None:
    """A POST with an honoured key and ``Retry-After``: the first one is still running."""
    assert told_to_wait(KEYED, answer(409, Retry_After="1"))


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (KEYED, answer(409)),
        (POST, answer(409, Retry_After="1")),
        (KEY_NOT_HONOURED, answer(409, Retry_After="1")),
        (GET, answer(409, Retry_After="1")),
        (KEYED, answer(503, Retry_After="1")),
        (KEYED, TransportError("x", sent=True)),
    ],
)
def test_anything_else_does_not_say_to_wait(
    request_: Request, result: Answer | TransportError
) -> None:
    """A 409 without a key or without a time is about a name; a 503 proves nothing."""
    assert not told_to_wait(request_, result)


@given(st.integers(1, 10_000))
def test_back_off_is_bounded(failures: int) -> None:
    """Doubled up to the cap, and at least a half of that; told to wait, anything up to it."""
    most = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 1000))
    assert most / 2 <= back_off(failures) <= most

    most = min(THROTTLE_CAP, THROTTLE_BASE * 2.0 ** min(failures - 1, 1000))
    assert 0 <= throttle_back_off(failures) <= most


def test_back_off_is_spread_over_its_range() -> None:
    """Clients that failed together do not come back together: a half of it is jitter."""
    waits = [back_off(5) for _ in range(2000)]
    assert min(waits) < 4.2
    assert max(waits) > 7.8
    assert 5.8 < sum(waits) / len(waits) < 6.2

    waits = [throttle_back_off(5) for _ in range(2000)]
    assert min(waits) < 1
    assert max(waits) > 15
    assert 7 < sum(waits) / len(waits) < 9


def test_clocks_end_with_the_deadline() -> None:
    """An attempt's clock is cut to what is left; after the deadline there is no clock."""
    assert policy(5).clock(60) == pytest.approx(5, abs=0.1)
    assert policy(500).clock(60) == 60
    with pytest.raises(DeadlineError):
        policy(-1).clock(60)
