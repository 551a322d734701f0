"""Holes that a review found: each stays shut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import cast

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ClientClosedError,
    DeadlineError,
    ElluminateError,
    InputError,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    RateLimit,
    RatingValue,
    TemplateVariables,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, answer
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


HOSTED = WireProfile.hosted(page_size=7, listing_seed=2)
VALUES = [f"v{i}" for i in range(10)]


class Outage:
    """Answers 503 to what matches, for so long."""

    def __init__(self, part: str, seconds: float) -> None:
        self.part = part
        self.until = time.monotonic() + seconds
        self.fired = 0

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if self.part not in seen.path or time.monotonic() > self.until:
            return False
        self.fired += 1
        await answer(send, 503)
        return True


async def test_an_outage_while_a_job_is_followed_costs_nothing(stage: Stage) -> None:
    """Accepted is paid for: a second without status answers is waited out, not given up."""
    variables = await stage.variables(VALUES)
    stage.recorder.before = outage = Outage("/responses/batches/", 1.0)

    responses = await stage.client.responses.generate_many(
        template_variables=variables, experiment=stage.experiment
    )

    assert outage.fired >= 2
    assert not responses.failed


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


async def test_same_inputs_at_once_on_one_experiment_do_not_swap(hosted: Stage) -> None:
    """Two batches over the same rows of one experiment get different rows, each its own."""
    variables = await hosted.variables(VALUES)
    batches: list[Batch[PromptResponse]] = []

    async def run() -> None:
        batches.append(
            await hosted.client.responses.generate_many(
                template_variables=variables, experiment=hosted.experiment
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)

    ids = [{response.id for response in batch} for batch in batches]
    assert ids[0].isdisjoint(ids[1])
    assert [len(found) for found in ids] == [10, 10]


async def test_late_rows_of_an_earlier_call_are_not_taken(staging: Staging) -> None:
    """A call that ran out of time leaves rows that come later; the same call again has its own."""
    async with staging(HOSTED, BatchOptions(chunk_size=10, settle=0.3)) as stage:
        variables = await stage.variables(VALUES)
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
        variables = await stage.variables(VALUES)
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


async def test_an_async_input_cut_by_the_deadline_is_no_full_success(stage: Stage) -> None:
    """What was not read is not known to be missing, so the deadline is raised, with the rest."""
    (row,) = await stage.variables(["a"])

    async def stalls() -> AsyncIterator[TemplateVariables]:
        for _ in range(10):
            yield row
        await anyio.sleep(60)

    with pytest.raises(DeadlineError) as caught:
        await stage.client.responses.generate_many(
            template_variables=stalls(),
            experiment=stage.experiment,
            options=stage.client.options.replace(deadline=1.0),
        )

    assert len(caught.value.partial.succeeded) == 10


async def test_an_input_that_is_cancelled_from_within_is_no_end(stage: Stage) -> None:
    """A source that awaits a cancelled task fails; it does not look complete."""
    (row,) = await stage.variables(["a"])

    async def broken() -> AsyncIterator[TemplateVariables]:
        yield row
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    with pytest.raises(InputError, match="cancelled from within"):
        await stage.client.responses.generate_many(
            template_variables=broken(), experiment=stage.experiment
        )


async def test_what_an_input_raises_has_what_arrived(staging: Staging) -> None:
    """The caller's own exception comes out unchanged, with the paid part attached."""
    async with staging(options=BatchOptions(chunk_size=5, max_concurrency=1)) as stage:
        (row,) = await stage.variables(["a"])

        def breaks() -> Iterator[TemplateVariables]:
            for _ in range(12):
                yield row
            raise OSError("the disk")

        with pytest.raises(OSError, match="the disk") as caught:
            await stage.client.responses.generate_many(
                template_variables=breaks(), experiment=stage.experiment
            )

    partial = cast("Batch[PromptResponse]", vars(caught.value)["partial"])
    assert len(partial) == 12
    assert len(partial.succeeded) >= 5


async def test_a_client_closed_under_a_stream_says_so(stage: Stage) -> None:
    """Its consumer gets `ClientClosedError`; nobody cancelled the consumer."""
    variables = await stage.variables([f"v{i}" for i in range(50)])
    first = {f"say v{i}" for i in range(10)}
    stage.model.slow = lambda prompt: 0.0 if prompt in first else 60.0
    stream = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )
    await anext(stream)
    await stage.client.close()

    with pytest.raises(ClientClosedError):
        async for _ in stream:
            pass


async def test_no_request_leaves_after_close(stage: Stage) -> None:
    """Requests that wait for the rate limit when the client is closed are not sent."""
    options = BatchOptions(rate_limit=RateLimit(1, 0.3))
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key, options=options)
    calls = [asyncio.ensure_future(client.projects.list()) for _ in range(5)]
    await anyio.sleep(0.4)
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(result, ClientClosedError) for result in results) >= 3


async def test_a_value_repeated_across_uploads_keeps_its_row(staging: Staging) -> None:
    """A value of an earlier upload of the same call gives that one row again."""
    async with staging() as stage:
        await stage.variables(["v0"])
        values = [f"v{i}" for i in range(2100)] + ["v1500"]
        rows = await stage.variables(values)

    assert rows[2100].id == rows[1500].id


