"""Errors as documents that may be shown to anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    BatchError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    ElluminateError,
    GenerationError,
    InputError,
    ItemError,
    JobError,
    JournalError,
    MissingExtraError,
    NotFoundError,
    OutcomeUnknownError,
    PartialUploadError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RatingError,
    RedirectError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    UnsupportedError,
    WrongEventLoopError,
    errors,
)
from elluminate_async.integrations.problems import internal_problem, problem_of

SECRET = "key sk-123 at 10.0.0.7"


def api(kind: type[APIError], status: int, **rest: Any) -> APIError:
    return kind(SECRET, status=status, path="/secret", **rest)


def item(code: Any, kind: type[ItemError] = ItemError, **rest: Any) -> ItemError:
    return kind(SECRET, position=0, operation="generate", code=code, **rest)


def ambiguous(error: ElluminateError) -> ElluminateError:
    error.ambiguous = True
    return error


TABLE: list[tuple[Exception, int, bool, str]] = [
    (api(RateLimitError, 429), 429, True, "http_429"),
    (
        ServiceUnavailableError(since=datetime.now(UTC), last=SECRET, retry_after=2.0),
        503, True, "unavailable",
    ),
    (ConnectError(SECRET, sent=False), 503, True, "connect"),
    (ClientClosedError(SECRET), 503, True, "unavailable"),
    (DeadlineError(SECRET), 504, True, "deadline"),
    (ambiguous(DeadlineError(SECRET)), 504, False, "deadline"),
    (AttemptTimeoutError(SECRET, sent=True), 504, True, "timeout"),
    (TransportError(SECRET, sent=True), 502, True, "transport"),
    (ambiguous(TransportError(SECRET, sent=True)), 502, False, "transport"),
    (ProtocolError(SECRET, sent=True), 502, True, "protocol"),
    (RedirectError(SECRET, sent=True), 502, False, "protocol"),
    # A 401 would ask the reader for a key of theirs.
    (api(AuthenticationError, 401), 502, False, "failed"),
    (api(PermissionDeniedError, 403), 502, False, "failed"),
    (api(NotFoundError, 404), 502, False, "http_404"),
    (api(ServerError, 500), 502, False, "http_500"),
    (api(ServerError, 502), 502, True, "http_502"),
    (api(ServerError, 503, retry_after=9.0), 503, True, "http_503"),
    (api(ServerError, 504), 504, True, "http_504"),
    (api(APIError, 418), 502, False, "http_400"),
    (JobError(SECRET, job_id="j", job_status="FAILURE"), 502, True, "job_failed"),
    (PartialUploadError(SECRET, upload=None), 502, False, "failed"),
    (UnsupportedError(SECRET), 501, False, "failed"),
    (item(None, GenerationError), 502, True, "generation_failed"),
    (item(None, RatingError), 502, True, "rating_failed"),
    (item(None, OutcomeUnknownError), 502, False, "outcome_unknown"),
    (item("deadline", OutcomeUnknownError), 504, False, "deadline"),
    # The batch could go on with it; who reads the problem has no batch.
    (item("deadline", OutcomeUnknownError, retryable=True), 504, False, "deadline"),
    (item("stalled", OutcomeUnknownError, retryable=True), 502, False, "stalled"),
    (item("deadline"), 504, True, "deadline"),
    (item("unavailable"), 503, True, "unavailable"),
    (item("http_429"), 429, True, "http_429"),
    (item("http_401"), 502, False, "failed"),
    (item("no_result"), 502, True, "no_result"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status", "retryable", "code"), TABLE,
    ids=[f"{type(row[0]).__name__}-{row[3]}-{row[1]}" for row in TABLE],
)  # fmt: skip
def test_every_error_of_the_service_has_a_problem(
    error: Exception, status: int, retryable: bool, code: str
) -> None:
    """A status, a code, whether to try again; and nothing of the error's text."""
    problem = problem_of(error)

    assert problem is not None
    assert (problem.status, problem.retryable, problem.code) == (status, retryable, code)
    assert (problem.retry_after is not None) == (status in (429, 503))
    for word in ("sk-123", "10.0.0.7", "secret"):
        assert word not in problem.model_dump_json()


BUGS = [
    InputError("no"), ConfigurationError("no"), WrongEventLoopError("no"), ValueError("no"),
    JournalError("no", path=Path("j")), MissingExtraError("it", "fastapi"), TimeoutError("no"),
]  # fmt: skip


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_a_bug_has_none(error: Exception) -> None:
    """Of the program, and not of the service: it is for the framework to answer, and to log."""
    assert problem_of(error) is None


def test_every_class_of_errors_was_thought_of() -> None:
    """A new one is put into one of the tables here, or is of a base that is."""
    thought_of = {type(row[0]) for row in TABLE} | {type(error) for error in BUGS}
    for kind in vars(errors).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, ElluminateError)
            and kind is not ElluminateError
        ):
            assert thought_of & set(kind.__mro__), kind


def test_a_time_to_wait_is_whole_seconds_and_one_at_least() -> None:
    """As the header has it; what the service asked for is not cut short."""
    waits = [api(RateLimitError, 429, retry_after=seconds) for seconds in (0.0, 0.2, 1.2, None)]

    assert [problem and problem.retry_after for problem in map(problem_of, waits)] == [1, 1, 2, 5]


def test_of_a_group_it_is_that_of_the_worst() -> None:
    """What no repetition mends comes first; then the higher status."""
    passing = [item("http_429"), item("deadline"), item("unavailable")]
    lasting = item(None, OutcomeUnknownError)

    assert getattr(problem_of(ExceptionGroup("g", passing)), "status", None) == 504
    batch: Any = None
    assert getattr(problem_of(BatchError("g", passing, batch=batch)), "status", None) == 504
    nested = ExceptionGroup("g", [ExceptionGroup("h", passing), lasting])
    assert getattr(problem_of(nested), "code", None) == "outcome_unknown"
    assert problem_of(ExceptionGroup("g", [*passing, ValueError("bug")])) is None


def test_a_program_may_choose_statuses() -> None:
    """By class, the nearest first; an input's own text is told, a service's is not."""
    chosen: dict[type[Exception], int] = {InputError: 422, NotFoundError: 404, APIError: 500}

    told = problem_of(InputError("row 3 has no question"), chosen)
    assert told is not None
    assert (told.status, told.detail, told.code) == (422, "row 3 has no question", "bad_input")
    missing = problem_of(api(NotFoundError, 404), chosen)
    assert missing is not None
    assert (missing.status, missing.title) == (404, "Not Found")
    assert SECRET not in missing.detail


def test_any_other_error_is_told_as_a_mistake_of_this_server() -> None:
    """In a stream, where the status is long sent."""
    assert internal_problem().status == 500
