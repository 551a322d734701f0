"""The verdict on an exchange, and what follows from it: again or not, and when."""

from __future__ import annotations

import time

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
from elluminate_async.transport.exchange import Answer, Request
from elluminate_async.transport.retry import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    THROTTLE_BASE,
    Policy,
    Verdict,
    back_off,
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


def policy(seconds: float = 1000.0, max_attempts: int = 3, max_retry_after: float = 120) -> Policy:
    return Policy(time.monotonic() + seconds, max_attempts, max_retry_after)


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


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_max_attempts_counts_the_first(max_attempts: int) -> None:
    """After n failures of n attempts there is none left."""
    budget = policy(max_attempts=max_attempts)

    waits = [wait_after_failure(GET, answer(503), n, budget) for n in range(1, max_attempts + 1)]

    assert waits[-1] is None
    assert None not in waits[:-1]


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
    """With ``max_attempts=1`` being told to wait is final as well."""
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


@given(st.integers(1, 10_000), st.sampled_from([BACKOFF_BASE, THROTTLE_BASE]))
def test_back_off_is_bounded(failures: int, base: float) -> None:
    """Between nothing and base times a power of two, and never above the cap."""
    wait = back_off(failures, base=base)

    assert 0 <= wait <= min(BACKOFF_CAP, base * 2.0 ** min(failures - 1, 1000))


def test_back_off_is_spread_over_its_whole_range() -> None:
    """Full jitter: clients that failed together do not come back together."""
    waits = [back_off(5, base=1.0) for _ in range(2000)]

    assert min(waits) < 1
    assert max(waits) > 15
    assert 7 < sum(waits) / len(waits) < 9


def test_clocks_end_with_the_deadline() -> None:
    """An attempt's clock is cut to what is left; after the deadline there is no clock."""
    assert policy(5).clock(60) == pytest.approx(5, abs=0.1)
    assert policy(500).clock(60) == 60
    with pytest.raises(DeadlineError):
        policy(-1).clock(60)