async def test_a_row_made_by_the_model_is_made_once(stage: Stage) -> None:
    """`template_variables.generate` is repeated by key, and the server answers from its store."""
    stage.recorder.lose = "/entries"

    await stage.client.template_variables.generate(
        collection=stage.collection, prompt_template=stage.template
    )

    assert stage.recorder.lose is None
    assert stage.recorder.count("/entries$", "POST") == 2
    assert len(await stage.client.template_variables.list(stage.collection)) == 1


@pytest.mark.parametrize("what", ["generate", "add", "rate"])
async def test_a_single_call_is_repeated_by_key_and_done_once(stage: Stage, what: str) -> None:
    """Each single POST that is sent under a key is one that the server does once."""
    (row,) = await stage.variables(["a"])
    responses = stage.client.responses
    made = await responses.generate(template_variables=row, experiment=stage.experiment)
    stage.recorder.lose = {"generate": "/generate", "add": "/responses", "rate": "/ratings"}[what]
    if what == "generate":
        await responses.generate(template_variables=row, experiment=stage.experiment)
    elif what == "add":
        await responses.add("b", template_variables=row, experiment=stage.experiment)
    else:
        await stage.client.ratings.rate(made)

    assert stage.recorder.lose is None
    assert len(await responses.list(experiment=stage.experiment)) == (1 if what == "rate" else 2)
    assert len(await stage.client.ratings.list(made)) == (3 if what == "rate" else 0)


async def test_the_deadline_bounds_the_start_up_too(stage: Stage) -> None:
    """A service that does not answer the first exchanges: the call still ends at its deadline."""

    async def hang(seen: Seen, send: Send) -> bool:
        if "compatible" in seen.path:
            await anyio.sleep(8)
        return False

    stage.recorder.before = hang
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key)
    started = time.monotonic()
    batch = await client.responses.generate_many(
        template_variables=[1, 2],
        experiment=stage.experiment.id,
        options=BatchOptions(deadline=0.5),
    )
    seconds = time.monotonic() - started
    await client.close()

    assert seconds < 2.5
    assert {error.code for error in batch.failed.values()} == {"deadline"}
    assert {error.attempts for error in batch.failed.values()} == {0}


async def test_verdicts_are_members_of_their_enum(stage: Stage) -> None:
    """`rating.rating is RatingValue.YES` can be true."""
    ratings = await stage.client.ratings.rate_many(await stage.generate(["a", "b"]))

    assert {type(rating.rating) for found in ratings for rating in found} == {RatingValue}


async def test_breaking_off_after_the_last_outcome_is_clean(stage: Stage) -> None:
    """`break` at the last item leaves no unclosed buffer (warnings are errors)."""
    variables = await stage.variables(["a"])
    async for _ in stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    ):
        await anyio.sleep(0.05)
        break
    async for _ in stage.client.collections.list():
        await anyio.sleep(0.05)
        break


async def test_a_peeked_stream_can_still_be_rated(stage: Stage) -> None:
    """What was taken from the stream before is a position of its own, not an assertion."""
    variables = await stage.variables(VALUES)
    stream = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )
    position, _ = await anext(stream)

    ratings = await stage.client.ratings.rate_many(stream)

    assert len(ratings) == 10
    assert list(ratings.failed) == [position]
    assert isinstance(ratings.failed[position], ItemError)


async def test_a_listing_that_is_refused_after_rating_does_not_rate_again(
    hosted: Stage,
) -> None:
    """404 for the criteria's listing: the ratings that were paid for count, and are paid once."""
    responses = await hosted.generate(VALUES)
    hosted.recorder.requests.clear()

    async def refuse(seen: Seen, send: Send) -> bool:
        if seen.path.endswith("/criteria"):
            await answer(send, 404)
            return True
        return False

    hosted.recorder.before = refuse
    ratings = await hosted.client.ratings.rate_many(responses)

    assert not ratings.failed
    assert hosted.recorder.count("ratings/batches$", "POST") == 1


@pytest.mark.parametrize("profile", [WireProfile(), HOSTED])
async def test_closing_the_client_leaves_accepted_work_unknown(
    staging: Staging, profile: WireProfile
) -> None:
    """A batch whose client is closed: what was accepted is unknown, not failed."""
    async with staging(profile, BatchOptions(chunk_size=5)) as stage:
        variables = await stage.variables(VALUES[:5])
        stage.model.delay = 5
        task = asyncio.create_task(
            stage.client.responses.generate_many(
                template_variables=variables, experiment=stage.experiment
            )
        )
        with anyio.fail_after(5):
            while not stage.model.answered:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await stage.client.close()
        with pytest.raises(ElluminateError) as caught:
            await task

    assert all(isinstance(e, OutcomeUnknownError) for e in caught.value.partial.failed.values())


async def test_a_list_that_grows_while_it_runs_changes_nothing(stage: Stage) -> None:
    """The caller's list is copied: the batch is of what it held at the call."""
    variables = await stage.variables(VALUES)
    stage.model.delay = 0.05
    task = asyncio.create_task(
        stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
    )
    await anyio.sleep(0.02)
    variables.append(variables[0])

    assert len(await task) == 10


async def test_a_length_that_is_an_estimate_is_not_believed(stage: Stage) -> None:
    """Something with a wrong `len`, such as a progress bar with a total, is read to its end."""

    class Bar:
        def __init__(self, rows: list[TemplateVariables]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[TemplateVariables]:
            return iter(self.rows)

    responses = await stage.client.responses.generate_many(
        template_variables=Bar(await stage.variables(VALUES)), experiment=stage.experiment
    )

    assert len(responses.succeeded) == 10


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
