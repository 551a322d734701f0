"""Shared chunks under fault: each caller has its own row or its own error, paid for once."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections import Counter
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

import pytest

from elluminate_async import (
    AuthenticationError,
    BatchOptions,
    ClientClosedError,
    DeadlineError,
    ElluminateError,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    RejectedError,
    ServerError,
)
from elluminate_async.operations.caller import twin_of
from elluminate_async.testing import VIRTUAL_TIME, Fault, FaultPlan, ScriptedService
from elluminate_async.testing.faults import KINDS, refuse
from elluminate_async.testing.ledger import nonce_of
from tests.testing.bench import Bench, bench, inputs_of

WINDOW = 0.02
COUNT = 12
BATCHES = "POST responses/batches"
ONCE = BatchOptions(retry_for=0, max_attempts=1, settle=0.3)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def single(at: Bench, index: int, **arguments: Any) -> asyncio.Task[PromptResponse]:
    call = at.client.responses.generate(
        template_variables=at.variables[index], experiment=at.experiment, **arguments
    )
    return asyncio.ensure_future(call)


async def ended(*calls: Awaitable[Any]) -> list[Any]:
    """What each gives or raises, in their order."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def outcomes_of(at: Bench, **arguments: Any) -> list[Any]:
    return await ended(*(single(at, index, **arguments) for index in range(len(at.variables))))


def own_row(at: Bench, index: int, response: PromptResponse) -> bool:
    """Whether a response was made from the values of that input."""
    made = at.service.ledger.responses[response.id]
    return made.nonce == nonce_of(at.inputs[index]) and made.text == response.response_str


@pytest.mark.parametrize("kind", ["502-processed", "reset-processed", "truncated", "null"])
async def test_an_answer_that_is_lost_is_asked_for_under_its_key(kind: str) -> None:
    """Each has its row, and each row was made once."""
    lost = Fault(kind, on=BATCHES, times=1)
    async with bench(ScriptedService(faults=[lost]), inputs_of(COUNT), coalesce=WINDOW) as at:
        outcomes = await outcomes_of(at)

        assert lost.fired == 1
        assert all(own_row(at, index, outcome) for index, outcome in enumerate(outcomes))
        assert set(at.service.ledger.generated.values()) == {1}


@pytest.mark.parametrize("coalesce", [None, WINDOW])
async def test_what_stays_unknown_is_each_callers_own_error(coalesce: float | None) -> None:
    """As without: unknown, not to be retried by any batch, and its text tells the way on."""
    lost = Fault("502-processed", on=lambda exchange: "POST responses" in exchange.route)
    service = ScriptedService(faults=[lost])
    async with bench(service, inputs_of(COUNT), ONCE, coalesce=coalesce) as at:
        errors = await outcomes_of(at)

        assert {type(error) for error in errors} == {OutcomeUnknownError}
        assert len({id(error) for error in errors}) == COUNT
        assert {(e.position, e.status, e.retryable, e.cause) for e in errors} == {
            (0, 502, False, "ServerError")
        }
        assert all("client.responses.list(experiment=...)" in error.text for error in errors)


async def test_a_small_batch_is_retried_under_the_key_of_the_shared_chunk() -> None:
    """Its `retry_failed` repeats the whole request: nothing is made a second time."""
    lost = Fault("502-processed", on=BATCHES)
    service = ScriptedService(faults=[lost])
    async with bench(service, inputs_of(COUNT), ONCE, coalesce=WINDOW) as at:
        calls = [
            at.client.responses.generate_many(
                template_variables=at.variables[start : start + 4], experiment=at.experiment
            )
            for start in range(0, COUNT, 4)
        ]
        batches = await asyncio.gather(*calls)
        assert lost.fired == 1
        assert {(type(e), e.retryable) for batch in batches for e in batch.failed.values()} == {
            (OutcomeUnknownError, True)
        }
        service.faults = []
        await at.client.ping(60)
        for number, batch in enumerate(batches):
            await batch.retry_failed()
            assert all(own_row(at, 4 * number + i, row) for i, row in enumerate(batch))

        assert set(service.ledger.generated.values()) == {1}
        assert set(service.ledger.by_key.values()) == {1}


@pytest.mark.parametrize("coalesce", [None, WINDOW])
@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (422, RejectedError)])
async def test_what_is_true_of_all_is_raised_to_each_as_its_own(
    status: int, kind: type[ElluminateError], coalesce: float | None
) -> None:
    """The same class as without; each another object, whose traceback is of its caller alone."""
    refused = Fault(refuse(status), on=lambda exchange: "POST responses" in exchange.route)
    service = ScriptedService(faults=[refused])
    async with bench(service, inputs_of(COUNT), coalesce=coalesce) as at:
        errors = await outcomes_of(at)

        assert [type(error) for error in errors] == [kind] * COUNT
        assert len({id(error) for error in errors}) == COUNT
        assert {error.status for error in errors} == {status}
        depths = {len(traceback.extract_tb(error.__traceback__)) for error in errors}
        assert len(depths) == 1
        assert {error.__context__ for error in errors} == {None}
        assert {error.__cause__ for error in errors} == {None}


