"""`client.deadline`: one deadline for all calls of a block, and what had arrived by then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    DeadlineError,
    Evaluation,
    InputError,
    OutcomeUnknownError,
    PromptResponse,
    TemplateVariables,
    partial_of,
)
from elluminate_async.integrations.problems import problem_of
from elluminate_async.testing import VIRTUAL_TIME
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating
from tests.flow.bench import Stage
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.fixture
async def slow(staging: Staging) -> AsyncGenerator[Stage]:
    """A model that takes 10 s for a prompt with "slow" in it, and no time for others."""
    async with staging(options=BatchOptions(chunk_size=2)) as stage:
        stage.model.slow = lambda prompt: 10.0 if "slow" in prompt else 0.0
        yield stage


async def seconds_of(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


def texts_of(batch: Batch[PromptResponse]) -> list[str]:
    return [response.response_str for response in batch.succeeded.values()]


async def test_several_calls_share_it(slow: Stage) -> None:
    """What the first call used is gone for the second; leaving the block ends the bound."""

    async def calls() -> list[Batch[Any]]:
        async with slow.client.deadline(12.0):
            return [await slow.generate(["slow a"]), await slow.generate(["slow b"])]

    began = time.monotonic()
    first, second = await calls()
    took = time.monotonic() - began
    third = await slow.generate(["slow c"])

    assert not first.failed
    assert [error.code for error in second.failed.values()] == ["deadline"]
    assert 12.0 <= took < 12.5
    assert not third.failed


async def test_what_was_done_stays(slow: Stage) -> None:
    """A batch that it cuts gives the outcomes it has; the others have the code "deadline"."""
    async with slow.client.deadline(3.0):
        batch = await slow.generate(["a", "b", "slow c", "slow d"])

    assert texts_of(batch) == ["echo say a", "echo say b"]
    assert {position: error.code for position, error in batch.failed.items()} == {
        2: "deadline",
        3: "deadline",
    }


async def test_tasks_begun_within_are_bounded(slow: Stage) -> None:
    """Also at the same time, and those that were begun before are not."""
    gate = anyio.Event()
    batches = dict[str, Batch[Any]]()

    async def generate(name: str, *, wait: bool) -> None:
        if wait:
            await gate.wait()
        batches[name] = await slow.generate([f"slow {name}"])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(generate("before", wait=True))
        async with slow.client.deadline(3.0), asyncio.TaskGroup() as within:
            gate.set()
            within.create_task(generate("one", wait=False))
            within.create_task(generate("two", wait=False))

    assert {name: [e.code for e in batch.failed.values()] for name, batch in batches.items()} == {
        "one": ["deadline"],
        "two": ["deadline"],
        "before": [],
    }


@pytest.mark.parametrize(("outer", "inner", "rules"), [(20.0, 3.0, 3.0), (3.0, 20.0, 3.0)])
async def test_the_sooner_of_two_rules(
    slow: Stage, outer: float, inner: float, rules: float
) -> None:
    """A shorter inner one cuts, a longer inner one changes nothing."""
    async with slow.client.deadline(outer), slow.client.deadline(inner) as deadline:
        assert deadline.remaining() == pytest.approx(rules)
        assert rules <= await seconds_of(slow.generate(["slow a"])) < rules + 0.5
        assert deadline.remaining() == 0.0


async def test_the_inner_one_ends_with_its_block(slow: Stage) -> None:
    """Afterwards the outer one rules again."""
    async with slow.client.deadline(20.0) as outer:
        async with slow.client.deadline(1.0):
            await slow.generate(["slow a"])
        batch = await slow.generate(["slow b"])

    assert not batch.failed
    assert outer.remaining() == pytest.approx(9.0, abs=0.5)


async def test_options_narrow_it_further(slow: Stage) -> None:
    """The deadline of a call's own options holds within."""
    options = slow.client.options.replace(deadline=2.0)
    async with slow.client.deadline(8.0):
        assert 2.0 <= await seconds_of(slow.generate(["slow a"], options=options)) < 2.5


