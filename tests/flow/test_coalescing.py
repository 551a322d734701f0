"""Single calls and small batches that come together, as the items of one chunk."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ConfigurationError,
    DeadlineError,
    GenerationError,
    NotFoundError,
    OutcomeUnknownError,
    Progress,
    PromptResponse,
    RatingError,
    RatingMode,
)
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.operations.caller import Caller
from elluminate_async.operations.jobs import outlived_the_call
from elluminate_async.operations.shared_call import SharedCall
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.faults.rewriting import rewrite
from tests.flow.bench import Seen, Stage, nothing_left, until
from tests.flow.conftest import Staging

WINDOW = 0.05
VALUES = [f"v{i}" for i in range(20)]
HOSTED = WireProfile.hosted(page_size=50)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def each(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """What each gives or raises, in their order."""
    return await asyncio.gather(*calls, return_exceptions=True)


def single(stage: Stage, row: Any, **arguments: Any) -> Awaitable[PromptResponse]:
    return stage.client.responses.generate(
        template_variables=row, experiment=stage.experiment, **arguments
    )


def many(stage: Stage, rows: Sequence[Any], **arguments: Any) -> Awaitable[Batch[PromptResponse]]:
    return stage.client.responses.generate_many(
        template_variables=rows, experiment=stage.experiment, **arguments
    )


def texts(responses: Iterable[PromptResponse]) -> list[str]:
    return [response.response_str for response in responses]


def posts(stage: Stage, noun: str = "responses") -> list[str]:
    """The last parts of what was posted for responses, or for ratings."""
    seen = (s for s in stage.recorder.requests if s.method == "POST" and f"/{noun}" in s.path)
    return [request.path.rsplit("/", 1)[1] for request in seen]


async def all_ended(stage: Stage) -> None:
    """Return when no task of the client is left; fail where anything else is."""
    await until(lambda: not stage.client._connection.tasks)
    await nothing_left(stage)


async def test_a_hundred_calls_at_once_are_two_requests(staging: Staging) -> None:
    """One chunk and its job's stream, and to each call its own answer."""
    async with staging(coalesce=WINDOW) as stage:
        values = [f"v{i}" for i in range(100)]
        rows = await stage.variables(values)
        stage.recorder.requests.clear()
        responses = await each([single(stage, row) for row in rows])

        assert texts(responses) == [f"echo say {value}" for value in values]
        assert len(stage.recorder.requests) == 2
        await all_ended(stage)


async def test_without_it_each_call_is_a_request_of_its_own(staging: Staging) -> None:
    """As ever: so many calls, so many requests."""
    async with staging() as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.requests.clear()
        await each([single(stage, row) for row in rows])

        assert posts(stage) == ["generate"] * len(VALUES)
        assert len(stage.recorder.requests) == len(VALUES)


async def test_a_call_to_which_nobody_comes_goes_by_itself(staging: Staging) -> None:
    """After its wait it is the one request that it is without."""
    async with staging(coalesce=WINDOW) as stage:
        (row,) = await stage.variables(["a"])
        stage.recorder.requests.clear()
        response = await single(stage, row)
        ratings = await stage.client.ratings.rate(response)

        assert response.response_str == "echo say a"
        assert len(ratings) == 3
        assert [*posts(stage), *posts(stage, "ratings")] == ["generate", "ratings"]
        assert len(stage.recorder.requests) == 2


async def test_a_full_chunk_goes_at_once(staging: Staging) -> None:
    """Nothing is waited for where no more fits in."""
    async with staging(options=BatchOptions(chunk_size=10), coalesce=1_000.0) as stage:
        rows = await stage.variables(VALUES)
        with anyio.fail_after(500):
            await each([single(stage, row) for row in rows])

        assert posts(stage)[-2:] == ["batches"] * 2


