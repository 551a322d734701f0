"""Whether a failed item is worth sending again, and the one error behind a whole batch."""

from __future__ import annotations

import json
import pickle
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    APIError,
    AsyncClient,
    Batch,
    BatchError,
    BatchOptions,
    ConnectError,
    DeadlineError,
    ElluminateError,
    ItemError,
    ItemErrorCode,
    OutcomeUnknownError,
    RateLimitError,
    RejectedError,
    ServerError,
    ServiceUnavailableError,
)
from elluminate_async.engine.item_errors import item_error, past_deadline
from elluminate_async.errors import (
    AttemptTimeoutError,
    GenerationError,
    InputError,
    JobError,
    ProtocolError,
    RatingError,
    TransportError,
    api_error_class,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService
from tests.flow.bench import BATCH, Once, Seen, answer
from tests.flow.conftest import Staging
from tests.testing.bench import bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = BatchOptions(chunk_size=2, max_attempts=1, retry_for=0)
HOSTED = WireProfile.hosted()
VALUES = [f"v{i}" for i in range(6)]

PASSING: set[ItemErrorCode] = {
    "connect", "deadline", "generation_failed", "http_408", "http_421", "http_425", "http_429",
    "http_500", "http_503", "http_504", "incomplete", "job_failed", "no_result", "not_sent",
    "rating_failed", "timeout", "transport", "unavailable",
}  # fmt: skip
LASTING: set[ItemErrorCode] = {
    "bad_input", "failed", "http_400", "http_401", "http_404", "http_409", "http_413", "http_422",
    "outcome_unknown", "protocol", "stalled",
}  # fmt: skip


class Lasting:
    """From the first of ``fault`` on an outage: every other request is answered 503."""

    def __init__(self, fault: Once) -> None:
        self.fault = fault

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if await self.fault(seen, send):
            return True
        if not self.fault.fired:
            return False
        await answer(send, 503)
        return True


def failures(error: ElluminateError, count: int = 3) -> Batch[Any]:
    """A batch whose items all failed by ``error``."""
    return Batch([item_error(error, position=p, operation="generate") for p in range(count)])


def test_what_passes_is_worth_sending_again() -> None:
    """By its code: what time, the model or the judge may mend, and not what is in the item."""
    of = {
        code: ItemError("x", position=0, code=code, operation="add").retryable
        for code in PASSING | LASTING
    }
    assert {code for code, retryable in of.items() if retryable} == PASSING
    assert GenerationError("x", position=0, operation="generate").retryable
    assert RatingError("x", position=0, operation="rate").retryable


@pytest.mark.parametrize("code", ["deadline", "no_result", "stalled", None])
def test_what_is_unknown_is_not_by_its_code(code: ItemErrorCode | None) -> None:
    """Sent anew it could be paid for twice."""
    assert not OutcomeUnknownError("x", position=0, code=code, operation="add").retryable


def test_a_failure_that_would_come_again_is_not() -> None:
    """A certificate that is not trusted will not be trusted the next time either."""
    error = ConnectError("bad certificate", sent=False)
    error.worth_repeating = False

    assert not item_error(error, position=0, operation="add").retryable
    assert item_error(ConnectError("refused", sent=False), position=0, operation="add").retryable


def test_the_wait_and_the_cause_survive_json_and_pickle() -> None:
    """And documents of an earlier version, which have neither, are read."""
    error = item_error(
        RateLimitError("slow down", status=429, retry_after=7.5), position=3, operation="rate"
    )
    assert (error.retryable, error.retry_after, error.cause) == (True, 7.5, "RateLimitError")
    document = error.to_dict()

    for back in (
        ItemError.from_dict(json.loads(json.dumps(document))),
        pickle.loads(pickle.dumps(error)),
    ):
        assert back.to_dict() == document
    for name in ("retryable", "retry_after", "cause"):
        del document[name]
    old = ItemError.from_dict(document)
    assert (old.retryable, old.retry_after, old.cause) == (True, None, None)


@pytest.mark.parametrize("status", [400, 402, 409, 413, 422, 429, 500, 503])
def test_the_error_of_all_is_raised_as_it_was(status: int) -> None:
    """Its class, status, wait and text; the batch is its `partial`."""
    original = api_error_class(status)(
        "no", status=status, method="POST", path="/x", request_id="r-1", retry_after=3, attempts=2
    )
    batch = failures(original)

    with pytest.raises(APIError) as caught:
        batch.raise_if_all_failed()

    error = caught.value
    assert type(error) is type(original)
    assert error.partial is batch
    assert (error.status, error.retry_after, error.attempts) == (status, 3, 2)
    assert error.request_id == "r-1"
    assert error.code == original.code
    assert str(error) == str(original)
    assert str(pickle.loads(pickle.dumps(error))) == str(original)


@pytest.mark.parametrize(
    "original",
    [
        ConnectError("refused", sent=False, attempts=4),
        AttemptTimeoutError("no answer in 5 s", sent=True),
        TransportError("reset", sent=True),
        ProtocolError("html", sent=True),
        DeadlineError("the deadline passed"),
        InputError("no such column"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_without_an_answer_is_raised_too(original: ElluminateError) -> None:
    """By its class, with its text."""
    with pytest.raises(type(original)) as caught:
        failures(original).raise_if_all_failed()

    assert type(caught.value) is type(original)
    assert str(caught.value) == str(original)
    assert getattr(caught.value, "sent", None) == getattr(original, "sent", None)


def test_an_outage_is_raised_as_it_was() -> None:
    """A service's handler of 503 sees since when, how the last request failed, and the wait."""
    since = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    original = ServiceUnavailableError(since=since, last="connection; refused", retry_after=4.0)
    with pytest.raises(ServiceUnavailableError) as caught:
        failures(original).raise_if_all_failed()

    error = caught.value
    assert (error.since, error.last, error.retry_after) == (since, "connection; refused", 4.0)
    assert str(error) == str(original)


def test_the_longest_wait_of_any_item_counts() -> None:
    """Who waits for less is refused again."""
    waits = [5.0, 11.0, None, 2.0]
    batch = Batch[Any](
        [
            item_error(
                RateLimitError("no", status=429, retry_after=wait), position=p, operation="add"
            )
            for p, wait in enumerate(waits)
        ]
    )
    with pytest.raises(RateLimitError) as caught:
        batch.raise_if_all_failed()
    assert caught.value.retry_after == 11.0


def test_different_causes_are_a_group() -> None:
    """Two statuses, two classes, or failures of the items' own: `BatchError`, of all of them."""
    server = ServerError("no", status=503)
    untrusted = ConnectError("bad certificate", sent=False)
    untrusted.worth_repeating = False
    mixed = (
        [server, ServerError("no", status=500)],
        [server, RateLimitError("no", status=429)],
        [server, untrusted],
        [RateLimitError("no", status=429), DeadlineError("the deadline passed")],
    )
    for errors in mixed:
        batch = Batch[Any](
            [item_error(error, position=p, operation="add") for p, error in enumerate(errors)]
        )
        with pytest.raises(BatchError) as caught:
            batch.raise_if_all_failed()
        assert caught.value.batch is batch
        assert list(caught.value.exceptions) == list(batch.failed.values())
    for own in (
        GenerationError("refused", position=0, operation="generate"),
        item_error(JobError("x", job_id="j", job_status="FAILURE"), position=0, operation="rate"),
        ItemError("x", position=0, operation="add", cause="ErrorOfALaterVersion"),
    ):
        with pytest.raises(BatchError):
            Batch[Any]([own]).raise_if_all_failed()


def test_a_group_counts_its_causes() -> None:
    """By class and status, or by an item's own code; in the text, and also of a part."""
    errors: list[ElluminateError] = [
        ServerError("no", status=500),
        ServerError("no", status=500),
        RateLimitError("no", status=429),
        GenerationError("refused", position=0, operation="add"),
    ]
    batch = Batch[Any](
        [item_error(error, position=p, operation="add") for p, error in enumerate(errors)]
    )
    with pytest.raises(BatchError, match="2 ServerError 500, 1 RateLimitError 429") as caught:
        batch.raise_if_all_failed()

    assert caught.value.causes == {
        "ServerError 500": 2,
        "RateLimitError 429": 1,
        "generation_failed": 1,
    }
    _, rest = caught.value.split(GenerationError)
    assert isinstance(rest, BatchError)
    assert rest.causes == {"ServerError 500": 2, "RateLimitError 429": 1}


async def test_one_outage_is_one_error_whatever_it_did_to_an_item(staging: Staging) -> None:
    """Some were sent and are unknown, some could not be sent: the service is unavailable."""
    fault = Once(502, times=1)
    options = BatchOptions(chunk_size=2, max_concurrency=1, retry_for=5.0, settle=0.2)
    async with staging(HOSTED, options) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Lasting(fault)
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    codes = [error.code for error in batch.failed.values()]
    assert codes == ["outcome_unknown"] * 2 + ["unavailable"] * 4
    with pytest.raises(ServiceUnavailableError, match="503") as caught:
        batch.raise_if_all_failed()
    assert caught.value.retry_after == max(e.retry_after or 0 for e in batch.failed.values())
    assert caught.value.ambiguous
    assert caught.value.partial is batch
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_what_is_unknown_in_an_outage_names_its_own_failure(staging: Staging) -> None:
    """Not that of the probe, which only looks whether the outage is over.

    The error of all is the outage all the same.
    """
    options = BatchOptions(chunk_size=2, max_concurrency=1, retry_for=5.0)
    async with staging(options=options) as stage:
        rows = await stage.variables(VALUES[:2])
        stage.recorder.before = Lasting(Once(502, times=1_000))
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    for error in batch.failed.values():
        assert isinstance(error, OutcomeUnknownError)
        assert (error.cause, error.status) == ("ServerError", 502)
        assert "known: [502] injected (POST " in error.text
        assert "since then the service is unavailable" in error.text
        assert error.retryable
    with pytest.raises(ServiceUnavailableError):
        batch.raise_if_all_failed()


@pytest.mark.parametrize("jitter", [0, 1])
@pytest.mark.parametrize("told", [("1.0", "300"), ("300", "1.0"), ("1.0",), ("0.9", "1.0")])
async def test_one_limit_is_one_error_whatever_wait_it_told(
    staging: Staging, told: tuple[str, ...], jitter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest wait counts, also where the deadline kept items from being sent meanwhile."""

    def fixed(*ends: float) -> float:
        return ends[jitter]

    monkeypatch.setattr(random, "uniform", fixed)
    waits = iter(told)

    async def limit(seen: Seen, send: Send) -> bool:
        if seen.method != "POST" or not BATCH.match(seen.path):
            return False
        await answer(send, 429, b'{"detail": "slow down"}', {"retry-after": next(waits, told[-1])})
        return True

    options = BatchOptions(chunk_size=2, max_concurrency=1, deadline=4.0)
    async with staging(options=options.replace(max_retry_after=100)) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = limit
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    longest = max(error.retry_after or 0 for error in batch.failed.values())
    assert longest > max(map(float, told)) - 5
    with pytest.raises(RateLimitError) as caught:
        batch.raise_if_all_failed()
    assert (caught.value.status, caught.value.retry_after) == (429, longest)


@pytest.mark.parametrize("deadline", [2.5, 3.0])
async def test_a_limit_after_an_outage_is_one_error(deadline: float) -> None:
    """Whatever the pace has come to when the deadline passes: what waited for it says so."""
    service = ScriptedService()
    options = BatchOptions(chunk_size=4, retry_for=2, deadline=deadline)
    async with bench(service, inputs_of(20), options) as at:
        service.faults = [Fault("503")]
        await at.generate()
        await anyio.sleep(2.2)
        service.faults = [Fault("429")]
        batch = await at.generate()

    assert len(batch.failed) == 20
    with pytest.raises(RateLimitError):
        batch.raise_if_all_failed()


def test_a_batch_with_any_value_is_returned() -> None:
    """So is an empty one, of which no item failed."""
    error = item_error(ServerError("no", status=503), position=1, operation="add")
    for batch in (Batch[Any](["value", error]), Batch[Any](["value"]), Batch[Any]([])):
        assert batch.raise_if_all_failed() is batch


async def test_a_refusal_by_429_is_seen_as_one(staging: Staging) -> None:
    """The handler of a web service sees `RateLimitError` with the wait, whatever was in flight."""
    async with staging(options=OPTIONS.replace(max_retry_after=5)) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(429, times=100, retry_after="60")
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        with pytest.raises(RateLimitError) as caught:
            batch.raise_if_all_failed()

    assert caught.value.status == 429
    assert caught.value.retry_after == pytest.approx(60, rel=0.3)
    assert caught.value.partial is batch
    assert all(error.retryable for error in batch.failed.values())


@pytest.mark.parametrize("profile", [None, HOSTED], ids=["keys", "hosted"])
async def test_an_outage_by_503_is_seen_as_one(
    staging: Staging, profile: WireProfile | None
) -> None:
    """`ServerError` also of what is unknown by it, which only keys make worth sending again."""
    async with staging(profile, OPTIONS.replace(settle=0.2, chunk_size=10)) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(503, times=100)
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        ratings = await stage.client.ratings.rate_many(batch)

    for one in (batch, ratings):
        with pytest.raises(ServerError) as caught:
            one.raise_if_all_failed()
        assert caught.value.status == 503
        assert caught.value.ambiguous
    assert {error.retryable for error in batch.failed.values()} == {profile is None}


async def test_a_service_that_is_not_there_is_seen_as_one(staging: Staging) -> None:
    """`ConnectError`, of items that were never sent."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key, options=OPTIONS)
    batch = await client.responses.generate_many(
        template_variables=rows, experiment=stage.experiment
    )
    await client.close()
    with pytest.raises(ConnectError) as caught:
        batch.raise_if_all_failed()
    assert not caught.value.sent


async def test_a_bad_request_is_seen_as_one(staging: Staging) -> None:
    """Each item was refused alone, and all by the same."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(422, times=100)
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
    with pytest.raises(RejectedError):
        batch.raise_if_all_failed()
    assert not any(error.retryable for error in batch.failed.values())


async def test_the_deadline_tells_how_long_the_client_is_held(staging: Staging) -> None:
    """What a hold kept from being sent says how much of it is left; the whole is the deadline's."""
    async with staging(options=OPTIONS.replace(max_concurrency=1)) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(429, times=100, retry_after="60")
        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            options=OPTIONS.replace(max_concurrency=1, deadline=2.0),
        )
    waits = [error.retry_after for error in batch.failed.values()]
    assert all(wait is not None and 40 < wait < 80 for wait in waits), waits
    assert all(error.retryable for error in batch.failed.values())


async def test_an_unknown_item_says_whether_a_retry_goes_on_with_it(
    staging: Staging, tmp_path: Path
) -> None:
    """Also by a journal; after the retry that found it out there is nothing left to say."""
    async with staging(options=OPTIONS) as stage:
        stage.recorder.after = Once(502, times=100)
        rows = await stage.variables(VALUES)
        batch = await stage.client.responses.generate_many(
            template_variables=[*rows, rows[0]],
            experiment=stage.experiment,
            journal=tmp_path / "run",
        )
        stage.recorder.after = None
        assert all(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())
        assert all(error.retryable for error in batch.failed.values())

        await batch.retry_failed()

        assert not batch.failed


async def test_the_duplicates_of_an_unknown_item_say_the_same(staging: Staging) -> None:
    """A response that is rated once for two positions has one outcome for both."""
    async with staging(options=OPTIONS) as stage:
        responses = await stage.generate(VALUES[:2])
        stage.recorder.after = Once(502, times=100, noun="ratings")
        ratings = await stage.client.ratings.rate_many([*responses, responses[0]])

        assert [error.retryable for error in ratings.failed.values()] == [True] * 3


async def test_a_journal_keeps_them(staging: Staging, tmp_path: Path) -> None:
    """What failed for good is told by the same call again as it was told the first time."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:2])
        stage.recorder.before = Once(422, times=100)

        async def call() -> Batch[Any]:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=tmp_path / "run"
            )

        first, again = await call(), await call()

    documents = [[error.to_dict() for error in one.failed.values()] for one in (first, again)]
    assert documents[0] == documents[1]
    assert documents[0][0]["cause"] == "RejectedError"
    with pytest.raises(RejectedError):
        again.raise_if_all_failed()


async def test_a_stream_does_not_promise_a_retry(staging: Staging) -> None:
    """There is no batch that could go on with what is unknown."""
    async with staging(options=OPTIONS) as stage:
        stage.recorder.after = Once(502, times=100)
        rows = await stage.variables(VALUES[:2])
        stream = stage.client.responses.stream_generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        outcomes = [outcome async for _, outcome in stream]

    assert [getattr(outcome, "retryable", None) for outcome in outcomes] == [False, False]


def _failed(error: ElluminateError, position: int) -> ItemError:
    return item_error(error, position=position, operation="generate")


def test_an_outage_in_several_ways_is_unavailability() -> None:
    """Refused, 503 and a broken connection: one cause, without the text of an open breaker."""
    errors = [
        ServerError("gone", status=503),
        ConnectError("refused", sent=False),
        TransportError("broken", sent=False),
    ]
    batch = Batch[Any]([_failed(error, p) for p, error in enumerate(errors)])
    with pytest.raises(ServiceUnavailableError) as caught:
        batch.raise_if_all_failed()
    assert "gone" in str(caught.value)
    assert caught.value.last


@pytest.mark.parametrize("left", [40.0, 0.01])
def test_a_limit_that_lasted_to_the_deadline_is_the_limit(left: float) -> None:
    """Some were refused, others kept until the deadline, be it by the last of a hold."""
    limits = [RateLimitError("no", status=429, retry_after=wait) for wait in (5.0, 30.0)]
    batch = Batch[Any](
        [
            *[_failed(error, p) for p, error in enumerate(limits)],
            past_deadline(2, "generate", left),
        ]
    )
    with pytest.raises(RateLimitError) as caught:
        batch.raise_if_all_failed()
    assert caught.value.retry_after == max(left, 30.0)