async def test_a_retry_is_bounded_by_the_block_it_is_in(slow: Stage) -> None:
    """`retry_failed` has clocks of its own, and is a call as any other."""
    async with slow.client.deadline(1.0):
        batch = await slow.generate(["slow a"])
    async with slow.client.deadline(2.0):
        took = await seconds_of(batch.retry_failed(include_unknown=True))
    failed = [error.code for error in batch.failed.values()]
    await batch.retry_failed(include_unknown=True)

    assert 2.0 <= took < 2.5
    assert failed == ["deadline"]
    assert not batch.failed


async def test_the_clients_of_others_are_not_bounded(slow: Stage) -> None:
    """It is one client's."""
    other = AsyncClient(base_url=slow.server.url, api_key=slow.server.api_key)
    async with other, other.deadline(1.0):
        assert not (await slow.generate(["slow a"])).failed


async def test_nothing_else_is_interrupted(slow: Stage) -> None:
    """Neither a sleep in the block nor its end raises, once it has passed; a call does."""
    async with slow.client.deadline(1.0) as deadline:
        await anyio.sleep(2.0)
        with pytest.raises(DeadlineError, match=r"client\.deadline"):
            await slow.client.projects.list()
        assert deadline.remaining() == 0.0


async def test_nothing_is_sent_after_it(slow: Stage) -> None:
    """A batch begun too late costs no request: its items were not sent, and say so."""
    rows = await slow.variables(["a", "b"])
    requests = len(slow.recorder.requests)
    async with slow.client.deadline(1.0):
        await anyio.sleep(1.5)
        batch = await slow.client.responses.generate_many(
            experiment=slow.experiment, template_variables=rows
        )

    assert [(error.code, error.attempts) for error in batch.failed.values()] == [
        ("deadline", 0)
    ] * 2
    assert len(slow.recorder.requests) == requests


Call = Callable[[Stage], Awaitable[object]]


async def _listing(stage: Stage) -> object:
    return [row async for row in stage.client.experiments.list()]


SINGLE: dict[str, Call] = {
    "get": lambda stage: stage.client.experiments.get(id=stage.experiment.id),
    "list": lambda stage: stage.client.experiments.list(),
    "iterate": _listing,
    "ping": lambda stage: stage.client.ping(),
    "compatibility": lambda stage: stage.client.compatibility(),
}


@pytest.mark.parametrize("call", SINGLE.values(), ids=SINGLE)
async def test_single_calls_raise(slow: Stage, call: Call) -> None:
    """Those that are no batch, at the deadline, while the service says nothing."""

    async def silent(seen: object, send: object) -> bool:
        await anyio.sleep(60)
        return False

    slow.recorder.before = silent
    began = time.monotonic()
    async with slow.client.deadline(0.5):
        with pytest.raises(DeadlineError):
            await call(slow)

    assert 0.5 <= time.monotonic() - began < 1.0


async def test_a_ping_that_it_cuts_tells_of_no_outage(slow: Stage) -> None:
    """The service was not given the time that a ping gives it."""

    async def silent(seen: object, send: object) -> bool:
        await anyio.sleep(60)
        return False

    slow.recorder.before = silent
    async with slow.client.deadline(0.5):
        with pytest.raises(DeadlineError):
            await slow.client.ping(timeout=30.0)

    assert slow.client._connection.limits.outage(time.monotonic()) is None


async def test_a_stream_belongs_to_the_block_it_is_made_in(slow: Stage) -> None:
    """Read outside it still ends at the deadline; made outside, a block around it does nothing."""
    async with slow.client.deadline(2.0):
        rows = await slow.variables(["slow a"])
        within = slow.client.responses.stream_generate_many(
            experiment=slow.experiment, template_variables=rows
        )
    without = slow.client.responses.stream_generate_many(
        experiment=slow.experiment, template_variables=await slow.variables(["slow b"])
    )

    [(_, cut)] = [pair async for pair in within]
    async with slow.client.deadline(2.0):
        [(_, whole)] = [pair async for pair in without]

    assert getattr(cut, "code", None) == "deadline"
    assert getattr(whole, "code", None) is None