async def test_answers_in_another_order_reach_their_callers(staging: Staging) -> None:
    """A job's result that is not in the order of its request is told by what its rows echo."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)

        def reverse(seen: Seen, document: Any) -> Any:
            if "batches/" in seen.path and document.get("result"):
                document["result"].reverse()
            return document

        rewrite(stage, reverse)
        # The calls of one row are as good as each other, so each gets one of its own.
        responses = await each([single(stage, row) for row in [*rows, rows[3], rows[3]]])

        wanted = [f"echo say {value}" for value in [*VALUES, "v3", "v3"]]
        assert texts(responses) == wanted
        assert len({response.id for response in responses}) == len(responses)


async def test_one_row_for_several_callers(staging: Staging) -> None:
    """Each has a response of its own; they are numbered as those of a batch."""
    async with staging(coalesce=WINDOW) as stage:
        (row,) = await stage.variables(["a"])
        first, second, both = await each(
            [single(stage, row), single(stage, row.id), many(stage, [row] * 2)]
        )

        responses = [first, second, *both]
        assert len({response.id for response in responses}) == 4
        assert sorted(response.epoch for response in responses) == [1, 2, 3, 4]
        assert stage.model.answered["say a"] == 4


@pytest.mark.parametrize("coalesce", [None, WINDOW])
async def test_an_item_that_is_refused_fails_its_caller_alone(
    staging: Staging, coalesce: float | None
) -> None:
    """By the very error that it has without; the others have their answers, each made once."""
    async with staging(coalesce=coalesce) as stage:
        rows = await stage.variables(VALUES)
        outcomes = await each([single(stage, row) for row in [*rows[:7], 10**6, *rows[7:]]])

        error = outcomes.pop(7)
        assert type(error) is NotFoundError
        assert error.status == 404
        assert texts(outcomes) == [f"echo say {value}" for value in VALUES]
        assert set(stage.model.answered.values()) == {1}


@pytest.mark.parametrize("coalesce", [None, WINDOW])
async def test_a_model_that_fails_fails_its_caller_alone(
    staging: Staging, coalesce: float | None
) -> None:
    """As without: the same class, at the position 0, with the row's id."""
    async with staging(coalesce=coalesce) as stage:
        rows = await stage.variables(VALUES)
        stage.model.failing = lambda prompt: prompt == "say v4"
        outcomes = await each([single(stage, row) for row in rows])

        error = outcomes.pop(4)
        assert type(error) is GenerationError
        assert (error.position, error.operation, error.code) == (0, "generate", "generation_failed")
        assert "no answer to say v4" in error.text
        assert all(isinstance(outcome, PromptResponse) for outcome in outcomes)


async def test_one_that_is_cancelled_ends_at_once_and_alone(staging: Staging) -> None:
    """The others have their answers, of the chunk that was sent for all."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        stage.model.delay = 10
        calls = [asyncio.ensure_future(single(stage, row)) for row in rows]
        await until(lambda: len(stage.model.answered) == len(VALUES))
        calls[3].cancel()
        with anyio.fail_after(1):
            await asyncio.wait([calls[3]])
        outcomes = await each(calls)

        assert isinstance(outcomes.pop(3), asyncio.CancelledError)
        assert all(isinstance(outcome, PromptResponse) for outcome in outcomes)
        assert posts(stage)[-1] == "batches"
        await all_ended(stage)
        assert stage.recorder.count("batches/", "DELETE") == 0


async def test_one_that_is_cancelled_before_it_is_sent_costs_nothing(staging: Staging) -> None:
    """While others are waited for: its row is in no request."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        calls = [asyncio.ensure_future(single(stage, row)) for row in rows]
        await asyncio.sleep(WINDOW / 2)
        calls[3].cancel()
        await each(calls)

        assert stage.model.answered == {f"say {v}": 1 for v in VALUES if v != "v3"}


@pytest.mark.parametrize("sent", [False, True])
async def test_when_all_are_gone_nothing_goes_on(staging: Staging, sent: bool) -> None:
    """While they wait for others, or in flight: no task, no request and no permit is left."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        stage.model.delay = 1_000
        stage.recorder.requests.clear()
        calls = [asyncio.ensure_future(single(stage, row)) for row in rows]
        if sent:
            await until(lambda: bool(stage.model.answered))
        else:
            await asyncio.sleep(WINDOW / 2)
        for call in calls:
            call.cancel()
        await each(calls)

        with anyio.fail_after(10):
            await all_ended(stage)
        assert posts(stage) == ["batches"] * sent
        # The job is cancelled too, which ends what the model is asked for.
        assert stage.recorder.count("batches/", "DELETE") == sent


async def test_a_deadline_is_that_of_its_caller(staging: Staging) -> None:
    """One that passes while the model works leaves an unknown outcome; the others wait on."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        stage.model.delay = 10
        hasty = stage.client.options.replace(deadline=2.0)
        outcomes = await each(
            [single(stage, row, options=hasty if row is rows[3] else None) for row in rows]
            + [many(stage, rows[:2], options=hasty)]
        )

        batch, error = outcomes.pop(), outcomes.pop(3)
        assert type(error) is OutcomeUnknownError
        assert error.cause == "DeadlineError"
        assert not error.retryable
        assert {(type(e), e.code, e.retryable) for e in batch.failed.values()} == {
            (OutcomeUnknownError, "deadline", True)
        }
        (text,) = {error.text for error in batch.failed.values()}
        job = text.split("the job ")[1].split()[0]
        assert text == outlived_the_call(job, "generate").text
        assert all(isinstance(outcome, PromptResponse) for outcome in outcomes)
        stage.model.delay = 0
        await batch.retry_failed()
        assert texts(batch) == ["echo say v0", "echo say v1"]
        assert stage.model.answered["say v0"] == 2


