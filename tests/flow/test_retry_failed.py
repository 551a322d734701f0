"""`Batch.retry_failed`: only what failed is sent once more, and its outcomes take their places."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator, Callable

import pytest

from elluminate_async import (
    BatchOptions,
    ClientClosedError,
    InputError,
    ItemError,
    OutcomeUnknownError,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Stage, until
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(20)]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=2, settle=0.3)
PROFILES = [None, WireProfile.hosted(page_size=7, listing_seed=3)]


@pytest.fixture(params=PROFILES, ids=["keys", "hosted"])
async def service(request: pytest.FixtureRequest, staging: Staging) -> AsyncGenerator[Stage]:
    """A stage on either kind of service."""
    async with staging(request.param, OPTIONS) as stage:
        yield stage


def fails(*values: str) -> Callable[[str], bool]:
    prompts = {f"say {value}" for value in values}
    return prompts.__contains__


async def test_only_what_failed_is_sent(service: Stage) -> None:
    """The values that had come stay as they are; the others are made, once more each."""
    service.model.failing = fails("v2", "v11", "v19")
    batch = await service.generate(VALUES)
    before = dict(batch.succeeded)
    service.model.failing = fails("v11")

    returned = await batch.retry_failed()

    assert returned is batch
    assert list(batch.failed) == [11]
    assert all(batch[position] is value for position, value in before.items())
    assert [batch[p].response_str for p in (2, 19)] == ["echo say v2", "echo say v19"]
    made = service.model.answered
    assert {made[f"say {value}"] for value in VALUES} == {1, 2}
    assert sum(made.values()) == 23
    service.model.failing = fails()
    assert not (await batch.retry_failed()).failed


async def test_a_batch_that_went_well_sends_nothing(service: Stage) -> None:
    """No request is made for it."""
    batch = await service.generate(VALUES)
    service.recorder.requests.clear()

    await batch.retry_failed()

    assert service.recorder.requests == []


async def test_what_a_retry_leaves_is_logged(
    staging: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    """How many, and why: the unknown, and what failed upstream; info where it was asked for."""
    async with staging(PROFILES[1], OPTIONS) as stage:
        stage.recorder.before = Once(503)
        batch = await stage.generate(VALUES)
        ratings = await stage.client.ratings.rate_many(batch)
        caplog.clear()
        caplog.set_level("INFO", "elluminate_async")
        stage.recorder.requests.clear()

        await batch.retry_failed()
        await ratings.retry_failed()
        await batch.retry_failed(include_unknown=False)
        assert stage.recorder.requests == []

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "generate: the retry leaves 5 of 5 failed items as they are: 5 with an unknown outcome "
            "that nothing tells without the risk to pay twice; include_unknown=True sends them "
            "anew",
        ),
        (
            "WARNING",
            "rate: the retry leaves 5 of 5 failed items as they are: 5 that failed upstream and "
            "have nothing to send",
        ),
        (
            "WARNING",
            "generate: the retry leaves 5 of 5 failed items as they are: 5 with an unknown outcome,"
            " as include_unknown is False",
        ),
    ]


async def test_a_retry_that_leaves_nothing_logs_nothing(
    service: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """All that failed was sent."""
    service.model.failing = fails("v2", "v11")
    batch = await service.generate([*VALUES, "v2"])
    service.model.failing = fails()
    caplog.clear()

    assert not (await batch.retry_failed()).failed

    assert caplog.records == []


async def test_what_is_unknown_is_sent_only_when_asked_for(staging: Staging) -> None:
    """Sending it could pay for it twice, so that takes a word."""
    async with staging(PROFILES[1], OPTIONS) as stage:
        stage.recorder.before = Once(503)
        batch = await stage.generate(VALUES)
        unknown = list(batch.failed)

        await batch.retry_failed()
        assert list(batch.failed) == unknown
        assert all(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())

        await batch.retry_failed(include_unknown=True)
        assert [row.response_str for row in batch] == [f"echo say {v}" for v in VALUES]


async def test_failures_from_upstream_stay(service: Stage) -> None:
    """There is nothing to rate at their positions; each response is rated once."""
    service.model.failing = fails("v4")
    responses = await service.generate(VALUES)
    service.model.judge_failing = lambda prompt: "v7" in prompt
    ratings = await service.client.ratings.rate_many([*responses.outcomes[:10], responses[7]])
    assert list(ratings.failed) == [4, 7, 10]
    service.model.judge_failing = lambda prompt: False

    # A hosted service does not say why there is no rating, so it could be a late one.
    await ratings.retry_failed(include_unknown=True)

    assert list(ratings.failed) == [4]
    assert ratings.failed[4] is responses.failed[4]
    assert ratings[7] == ratings[10]
    assert len(ratings[7]) == 3


async def test_a_retry_that_is_cancelled_keeps_what_came(service: Stage) -> None:
    """What had arrived is in the batch, what was in flight is unknown; it can go on."""
    service.model.failing = fails(*VALUES)
    batch = await service.generate(VALUES)
    service.model.failing = fails()
    service.model.slow = lambda prompt: 30.0 if prompt == "say v19" else 0.0
    service.recorder.requests.clear()

    retry = asyncio.create_task(batch.retry_failed(options=OPTIONS.replace(max_concurrency=1)))
    await until(lambda: service.model.answered["say v19"] == 2)
    with pytest.raises(InputError, match="being retried"):
        await batch.retry_failed()
    retry.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retry

    assert list(batch.succeeded) == list(range(15))
    assert {type(error) for error in batch.failed.values()} == {OutcomeUnknownError}
    await batch.retry_failed()


async def test_a_batch_that_no_call_returned_cannot_be_retried(service: Stage) -> None:
    """One that was unpickled or cut has no inputs: the error says what to do."""
    service.model.failing = fails("v1")
    batch = await service.generate(VALUES[:5])

    for copy in (pickle.loads(pickle.dumps(batch)), batch[:3]):
        with pytest.raises(InputError, match="call the method again"):
            await copy.retry_failed()


async def test_a_closed_client_retries_nothing(service: Stage) -> None:
    """The batch stays as it was."""
    service.model.failing = fails("v1")
    batch = await service.generate(VALUES[:5])
    await service.client.close()

    with pytest.raises(ClientClosedError):
        await batch.retry_failed()

    assert list(batch.failed) == [1]
    assert isinstance(batch.outcomes[1], ItemError)


async def test_items_of_a_generator_are_kept_where_they_failed(service: Stage) -> None:
    """The input can be read only once, so the batch has what it needs of it."""
    rows = await service.variables(VALUES)
    service.model.failing = fails("v3", "v17")
    batch = await service.client.responses.generate_many(
        template_variables=(row for row in rows), experiment=service.experiment
    )
    service.model.failing = fails()

    await batch.retry_failed()

    assert [row.response_str for row in batch] == [f"echo say {v}" for v in VALUES]