@asynccontextmanager
async def _closing(client: AsyncClient) -> AsyncGenerator[AsyncClient]:
    """Without entering it, which would do what the first call is to do."""
    try:
        yield client
    finally:
        await client.close()


async def test_the_version_check_is_nobodys() -> None:
    """What the client asks once for all calls does not end with the first caller's deadline."""
    async with (
        evaluating() as scene,
        _closing(AsyncClient(base_url=scene.server.url, api_key=scene.server.api_key)) as client,
    ):

        async def late(seen: Any, send: object) -> bool:
            if seen.path.endswith("/version/compatible"):
                await anyio.sleep(2.0)
            return False

        scene.recorder.before = late
        async with client.deadline(1.0):
            await client.experiments.list()
        await anyio.sleep(3.0)

        assert client._connection._capabilities


@pytest.mark.parametrize("as_stream", [False, True], ids=["evaluate", "stream"])
async def test_an_evaluation_is_bounded_as_a_whole(*, as_stream: bool) -> None:
    """All its steps: its records tell which are missing; a stream of them raises."""
    async with evaluating(options=BatchOptions(chunk_size=1)) as scene:
        client = scene.client
        scene.model.slow = lambda prompt: 10.0 if "slow" in prompt else 0.0
        rows = [{"word": "quick"}, {"word": "slow"}]
        began = time.monotonic()
        async with client.deadline(4.0):
            if as_stream:
                with pytest.raises(DeadlineError):
                    _ = [
                        record
                        async for record in client.stream_evaluate(
                            _endless(rows), prompt=PROMPT, criteria=CRITERIA
                        )
                    ]
            else:
                evaluation = await client.evaluate(rows, prompt=PROMPT, criteria=CRITERIA)
                quick, late = evaluation
                assert quick.error is None
                assert late.error is not None
                assert late.error.code == "deadline"

        assert 4.0 <= time.monotonic() - began < 5.0


async def test_however_it_is_told_it_is_one_problem() -> None:
    """Of an item, a single call and a stream: 504, and not to be made again as it was."""
    async with evaluating(options=BatchOptions(deadline=3.0)) as scene:
        client, row = scene.client, {"word": "slow"}
        scene.model.slow = lambda prompt: 10.0 if "slow" in prompt else 0.0
        evaluation = await client.evaluate([row], prompt=PROMPT, criteria=CRITERIA)
        told: list[BaseException | None] = [evaluation[0].error]
        experiment = evaluation.experiments[0]
        assert experiment.collection is not None
        variables = await client.template_variables.list(experiment.collection)
        batch = await client.responses.generate_many(
            template_variables=variables, experiment=experiment
        )
        told.append(batch.failed[0])
        with pytest.raises(OutcomeUnknownError) as single:
            await client.responses.generate(template_variables=variables[0], experiment=experiment)
        told.append(single.value)
        with pytest.raises(DeadlineError) as stream:
            _ = [r async for r in client.stream_evaluate([row], prompt=PROMPT, criteria=CRITERIA)]
        told.append(stream.value)

    for error in told:
        assert error is not None
        problem = problem_of(error)
        assert problem is not None
        assert (problem.status, problem.code, problem.retryable) == (504, "deadline", False), error
        assert "may be done twice" in problem.detail


async def _endless(rows: list[dict[str, str]]) -> AsyncGenerator[dict[str, str]]:
    for row in rows:
        yield row
    await anyio.sleep(60)


async def test_what_is_raised_has_what_had_arrived(slow: Stage) -> None:
    """An iterable that does not come to its end leaves no batch to return: its partial has it."""

    async def rows() -> AsyncGenerator[TemplateVariables]:
        for row in await slow.variables(["a", "b"]):
            yield row
        await anyio.sleep(60)

    async with slow.client.deadline(3.0):
        with pytest.raises(DeadlineError) as caught:
            await slow.client.responses.generate_many(
                experiment=slow.experiment, template_variables=rows()
            )

    assert [r.response_str for r in caught.value.partial.succeeded.values()] == [
        "echo say a",
        "echo say b",
    ]
    assert partial_of(caught.value) is caught.value.partial


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True, "1", None])
async def test_a_deadline_is_a_number_of_seconds(slow: Stage, seconds: Any) -> None:
    """Anything else is refused where it is given."""
    with pytest.raises(InputError, match="a deadline must be a finite number of seconds above 0"):
        slow.client.deadline(seconds)