async def test_a_deadline_that_passes_before_anything_was_sent(staging: Staging) -> None:
    """Then nothing is unknown, and nothing is sent for it."""
    async with staging(coalesce=5.0) as stage:
        rows = await stage.variables(VALUES)
        hasty = stage.client.options.replace(deadline=1.0)
        first, second, batch, *others = await each(
            [single(stage, rows[0], options=hasty), single(stage, rows[1], options=hasty)]
            + [many(stage, rows[2:4], options=hasty)]
            + [single(stage, row) for row in rows[4:]]
        )

        assert type(first) is DeadlineError
        assert type(second) is DeadlineError
        assert first is not second
        assert str(first) == str(deadline_passed())
        assert {error.code for error in batch.failed.values()} == {"deadline"}
        assert {error.attempts for error in batch.failed.values()} == {0}
        assert all(isinstance(outcome, PromptResponse) for outcome in others)
        assert len(stage.model.answered) == len(VALUES) - 4


async def test_what_differs_shares_no_chunk(staging: Staging) -> None:
    """Another experiment, configuration, mode or option is another chunk; a deadline is not."""
    async with staging(coalesce=WINDOW) as stage:
        client = stage.client
        rows = await stage.variables(VALUES)
        other, _ = await client.experiments.get_or_create(
            "other", prompt_template=stage.template, collection=stage.collection
        )
        config, _ = await client.llm_configs.get_or_create("another", llm_model_name="echo")
        stage.recorder.requests.clear()
        kinds: list[dict[str, Any]] = [
            {},
            {"options": client.options.replace(deadline=100.0)},
            {"experiment": other},
            {"llm_config": config},
            {"options": client.options.replace(attempt_timeout=50.0)},
            {"options": client.options.replace(priority="interactive")},
        ]
        calls: list[Awaitable[PromptResponse]] = []
        for kind in kinds:
            arguments: dict[str, Any] = {"experiment": stage.experiment} | kind
            calls += [
                client.responses.generate(template_variables=row, **arguments) for row in rows[:3]
            ]
        responses = await each(calls)
        assert texts(responses) == ["echo say v0", "echo say v1", "echo say v2"] * len(kinds)
        assert posts(stage) == ["batches"] * (len(kinds) - 1)

        modes = [RatingMode.FAST, RatingMode.DETAILED] * 4
        pairs = zip(responses, modes, strict=False)
        ratings = await each([client.ratings.rate(r, rating_mode=mode) for r, mode in pairs])
        assert posts(stage, "ratings") == ["batches"] * 2
        for one, mode in zip(ratings, modes, strict=True):
            assert all(bool(rating.reasoning) == (mode is RatingMode.DETAILED) for rating in one)


