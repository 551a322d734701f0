"""Errors are data: they survive pickling and JSON, and hold what a handler needs."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from elluminate_async import errors
from elluminate_async.batch import Batch, BatchError
from elluminate_async.engine.item_errors import item_error
from elluminate_async.errors import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    DeadlineError,
    ElluminateError,
    GenerationError,
    InputError,
    ItemError,
    JobError,
    MissingExtraError,
    NotFoundError,
    OutcomeUnknownError,
    PartialUploadError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RatingError,
    RedirectError,
    RejectedError,
    ServerError,
    TaskMatchError,
    TransportError,
    UnsupportedError,
    WrongEventLoopError,
    api_error_class,
)

EXAMPLES: list[ElluminateError] = [
    ConfigurationError("no key"),
    InputError("a value"),
    ClientClosedError("closed"),
    WrongEventLoopError("another loop"),
    MissingExtraError("the server", "server"),
    DeadlineError("late"),
    TransportError("broke", sent=True, attempts=2, request_id="r1"),
    ConnectError("refused", sent=False),
    AttemptTimeoutError("silence", sent=True, attempts=3),
    ProtocolError("garbage", sent=True),
    RedirectError("elsewhere", sent=True),
    JobError("failed", job_id="j1", job_status="FAILURE"),
    UnsupportedError("not here"),
    PartialUploadError("some of it", upload={"created_responses": 1}),
    TaskMatchError.of(
        RejectedError("none", status=400),
        accepted_tasks={1: "sort"},
        accepted_tasks_total=1,
        reasons=["result 0: none"],
    ),
    *(
        api_error_class(status)(
            "words",
            status=status,
            method="POST",
            path="/api/x",
            request_id="r2",
            retry_after=1.5,
            attempts=4,
            body={"detail": "words"},
        )
        for status in (400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 503)
    ),
    *(
        kind(
            "why",
            position=3,
            operation="rate",
            attempts=2,
            status=500,
            request_id="r",
            code="failed",
        )
        for kind in (ItemError, GenerationError, RatingError, OutcomeUnknownError)
    ),
]


def pickled(error: ElluminateError) -> ElluminateError:
    return pickle.loads(pickle.dumps(error))


def named(error: ElluminateError) -> str:
    return f"{type(error).__name__}-{getattr(error, 'status', '')}"


@pytest.mark.parametrize("error", EXAMPLES, ids=named)
@pytest.mark.parametrize("way", [pickled, copy.copy, copy.deepcopy])
def test_an_error_survives_pickling_and_copying(
    error: ElluminateError, way: Callable[[ElluminateError], ElluminateError]
) -> None:
    """Class, text and every attribute come back."""
    back = way(error)

    assert type(back) is type(error)
    assert back is not error
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert back.args == error.args


def test_an_error_is_pickled_with_its_partial_batch() -> None:
    """What had been paid for travels to the parent process too."""
    error = AuthenticationError("no", status=401)
    error.partial = Batch([1, ItemError("x", position=1, operation="generate", code="not_sent")])
    error.ambiguous = True

    back = pickle.loads(pickle.dumps(error))

    assert back.ambiguous
    assert back.partial[0] == 1
    assert back.partial.failed[1].code == "not_sent"


def test_the_docstring_draws_the_whole_tree() -> None:
    """Every class stands in the drawing, and under its own base."""
    lines = re.findall(
        r"^([│├└─ ]*)(\w+Error)\b(?: \((\w+)\))?", errors.__doc__ or "", re.MULTILINE
    )
    drawn: dict[str, type] = {}
    path: list[str] = []
    for indent, name, builtin in lines:
        del path[len(indent) // 4 - 1 :]
        cls = getattr(errors, name)
        drawn[name] = cls
        if path:
            assert path[-1] in [base.__name__ for base in cls.__bases__], name
        if builtin:
            assert builtin in [base.__name__ for base in cls.__bases__], name
        path.append(name)

    classes = {n for n, v in vars(errors).items() if isinstance(v, type) and n.endswith("Error")}
    assert set(drawn) == classes


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, PayloadTooLargeError),
        (422, RejectedError),
        (429, RateLimitError),
        (418, APIError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_status_to_class(status: int, kind: type[APIError]) -> None:
    """One class per thing a caller would do about it."""
    assert api_error_class(status) is kind


def test_an_api_error_names_status_words_and_place() -> None:
    """One line that says what to look at."""
    error = NotFoundError("no such template", status=404, method="GET", path="/api/v0/x")

    assert str(error) == "[404] no such template (GET /api/v0/x)"
    assert error.code == "http_404"


def test_a_long_detail_is_cut() -> None:
    """A 5 MB error page does not fill the log."""
    error = ServerError("x" * 5_000_000, status=500)

    assert len(error.detail) == errors.DETAIL_LIMIT
    assert len(str(error)) < errors.DETAIL_LIMIT + 50


def test_a_missing_extra_names_the_command() -> None:
    """The text is what to type."""
    assert "pip install 'elluminate-async[server]'" in str(
        MissingExtraError("the server", "server")
    )


@pytest.mark.parametrize("kind", [ItemError, GenerationError, RatingError, OutcomeUnknownError])
def test_an_item_error_survives_json(kind: type[ItemError]) -> None:
    """One line of JSON and back: class and all of the data."""
    error = kind(
        "why\nnot",
        position=7,
        operation="rate",
        attempts=2,
        status=503,
        request_id="r",
        response_id=9,
    )

    line = json.dumps(error.to_dict())
    back = ItemError.from_dict(json.loads(line))

    assert "\n" not in line
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_an_item_error_that_was_marked_on_its_way_survives_json() -> None:
    """What the engine notes on any error, an item's own data does not have."""
    error = OutcomeUnknownError("gone", position=7, operation="generate")
    error.ambiguous = True

    assert "ambiguous" not in error.to_dict()
    assert str(ItemError.from_dict(error.to_dict())) == str(error)