@pytest.mark.parametrize("coalesce", [None, WINDOW])
async def test_a_chunk_that_fails_raises_what_a_single_call_raises(
    coalesce: float | None,
) -> None:
    """What is known not to have been done is the service's own error, not one of an item."""
    failing = Fault("429", on=lambda exchange: "POST responses" in exchange.route)
    service = ScriptedService(faults=[failing])
    async with bench(service, inputs_of(COUNT), ONCE, coalesce=coalesce) as at:
        errors = await outcomes_of(at)

        assert {type(error).__name__ for error in errors} == {"RateLimitError"}
        assert len({id(error) for error in errors}) == COUNT


@pytest.mark.parametrize("coalesce", [None, WINDOW])
async def test_a_client_that_is_closed_ends_who_is_in_flight(coalesce: float | None) -> None:
    """As without: what was sent is unknown, to each by its own error."""
    service = ScriptedService(job_seconds=100, faults=[Fault("hang-processed", on=_is_single)])
    async with bench(service, inputs_of(COUNT), coalesce=coalesce) as at:
        calls = [single(at, index) for index in range(COUNT)]
        await asyncio.sleep(1)
        await at.client.close()
        errors = await ended(*calls)

        assert {type(error) for error in errors} == {OutcomeUnknownError}
        assert len({id(error) for error in errors}) == COUNT


def _is_single(exchange: Any) -> bool:
    return exchange.route == "POST responses/generate"


async def test_a_client_that_is_closed_ends_who_waits_for_others() -> None:
    """Nothing was sent, and so it is told."""
    async with bench(ScriptedService(), inputs_of(COUNT), coalesce=100.0) as at:
        calls = [single(at, index) for index in range(3)]
        small = asyncio.ensure_future(
            at.client.responses.generate_many(
                template_variables=at.variables[3:6], experiment=at.experiment
            )
        )
        await asyncio.sleep(1)
        await at.client.close()
        *errors, of_batch = await ended(*calls, small)

        assert {type(error) for error in errors} == {ClientClosedError}
        assert isinstance(of_batch, ClientClosedError)
        assert {error.attempts for error in of_batch.partial.failed.values()} <= {0, 1}
        assert not any(isinstance(o, OutcomeUnknownError) for o in of_batch.partial.outcomes)
        assert at.service.ledger.generations == 0


async def test_a_block_with_a_deadline_bounds_its_own_calls_alone() -> None:
    """Also where it is the first caller's, in whose window the others come."""
    async with bench(ScriptedService(job_seconds=5), inputs_of(3), coalesce=WINDOW) as at:

        async def bounded() -> Any:
            async with at.client.deadline(1.0):
                return await single(at, 0)

        first, *others = await ended(bounded(), single(at, 1), single(at, 2))

        assert isinstance(first, OutcomeUnknownError)
        assert all(own_row(at, index + 1, other) for index, other in enumerate(others))


REQUEST = ContextVar[str | None]("REQUEST", default=None)


