"""Without idempotency keys: what became of a sending is read off the service's own rows."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    Batch,
    BatchOptions,
    OutcomeUnknownError,
    PromptResponse,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Outage, Seen, Stage, answer, is_batch
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


HOSTED = WireProfile.hosted(page_size=7, listing_seed=2)
VALUES = [f"v{i}" for i in range(15)]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=1, settle=0.4)


@pytest.fixture
async def settling(staging: Staging) -> AsyncGenerator[Stage]:
    """A service without keys or results, with a short settling time."""
    async with staging(WireProfile.hosted(page_size=7, listing_seed=3), OPTIONS) as stage:
        yield stage


def echoes(values: list[str]) -> list[str]:
    return [f"echo say {value}" for value in values]


async def test_rows_of_a_lost_answer_are_found_and_nothing_is_sent_again(settling: Stage) -> None:
    """The answer to a POST was lost after it was applied: its rows settle it, paid for once."""
    settling.recorder.after = fault = Once(502)

    responses = await settling.generate(VALUES)

    assert fault.fired == 1
    assert [r.response_str for r in responses] == echoes(VALUES)
    assert settling.recorder.count("responses/batches$", "POST") == 3
    assert set(settling.model.answered.values()) == {1}
    assert responses.surplus == ()


async def test_what_has_no_row_after_settling_is_unknown(settling: Stage) -> None:
    """A POST that was never applied: absence proves nothing, so it is not sent again."""
    settling.recorder.before = Once(503)

    responses = await settling.generate(VALUES)

    assert sorted(responses.failed) == list(range(5))
    assert all(isinstance(e, OutcomeUnknownError) for e in responses.failed.values())
    assert settling.recorder.count("responses/batches$", "POST") == 3


async def test_rows_that_come_late_are_taken_by_a_last_look(settling: Stage) -> None:
    """Rows slower than the settling time: unknown at first, found when all chunks are done."""
    settling.model.slow = lambda prompt: 0.9 if prompt in map("say {}".format, VALUES[:5]) else 0.3
    settling.recorder.after = Once(502)

    responses = await settling.generate(VALUES)

    assert [r.response_str for r in responses] == echoes(VALUES)
    assert set(settling.model.answered.values()) == {1}


async def test_a_replay_after_settling_sends_only_what_has_no_row(staging: Staging) -> None:
    """Opted in: what has no row after settling is sent again, the rest is not."""
    options = OPTIONS.replace(replay_after_settle=True)
    async with staging(WireProfile.hosted(page_size=7), options) as stage:
        stage.recorder.before = Once(503)

        responses = await stage.generate(VALUES)

        assert [r.response_str for r in responses] == echoes(VALUES)
        assert stage.recorder.count("responses/batches$", "POST") == 4
        assert set(stage.model.answered.values()) == {1}
        assert responses.surplus == ()


async def test_a_replay_that_came_too_early_is_reported(staging: Staging) -> None:
    """Rows slower than the settling time and a replay: paid twice, reported, none misplaced."""
    options = OPTIONS.replace(replay_after_settle=True, settle=0.2)
    async with staging(WireProfile.hosted(), options) as stage:
        first = True

        def slow(prompt: str) -> float:
            return 0.8 if first and prompt in map("say {}".format, VALUES[:5]) else 0.4

        stage.model.slow = slow
        stage.recorder.after = fault = Once(502)

        responses = await stage.generate(VALUES)

        assert fault.fired == 1
        assert [r.response_str for r in responses] == echoes(VALUES)
        assert len(responses.surplus) == 5
        assert {r.id for r in responses}.isdisjoint(responses.surplus)


async def test_a_job_that_the_service_forgot_is_settled_by_its_rows(settling: Stage) -> None:
    """404 for a job that was accepted: the rows it made count."""

    async def forget(seen: Seen, send: Send) -> bool:
        if "/responses/batches/" in seen.path:
            await answer(send, 404)
            return True
        return False

    settling.recorder.before = forget

    responses = await settling.generate(VALUES)

    assert [r.response_str for r in responses] == echoes(VALUES)
    assert settling.recorder.count("responses/batches$", "POST") == 3


async def test_an_answer_that_cannot_be_read_is_settled_too(settling: Stage) -> None:
    """A 2xx without a readable job id: accepted, so never posted again; its rows are found."""

    async def garble(seen: Seen, send: Send) -> bool:
        if is_batch(seen):
            await answer(send, 202, b'{"unexpected": true}')
            return True
        return False

    settling.recorder.after = garble

    responses = await settling.generate(VALUES)

    assert [r.response_str for r in responses] == echoes(VALUES)
    assert settling.recorder.count("responses/batches$", "POST") == 3
    assert set(settling.model.answered.values()) == {1}


async def test_ratings_of_a_lost_answer_are_found_and_paid_for_once(settling: Stage) -> None:
    """The answer to a rating POST was lost: its new ratings settle it; old ones do not count."""
    responses = await settling.generate(VALUES)
    old = await settling.client.ratings.rate_many(responses)
    settling.recorder.requests.clear()
    settling.recorder.after = fault = Once(502, noun="ratings")

    ratings = await settling.client.ratings.rate_many(responses)

    assert fault.fired == 1
    assert not ratings.failed
    assert settling.recorder.count("ratings/batches$", "POST") == 3
    before = {rating.id for found in old for rating in found}
    assert all(len(found) == 3 for found in ratings)
    assert before.isdisjoint({rating.id for found in ratings for rating in found})


async def test_responses_without_new_ratings_are_unknown_after_settling(settling: Stage) -> None:
    """A rating POST that was never applied ends as unknown, and is not sent again."""
    responses = await settling.generate(VALUES)
    settling.recorder.before = Once(503, noun="ratings")

    ratings = await settling.client.ratings.rate_many(responses)

    assert sorted(ratings.failed) == list(range(5))
    assert all(isinstance(e, OutcomeUnknownError) for e in ratings.failed.values())
    assert {e.operation for e in ratings.failed.values()} == {"rate"}
    assert settling.recorder.count("ratings/batches$", "POST") == 3


async def test_a_listing_that_fails_after_the_job_is_tried_again(hosted: Stage) -> None:
    """The rows are there; that the listing could not be read for a while loses none."""
    variables = await hosted.variables(VALUES)
    seen_job = False

    async def spoil(seen: Seen, send: Send) -> bool:
        nonlocal seen_job
        if seen.path.endswith("/stream"):
            seen_job = True
            hosted.recorder.before = Outage("/responses", 0.3)
        return False

    hosted.recorder.before = spoil
    responses = await hosted.client.responses.generate_many(
        template_variables=variables,
        experiment=hosted.experiment,
        options=hosted.client.options.replace(settle=5.0),
    )

    assert seen_job
    assert not responses.failed


async def test_late_rows_of_an_earlier_call_are_not_taken(staging: Staging) -> None:
    """A call that ran out of time leaves rows that come later; the same call again has its own."""
    async with staging(HOSTED, BatchOptions(chunk_size=10, settle=0.3)) as stage:
        variables = await stage.variables(VALUES[:10])
        stage.model.slow = lambda prompt: 1.0
        first = await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=stage.client.options.replace(deadline=0.4),
        )
        second = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
        rows = await stage.client.responses.list(experiment=stage.experiment)

    assert all(isinstance(e, OutcomeUnknownError) for e in first.failed.values())
    assert len(rows) == 20
    assert sorted(r.id for r in second) == sorted(row.id for row in rows)[10:]


async def test_a_last_look_that_fails_loses_nothing(staging: Staging) -> None:
    """The deadline passes during settling: what had arrived is in the batch, not thrown away."""
    options = BatchOptions(chunk_size=5, max_concurrency=1, deadline=1.0)
    async with staging(HOSTED, options) as stage:
        variables = await stage.variables(VALUES[:10])
        posts = 0

        async def second(seen: Seen, send: Send) -> bool:
            nonlocal posts
            posts += seen.method == "POST" and seen.path.endswith("/batches")
            if posts == 2 and seen.method == "POST":
                await answer(send, 502)
                return True
            return False

        stage.recorder.before = second
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )

    assert sorted(responses.succeeded) == list(range(5))
    assert all(isinstance(e, OutcomeUnknownError) for e in responses.failed.values())


async def test_a_row_stored_meanwhile_is_not_taken_for_a_generated_one(hosted: Stage) -> None:
    """`add` while `generate_many` runs on the same variables: the batch has its own row."""
    (row,) = await hosted.variables(["a"])
    hosted.model.delay = 0.3
    batch: list[Batch[PromptResponse]] = []

    async def generate() -> None:
        batch.append(
            await hosted.client.responses.generate_many(
                template_variables=[row], experiment=hosted.experiment
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generate)
        await anyio.sleep(0.15)
        await hosted.client.responses.add(
            "written by a human", template_variables=row, experiment=hosted.experiment
        )

    assert batch[0][0].response_str == "echo say a"
    assert len(await hosted.client.responses.list(experiment=hosted.experiment)) == 2


async def test_one_calls_deadline_bounds_its_wait_for_another(hosted: Stage) -> None:
    """While another call hangs in the listing, a short one still ends at its own deadline."""
    variables = await hosted.variables(VALUES)

    async def hang(seen: Seen, send: Send) -> bool:
        if seen.method == "GET" and seen.path.endswith("/responses"):
            await anyio.sleep(6)
        return False

    hosted.recorder.before = hang
    generate_many = hosted.client.responses.generate_many
    batch: Batch[PromptResponse] = Batch([])
    started = seconds = 0.0
    async with anyio.create_task_group() as tasks:

        async def long() -> None:
            await generate_many(template_variables=variables, experiment=hosted.experiment)

        tasks.start_soon(long)
        await anyio.sleep(0.1)
        started = time.monotonic()
        batch = await generate_many(
            template_variables=variables,
            experiment=hosted.experiment,
            options=hosted.client.options.replace(deadline=0.5),
        )
        seconds = time.monotonic() - started
        tasks.cancel_scope.cancel()

    assert seconds < 2.5
    assert {error.code for error in batch.failed.values()} == {"deadline"}