def test_an_item_error_of_an_unknown_kind_is_read_all_the_same() -> None:
    """A file of a later version gives an `ItemError` with its data."""
    data = {
        **ItemError("x", position=1, operation="rate", code="failed").to_dict(),
        "type": "NewError",
    }

    assert type(ItemError.from_dict(data)) is ItemError


def test_an_item_error_in_words() -> None:
    """Operation, position, code, text: in `str` and `repr`."""
    error = GenerationError("no answer in 30 s", position=1, operation="generate")

    assert str(error) == "generate[1] generation_failed: no answer in 30 s"
    assert repr(error) == "<GenerationError generate[1] generation_failed: no answer in 30 s>"


def test_at_gives_a_twin() -> None:
    """The same failure at another position; at its own position it is the very same object."""
    error = RatingError("x", position=1, operation="rate", status=500)

    twin = error.at(4)

    assert error.at(1) is error
    assert type(twin) is RatingError
    assert {**vars(twin), "position": 1} == vars(error)
    assert twin.position == 4


def test_an_item_error_of_a_request() -> None:
    """Code, attempts, status and request id of the request that failed are the item's."""
    cause = ServerError("down", status=503, attempts=3, request_id="r7")

    error = item_error(cause, position=5, operation="generate")

    assert (error.code, error.attempts, error.status, error.request_id, error.position) == (
        "http_503",
        3,
        503,
        "r7",
        5,
    )
    assert error.__cause__ is None
    assert error.__traceback__ is None


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (DeadlineError("x"), "deadline"),
        (InputError("x"), "bad_input"),
        (JobError("x", job_id="j", job_status="FAILURE"), "job_failed"),
        (ConnectError("x", sent=False), "connect"),
        (AttemptTimeoutError("x", sent=True), "timeout"),
        (ProtocolError("x", sent=True), "protocol"),
        (TransportError("x", sent=True), "transport"),
        (RateLimitError("x", status=429), "http_429"),
    ],
)
def test_codes(cause: ElluminateError, code: str) -> None:
    """Each kind of failure has a code of its own."""
    assert item_error(cause, position=0, operation="rate").code == code


def test_an_item_error_keeps_its_own_operation() -> None:
    """A failure that travels from generate into rate still says generate."""
    cause = GenerationError("x", position=2, operation="generate")

    assert item_error(cause, position=2, operation="rate") is cause
    assert item_error(cause, position=3, operation="rate").operation == "generate"


def test_everything_is_caught_by_one_name() -> None:
    """`except ElluminateError` suffices, and the built-in names work as well."""
    assert all(isinstance(error, ElluminateError) for error in EXAMPLES)
    assert issubclass(BatchError, ElluminateError)
    assert issubclass(DeadlineError, TimeoutError)
    assert issubclass(ConfigurationError, ValueError)


LINE = {"type": "ItemError", "text": "t", "position": 3, "operation": "rate", "code": "protocol"}


def test_a_line_of_a_later_version_can_be_read() -> None:
    """What is not known there is left out; an unregistered status keeps its class."""
    plain = ItemError.from_dict(LINE).to_dict()
    for more in ({"hint": "x"}, {"type": "LaterError", "output": "x"}, {"severity": None}):
        assert ItemError.from_dict({**LINE, **more}).to_dict() == plain
    unregistered = ItemError.from_dict({**LINE, "code": "http_520"})
    assert (unregistered.code, unregistered.status) == ("http_500", 520)
    told = ItemError.from_dict({**LINE, "code": "http_500", "status": 529})
    assert (told.code, told.status) == ("http_500", 529)
    for odd in ("http_5200", "http_099", "http_", "http_abc", "http_999", "later"):
        assert ItemError.from_dict({**LINE, "code": odd}).code == "failed"


@pytest.mark.parametrize("missing", ["text", "position", "operation"])
def test_a_line_that_is_no_error_is_refused(missing: str) -> None:
    """What it lacks is named; the rest has its defaults."""
    line = {name: value for name, value in LINE.items() if name != missing}
    with pytest.raises(InputError, match=f"it has no {missing}$"):
        ItemError.from_dict(line)
    with pytest.raises(InputError, match="no text and no position and no operation"):
        ItemError.from_dict({})
    least = ItemError.from_dict({"text": "t", "position": 0, "operation": "add"})
    assert (least.code, least.attempts, least.retryable) == ("failed", 1, False)


def test_a_code_is_of_the_closed_set_whoever_makes_the_error() -> None:
    """What is none is ``failed``, also after it was pickled or written down."""
    odd: Any = "nonsense"
    error = ItemError("t", position=0, operation="generate", code=odd)
    assert error.code == "failed"
    assert ItemError.from_dict(error.to_dict()).to_dict() == error.to_dict()
    assert pickle.loads(pickle.dumps(error)).code == "failed"