async def _by_timeout(work: Awaitable[object]) -> None:
    async with asyncio.timeout(3.0):
        await work


async def _by_wait_for(work: Awaitable[object]) -> None:
    await asyncio.wait_for(work, 3.0)


async def _in_a_group(work: Awaitable[object]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_by_timeout(work))


@pytest.mark.parametrize("cut", [_by_timeout, _by_wait_for, _in_a_group])
async def test_the_error_of_asyncios_clocks_leads_to_it(
    slow: Stage, cut: Callable[[Awaitable[object]], Awaitable[None]]
) -> None:
    """`partial_of` finds what had arrived from the `TimeoutError` that the caller catches."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        await cut(slow.generate(["a", "b", "slow c"]))

    partial = partial_of(caught.value)
    assert texts_of(partial) == ["echo say a", "echo say b"]
    assert len(partial) == 3


async def test_an_evaluations_partial_is_found_too() -> None:
    """It is an `Evaluation`."""
    async with evaluating() as scene:
        scene.model.delay = 10.0
        with pytest.raises(TimeoutError) as caught:
            await _by_timeout(
                scene.client.evaluate([{"word": "a"}], prompt=PROMPT, criteria=CRITERIA)
            )

    assert isinstance(partial_of(caught.value), Evaluation)


def test_an_error_without_one_has_none() -> None:
    """Also where causes go in a circle."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert partial_of(one) is None


async def test_it_tells_what_is_left(slow: Stage) -> None:
    """What it gives before it is entered, then what is left of it, and what its words say."""
    deadline = slow.client.deadline(12.0)
    assert deadline.remaining() == 12.0
    async with deadline:
        await anyio.sleep(2.0)
        assert deadline.remaining() == pytest.approx(10.0)
        assert repr(deadline) == "<Deadline 10 s left>"
        await anyio.sleep(11.0)
        assert deadline.remaining() == 0.0


async def test_one_in_force_is_not_begun_again(slow: Stage) -> None:
    """In its own block or in another task it would lose a bound; after its block it begins anew."""
    deadline = slow.client.deadline(5.0)

    async def enter() -> None:
        async with deadline:
            pass

    async with deadline:
        with pytest.raises(InputError, match="in force already"):
            await enter()
        with pytest.raises(InputError, match="in force already"):
            await asyncio.create_task(enter())
        await anyio.sleep(2.0)
        assert deadline.remaining() == pytest.approx(3.0)
    await anyio.sleep(4.0)
    assert texts_of(await slow.generate(["a"])) == ["echo say a"]
    async with deadline:
        assert deadline.remaining() == pytest.approx(5.0)


async def test_one_that_is_left_elsewhere_bounds_nothing_any_more(slow: Stage) -> None:
    """A generator that is closed in another task, and two that are not left in turn."""

    async def rows() -> AsyncGenerator[int]:
        async with slow.client.deadline(1.0):
            yield 1

    numbers = rows()
    async for _ in numbers:
        break
    await asyncio.create_task(numbers.aclose())
    one, other = slow.client.deadline(1.0), slow.client.deadline(1.0)
    await one.__aenter__()
    await other.__aenter__()
    await one.__aexit__(None, None, None)
    await other.__aexit__(None, None, None)
    await anyio.sleep(2.0)

    assert texts_of(await slow.generate(["a"])) == ["echo say a"]


async def test_a_task_that_outlives_the_block_keeps_its_bound(slow: Stage) -> None:
    """It was begun within."""

    async def later() -> None:
        await anyio.sleep(2.0)
        await slow.client.projects.list()

    async with slow.client.deadline(1.0):
        task = asyncio.create_task(later())
    with pytest.raises(DeadlineError):
        await task