async def test_what_one_caller_has_set_is_not_set_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is done for all is done in nobody's context: whose would it be in a log or a trace?"""
    seen: list[str | None] = []

    class Watch(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if "again in" in record.getMessage():
                seen.append(REQUEST.get())
            return True

    busy = Fault("503", on=BATCHES, times=1)
    async with bench(ScriptedService(faults=[busy]), inputs_of(COUNT), coalesce=WINDOW) as at:
        caplog.set_level(logging.DEBUG, "elluminate_async")
        caplog.handler.addFilter(Watch())
        REQUEST.set("of the first")
        outcomes = await outcomes_of(at)

        assert all(isinstance(outcome, PromptResponse) for outcome in outcomes)
        assert seen == [None]


async def test_who_left_while_the_chunk_waited_for_its_turn_is_not_in_it() -> None:
    """By a deadline or cancelled, also between a refusal and the next sending: never sent."""
    busy = Fault("429-retry-after", on=BATCHES, times=2)
    async with bench(ScriptedService(faults=[busy]), inputs_of(COUNT), coalesce=WINDOW) as at:
        hasty = at.client.options.replace(deadline=0.5)
        calls = [single(at, i, options=hasty if i == 3 else None) for i in range(COUNT)]
        await asyncio.sleep(1.2)
        calls[7].cancel()
        outcomes = await ended(*calls)

        assert busy.fired == 2
        assert isinstance(outcomes[7], asyncio.CancelledError)
        assert type(outcomes[3]) is DeadlineError
        assert not outcomes[3].ambiguous
        assert outcomes[3].retry_after == pytest.approx(0.5, abs=0.3)
        left = [index for index in range(COUNT) if index not in (3, 7)]
        assert all(own_row(at, index, outcomes[index]) for index in left)
        made = at.service.ledger.generated
        assert made == {nonce_of(at.inputs[index]): 1 for index in left}


async def test_who_left_is_in_neither_half_of_a_refused_chunk() -> None:
    """A chunk that is refused as a whole goes in halves, with those who still wait."""
    refused = Fault(refuse(422), on=BATCHES, times=1)
    busy = Fault("429-retry-after", on=BATCHES, times=1)
    service = ScriptedService(faults=[refused, busy])
    async with bench(service, inputs_of(COUNT), coalesce=WINDOW) as at:
        hasty = at.client.options.replace(deadline=0.5)
        outcomes = await ended(
            *(single(at, i, options=hasty if i == 3 else None) for i in range(COUNT))
        )

        assert (refused.fired, busy.fired) == (1, 1)
        assert type(outcomes.pop(3)) is DeadlineError
        assert all(isinstance(outcome, PromptResponse) for outcome in outcomes)
        assert service.ledger.generated == {
            nonce_of(at.inputs[i]): 1 for i in range(COUNT) if i != 3
        }


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_each_has_its_own_row_or_its_own_error(seed: int) -> None:
    """With random arrivals, cancellations, deadlines and faults; and no row is made twice."""
    chance = random.Random(seed)
    kinds = [kind for kind in KINDS if kind not in ("hang", "hang-processed")]
    service = ScriptedService(
        job_seconds=0.05, faults=[FaultPlan(share=0.15, seed=seed, kinds=kinds)]
    )
    options = BatchOptions(chunk_size=8, max_concurrency=3, deadline=400, settle=0.3)
    inputs = inputs_of(60)
    async with bench(service, inputs, options, coalesce=WINDOW) as at:
        index, calls = 0, list[tuple[list[int], asyncio.Task[Any]]]()
        while index < len(inputs):
            await asyncio.sleep(chance.choice([0, 0, 0, WINDOW / 4, WINDOW * 2]))
            few = chance.choice([1, 1, 1, 1, 3, 9])
            own = list(range(index, min(index + few, len(inputs))))
            index += few
            hasty = options.replace(deadline=chance.choice([0.06, 400.0, 400.0]))
            if len(own) > 1:
                many = at.client.responses.generate_many(
                    template_variables=[at.variables[i] for i in own],
                    experiment=at.experiment,
                    options=hasty,
                )
                calls.append((own, asyncio.ensure_future(many)))
            else:
                calls.append((own, single(at, own[0], options=hasty)))
            if chance.random() < 0.2:
                loop = asyncio.get_running_loop()
                loop.call_later(chance.uniform(0, 0.1), calls[-1][1].cancel)
        ends = await ended(*(call for _, call in calls))

        told = Counter[str]()
        for (own, _), outcome in zip(calls, ends, strict=True):
            if isinstance(outcome, asyncio.CancelledError):
                told["cancelled"] += 1
                continue
            outcomes = [outcome] if len(own) == 1 else outcome.outcomes
            for place, (i, one) in enumerate(zip(own, outcomes, strict=True)):
                if isinstance(one, PromptResponse):
                    assert own_row(at, i, one)
                    told["rows"] += 1
                else:
                    assert isinstance(one, ElluminateError)
                    assert getattr(one, "position", place) == place
                    told[type(one).__name__] += 1
                    if not isinstance(one, OutcomeUnknownError) and isinstance(one, ItemError):
                        _check_known(at, i, one)
        assert told["rows"] > 5
        assert max(service.ledger.generated.values()) == 1
        assert max(service.ledger.by_key.values()) == 1
        # One whose job could not be cancelled keeps its permit for 60 s at most.
        await asyncio.sleep(70)
        assert at.client._connection.limits.free_chunks == options.max_concurrency


def _check_known(at: Bench, index: int, error: ItemError) -> None:
    """What is told to have failed has no row that is good; a job that failed may have made it."""
    if error.code not in ("job_failed", "no_result", "generation_failed"):
        assert at.service.ledger.generated[nonce_of(at.inputs[index])] == 0, error


def test_errors_of_the_service_are_not_shared() -> None:
    """A copy has all that the error says, and none of its frames."""
    from elluminate_async.operations.caller import twin_of

    error = ServerError("out", status=503, method="POST", path="/x", retry_after=2.0)
    try:
        raise error
    except ServerError:
        twin = twin_of(error)
    assert (type(twin), str(twin), twin.retry_after) == (ServerError, str(error), 2.0)
    assert twin.__traceback__ is None
    assert error.__traceback__ is not None


async def test_an_error_that_cannot_be_made_again_is_given_as_it_is() -> None:
    """Of another package, with arguments that its copy is made without."""

    class OddError(Exception):
        def __init__(self, *, reason: str) -> None:
            super().__init__()
            self.reason = reason

        def __reduce__(self) -> str:
            raise TypeError(self.reason)

    odd, plain = OddError(reason="not again"), ValueError("plain")
    assert twin_of(odd) is odd
    assert twin_of(plain) is not plain
    assert twin_of(plain).args == plain.args