async def test_small_batches_share_and_keep_what_is_theirs(staging: Staging) -> None:
    """Their progress, their positions and what failed before them; a large one goes by itself."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.requests.clear()
        stage.model.failing = lambda prompt: prompt == "say v6"
        told: dict[str, list[Progress]] = {"first": [], "second": []}

        def options(name: str) -> BatchOptions:
            return stage.client.options.replace(on_progress=told[name].append)

        first, second, alone = await each([
            many(stage, rows[:5], options=options("first")),
            many(stage, rows[5:9], options=options("second")),
            single(stage, rows[9]),
        ])  # fmt: skip

        assert posts(stage) == ["batches"]
        assert texts(first) == [f"echo say v{i}" for i in range(5)]
        assert list(second.failed) == [1]
        # As a table too: where all have failed, it has the columns of responses.
        assert "response" in second[1:2].to_dicts()[0]
        assert alone.response_str == "echo say v9"
        assert [(p.done, p.total) for p in told["first"]] == [(n, 5) for n in range(1, 6)]
        assert [(p.done, p.failed) for p in told["second"]][-1] == (4, 1)

        stage.model.failing = lambda prompt: False
        ratings = await stage.client.ratings.rate_many(second)
        assert ratings.failed[1] is second.failed[1]
        await second.retry_failed()
        assert texts(second) == [f"echo say v{i}" for i in range(5, 9)]


async def test_a_batch_of_a_whole_chunk_waits_for_nobody(staging: Staging) -> None:
    """There is no room in it for others."""
    async with staging(options=BatchOptions(chunk_size=10), coalesce=1_000.0) as stage:
        rows = await stage.variables(VALUES)
        with anyio.fail_after(500):
            batch = await many(stage, rows)

        assert not batch.failed


async def test_while_no_permit_is_free_the_chunk_grows(staging: Staging) -> None:
    """Calls that come while a bulk run has all permits share the chunk that waits for one."""
    options = BatchOptions(chunk_size=100, max_concurrency=1)
    async with staging(options=options, coalesce=WINDOW) as stage:
        rows = await stage.variables([f"v{i}" for i in range(130)])
        stage.model.slow = lambda prompt: 20.0 if prompt == "say v0" else 0.0
        stage.recorder.requests.clear()
        bulk = asyncio.ensure_future(many(stage, rows[:100]))
        await until(lambda: stage.recorder.count("stream$") == 1)
        calls: list[Any] = []
        for row in rows[100:]:
            calls.append(asyncio.ensure_future(single(stage, row)))
            await asyncio.sleep(WINDOW / 3)
        assert stage.client.traffic.in_flight == 1
        responses = await each(calls)
        await bulk

        assert all(isinstance(response, PromptResponse) for response in responses)
        assert posts(stage) == ["batches"] * 2


async def test_ratings_share_a_chunk(staging: Staging) -> None:
    """A response that two ask for is rated once; a judge that fails fails its caller alone."""
    async with staging(coalesce=WINDOW) as stage:
        responses = list(await stage.generate(VALUES))
        stage.recorder.requests.clear()
        stage.model.judge_failing = lambda prompt: "echo say v5" in prompt
        outcomes = await each([stage.client.ratings.rate(r) for r in [*responses, responses[0]]])

        assert posts(stage, "ratings") == ["batches"]
        first, again = outcomes[0], outcomes.pop()
        assert first is not again
        assert [rating.id for rating in first] == [rating.id for rating in again]
        error = outcomes.pop(5)
        assert type(error) is RatingError
        assert (error.response_id, error.position) == (responses[5].id, 0)
        assert [len(ratings) for ratings in outcomes] == [3] * (len(VALUES) - 1)


async def test_where_a_job_tells_no_results_single_calls_go_by_themselves(staging: Staging) -> None:
    """There a chunk takes listings of the experiment; small batches, which do anyhow, share."""
    async with staging(HOSTED, BatchOptions(settle=0.5), coalesce=WINDOW) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.requests.clear()
        responses = await each([single(stage, row) for row in rows[:4]])
        assert posts(stage) == ["generate"] * 4
        assert texts(responses) == [f"echo say v{i}" for i in range(4)]

        stage.recorder.requests.clear()
        batches = await each([many(stage, rows[i : i + 5]) for i in range(0, 20, 5)])
        assert posts(stage) == ["batches"]
        shown = [response.response_str for batch in batches for response in batch]
        assert shown == [f"echo say {value}" for value in VALUES]


async def test_nothing_is_left_after_a_thousand_calls(staging: Staging) -> None:
    """No task, no window, no caller, whatever became of them."""
    async with staging(coalesce=WINDOW) as stage:
        rows = await stage.variables([f"v{i}" for i in range(100)])
        stage.model.failing = lambda prompt: prompt.endswith("7")
        tasks = asyncio.all_tasks()
        for _ in range(10):
            await some_cancelled(stage, rows)
        await until(lambda: asyncio.all_tasks() <= tasks)
        await all_ended(stage)

        coalescer = stage.client.responses._coalescer
        assert coalescer is not None
        assert coalescer._open == {}
        gc.collect()
        kinds = Counter[type](map(type, gc.get_objects()))
        assert (kinds[Caller], kinds[SharedCall]) == (0, 0)


async def some_cancelled(stage: Stage, rows: Sequence[Any]) -> None:
    """A call for each row, of which every tenth is cancelled while it waits for others."""
    calls = [asyncio.ensure_future(single(stage, row)) for row in rows]
    await asyncio.sleep(WINDOW / 2)
    for call in calls[::10]:
        call.cancel()
    await each(calls)


@pytest.mark.parametrize("wrong", [-0.001, True, "0.005", float("nan"), float("inf")])
def test_a_window_is_a_number_of_seconds(wrong: Any) -> None:
    """Anything else is told when the client is made."""
    with pytest.raises(ConfigurationError, match="coalesce must be"):
        AsyncClient(api_key="key", base_url="http://127.0.0.1:1", coalesce=wrong)


async def test_what_fails_by_itself_has_its_own_error_beside_a_row_that_is_not_there(
    staging: Staging,
) -> None:
    """The chunk is refused as a whole first; that is the reason of one item alone."""
    async with staging(coalesce=WINDOW) as stage:
        poison, good = await stage.variables(["poison", "good"])
        stage.model.failing = lambda prompt: "poison" in prompt
        failed, made, missing = await each([single(stage, row) for row in (poison, good, 999)])

    assert isinstance(failed, GenerationError)
    assert made.response_str == "echo say good"
    assert isinstance(missing, NotFoundError)
