"""``max_cost``: what an evaluation costs stays below it, and what was left says so."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Evaluation,
    InputError,
    ItemError,
    LLMConfig,
    RatingMode,
)
from elluminate_async.evaluation.spending import Spending
from elluminate_async.schemas.version import Capability
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from tests.evaluation.scene import CRITERIA, PROMPT, words
from tests.flow.bench import EchoModel

MOST_TOKENS = 40
IN, OUT = 10.0, 1_000.0  # for a million tokens


class PricedModel(EchoModel):
    """Counts what its answers cost, of lengths that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = 0.0
        self.tells = True

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        answer = await super().complete(request)
        if request.purpose != "generate" or request.json_schema is not None:
            return answer
        told = zlib.crc32(answer.text.encode()) % MOST_TOKENS + 1
        self.cost += (3 * IN + told * OUT) / 1_000_000
        if not self.tells:
            return ModelAnswer(text=answer.text)
        return ModelAnswer(text=answer.text, input_tokens=3, output_tokens=told)


class Priced:
    """A server with such a model, its client, and configurations with prices."""

    def __init__(self, client: AsyncClient, model: PricedModel) -> None:
        self.client = client
        self.model = model

    async def configs(self, *names: str, max_tokens: int | None = MOST_TOKENS) -> list[LLMConfig]:
        prices: Any = {"input_price_per_mtok": IN, "output_price_per_mtok": OUT}
        create = self.client.llm_configs.create
        return [await create(n, n, max_tokens=max_tokens, **prices) for n in names]

    async def evaluate(self, rows: Any, **arguments: Any) -> Evaluation:
        return await self.client.evaluate(rows, **call(**arguments))


def call(**arguments: Any) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "criteria": CRITERIA[:1],
        "rating_mode": RatingMode.FAST,
        **arguments,
    }


@asynccontextmanager
async def priced(
    db: Path | None = None, options: BatchOptions | None = None
) -> AsyncGenerator[Priced]:
    model = PricedModel()
    async with (
        LocalServer(model=model, db=db) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client,
    ):
        yield Priced(client, model)


def unsent(evaluation: Evaluation) -> list[ItemError]:
    """The errors of the records that were left, each of which is told why."""
    errors = [one.error for one in evaluation if one.error is not None]
    assert all(one.code == "not_sent" and "max_cost" in str(one) for one in errors)
    return errors


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_it_is_not_passed(size: int) -> None:
    """Whatever the chunks; what is left of it is less than one more answer may cost."""
    async with priced(options=BatchOptions(chunk_size=size)) as scene:
        configs = await scene.configs("one")
        evaluation = await scene.evaluate(words(200), llm_configs=configs, max_cost=1.5)

        left = unsent(evaluation)
        assert scene.model.cost <= 1.5
        assert evaluation.cost == pytest.approx(scene.model.cost)
        assert scene.model.cost > 1.5 - MOST_TOKENS * OUT / 1e6 - 100 * IN / 1e6
        assert len(evaluation) - len(left) == sum(scene.model.answered.values()) > 40


async def test_configurations_share_it() -> None:
    """Both together stay below it, and both get some."""
    async with priced(options=BatchOptions(chunk_size=3)) as scene:
        configs = await scene.configs("one", "two")
        evaluation = await scene.evaluate(words(100), llm_configs=configs, max_cost=1.0, epochs=2)

        assert unsent(evaluation)
        assert 0.9 < scene.model.cost <= 1.0
        assert {one.config for one in evaluation if one.response} == {"one", "two"}


async def test_what_is_enough_changes_nothing() -> None:
    """No record is left, though the most that all might cost is more than that."""
    async with priced() as scene:
        configs = await scene.configs("one")
        evaluation = await scene.evaluate(words(100), llm_configs=configs, max_cost=3.0)

        assert 100 * MOST_TOKENS * OUT / 1e6 > 3.0 > scene.model.cost
        assert not evaluation.failed
        assert [one.input["number"] for one in evaluation] == [*range(100)]


async def test_what_was_left_is_sent_with_more() -> None:
    """`retry_failed` under a larger one sends and rates the rest, and nothing a second time."""
    async with priced(options=BatchOptions(chunk_size=10)) as scene:
        configs = await scene.configs("one")
        evaluation = await scene.evaluate(words(80), llm_configs=configs, max_cost=0.5)
        before = len(unsent(evaluation))
        assert before

        await evaluation.retry_failed()
        assert len(unsent(evaluation)) <= before
        assert scene.model.cost <= 0.5
        await evaluation.retry_failed(max_cost=10.0)

        assert not evaluation.failed
        assert all(one.passed is not None for one in evaluation)
        assert {*scene.model.answered.values()} == {1}
        assert evaluation.cost == pytest.approx(scene.model.cost)


async def test_earlier_runs_of_a_journal_count(tmp_path: Path) -> None:
    """The same call again sends nothing more; with a larger bound it goes on to the end."""
    async with priced(tmp_path / "db", BatchOptions(chunk_size=10)) as scene:
        configs = await scene.configs("one", "two")
        rest: dict[str, Any] = {"llm_configs": configs, "journal": tmp_path / "journal"}
        first = await scene.evaluate(words(60), max_cost=1.0, **rest)
        cost = scene.model.cost
        again = await scene.evaluate(words(60), max_cost=1.0, **rest)
        assert unsent(first)
        assert scene.model.cost <= 1.0
        # What the last to settle left free may be enough for some.
        assert scene.model.cost >= cost
        assert again.cost == pytest.approx(scene.model.cost)

        more = await scene.evaluate(words(60), max_cost=1.5, **rest)
        assert unsent(more)
        assert 1.4 < scene.model.cost <= 1.5
        whole = await scene.evaluate(words(60), **rest)

        assert not whole.failed
        # Each word once by each model.
        assert {*scene.model.answered.values()} == {2}


async def test_a_price_that_is_not_known_is_told() -> None:
    """Of one of two configurations: nothing is generated, and the text says how to set it."""
    async with priced() as scene:
        configs = await scene.configs("one")
        bare = await scene.client.llm_configs.create("bare", "bare", input_price_per_mtok=1.0)
        with pytest.raises(InputError, match=r"the prices of the configuration 'bare'.*created"):
            await scene.evaluate(words(3), llm_configs=[*configs, bare], max_cost=1.0)
        with pytest.raises(InputError, match=r"the prices of the configuration"):
            await scene.evaluate(words(3), max_cost=1.0)
        assert not scene.model.answered


async def test_tokens_that_are_not_told_count_as_the_most() -> None:
    """An unknown cost is not 0: as many are sent as surely fit."""
    async with priced(options=BatchOptions(chunk_size=4)) as scene:
        scene.model.tells = False
        configs = await scene.configs("one")
        evaluation = await scene.evaluate(words(100), llm_configs=configs, max_cost=0.5)

        sent = sum(scene.model.answered.values())
        dearest = MOST_TOKENS * OUT / 1e6
        assert unsent(evaluation)
        assert (sent + 1) * (dearest + 100 * IN / 1e6) > 0.5 >= sent * dearest
        assert evaluation.cost is None


async def test_what_failed_costs_nothing() -> None:
    """A model's failure leaves its share to others."""
    async with priced(options=BatchOptions(chunk_size=5)) as scene:
        scene.model.failing = lambda prompt: int(prompt.rpartition("word")[2]) < 60
        configs = await scene.configs("one")
        evaluation = await scene.evaluate(words(90), llm_configs=configs, max_cost=0.3)

        codes = [one.error and one.error.code for one in evaluation]
        assert codes[:60] == ["generation_failed"] * 60
        assert codes[60] is None
        assert "not_sent" in codes
        assert scene.model.cost <= 0.3


async def test_without_a_bound_of_length_the_longest_answer_counts() -> None:
    """It may be passed by what is in flight alone."""
    options = BatchOptions(chunk_size=1, max_concurrency=2)
    async with priced(options=options) as scene:
        configs = await scene.configs("one", max_tokens=None)
        # Less than the first guess of one answer, and nothing is sent.
        assert len(unsent(await scene.evaluate(words(5), llm_configs=configs, max_cost=0.9))) == 5
        evaluation = await scene.evaluate(words(300), llm_configs=configs, max_cost=1.2)

        assert unsent(evaluation)
        assert 1.1 < scene.model.cost <= 1.2 + 2 * MOST_TOKENS * OUT / 1e6


async def test_a_stream_is_bounded() -> None:
    """Its records say so as those of an evaluation do, and come to their end."""

    async def rows() -> AsyncGenerator[dict[str, Any]]:
        for row in words(120):
            yield row

    async with priced(options=BatchOptions(chunk_size=10)) as scene:
        configs = await scene.configs("one")
        arguments = call(llm_configs=configs, max_cost=0.6)
        async with scene.client.stream_evaluate(rows(), **arguments) as stream:
            records = [record async for record in stream]

        assert sorted(one.position for one in records) == [*range(120)]
        assert {one.error.code for one in records if one.error} == {"not_sent"}
        assert 0.5 < scene.model.cost <= 0.6


async def test_waiting_for_room_ends_with_the_deadline() -> None:
    """What waits for an answer that does not come has the deadline as its reason."""
    options = BatchOptions(chunk_size=1, deadline=3.0)
    async with priced(options=options) as scene:
        configs = await scene.configs("one")
        scene.model.slow = lambda prompt: 60.0
        evaluation = await scene.evaluate(words(20), llm_configs=configs, max_cost=0.1)

        codes = {one.error.code for one in evaluation if one.error}
        assert len(evaluation.failed) == 20
        assert "not_sent" not in codes
        assert "deadline" in codes


async def test_waiting_for_room_can_be_cancelled() -> None:
    """The call ends at once, with an evaluation of what had come."""
    async with priced(options=BatchOptions(chunk_size=1)) as scene:
        configs = await scene.configs("one")
        asked = asyncio.Event()
        scene.model.noticed = asked.set
        scene.model.slow = lambda prompt: 60.0
        task = asyncio.create_task(scene.evaluate(words(20), llm_configs=configs, max_cost=0.1))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught, anyio.fail_after(30):
            await task
        assert len(getattr(caught.value, "partial")) == 20  # noqa: B009


NO_AMOUNTS: list[tuple[Any, dict[str, Any]]] = [
    *((value, {}) for value in (0, -1.0, float("nan"), float("inf"), True, "1", 10**400)),
    (1.0, {"responses": ["an answer"]}),
]


@pytest.mark.parametrize(("value", "more"), NO_AMOUNTS, ids=lambda one: f"{one!r:.12}")
async def test_an_amount_that_is_none_is_told(value: Any, more: dict[str, Any]) -> None:
    """Before anything is sent, also where nothing is generated."""
    client = AsyncClient(api_key="k", base_url="https://127.0.0.1:9")
    with pytest.raises(InputError, match="max_cost"):
        client.stream_evaluate(words(1), **call(max_cost=value, **more))
    with pytest.raises(InputError, match="max_cost"):
        await client.evaluate(words(1), **call(max_cost=value, **more))


async def test_a_retry_needs_a_bound_to_change() -> None:
    """An evaluation that had none is not given one later."""
    async with priced() as scene:
        evaluation = await scene.evaluate(words(2))
        with pytest.raises(InputError, match="max_cost"):
            await evaluation.retry_failed(max_cost=1.0)


async def test_who_waits_is_told_of_room() -> None:
    """It waits while something is set aside, and is refused once nothing is."""
    spending = Spending(1.0, 1)
    spending.begin(0.25)
    assert spending.set_aside_now(0.5)
    assert not spending.set_aside_now(0.5)
    got: list[bool] = []
    async with anyio.create_task_group() as tasks:

        async def wait(cost: float) -> None:
            got.append(await spending.set_aside(cost))

        tasks.start_soon(wait, 0.5)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        spending.settle(0.5, 0.1)
    assert got == [True]
    spending.settle(0.5, 0.5)
    assert spending.spent == pytest.approx(0.85)
    assert not await spending.set_aside(0.2)


@pytest.mark.parametrize("cancels", [True, False])
async def test_what_an_interrupted_run_may_have_sent_is_set_aside(
    tmp_path: Path, cancels: bool
) -> None:
    """However often it is cut short: what is in flight by then counts from the first moment on."""
    async with priced(tmp_path / "db", BatchOptions(chunk_size=3)) as scene:
        if not cancels:
            scene.client._connection._capabilities -= {Capability.CANCELLATION}
        scene.model.delay = 0.05
        configs = await scene.configs("one", "two")
        rest: dict[str, Any] = {
            "llm_configs": configs, "journal": tmp_path / "journal", "max_cost": 0.7,
        }  # fmt: skip
        for answers in (3, 9, 15, 21):
            reached = asyncio.Event()

            def look(answers: int = answers, reached: asyncio.Event = reached) -> None:
                if sum(scene.model.answered.values()) >= answers:
                    reached.set()

            scene.model.noticed = look
            task = asyncio.create_task(scene.evaluate(words(60), **rest))
            waiting = asyncio.create_task(reached.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            waiting.cancel()
            await asyncio.wait([task])
        evaluation = await scene.evaluate(words(60), **rest)

        assert unsent(evaluation)
        assert evaluation.cost is not None
        assert evaluation.cost <= 0.7
        if cancels:
            # An answer that came as its call was abandoned is in no record, and only that.
            kept = sum(record.response is not None for record in evaluation)
            abandoned = sum(scene.model.answered.values()) - kept
            most = (3 * IN + MOST_TOKENS * OUT) / 1_000_000
            assert 0 <= scene.model.cost - evaluation.cost + 1e-9 <= abandoned * most + 2e-9
        else:
            assert {*scene.model.answered.values()} <= {1, 2}
            assert evaluation.cost == pytest.approx(scene.model.cost)


async def test_longer_answers_than_asked_for_are_learned() -> None:
    """A provider that bills more than ``max_tokens`` passes the bound by what is in flight."""
    options = BatchOptions(chunk_size=1, max_concurrency=1)
    async with priced(options=options) as scene:
        configs = await scene.configs("one", max_tokens=2)
        evaluation = await scene.evaluate(words(100), llm_configs=configs, max_cost=0.5)

        assert unsent(evaluation)
        # One is asked for while another is in flight.
        assert scene.model.cost <= 0.5 + 2 * MOST_TOKENS * OUT / 1e6


async def test_a_price_below_0_is_none() -> None:
    """It is refused where it is given, and an object's own is not known."""
    async with priced() as scene:
        with pytest.raises(InputError, match="price"):
            await scene.client.llm_configs.create("x", "x", input_price_per_mtok=-1.0)
    odd = LLMConfig(id=1, name="odd", input_price_per_mtok=-5.0, output_price_per_mtok=1.0)
    client = AsyncClient(api_key="k", base_url="https://127.0.0.1:9")
    plan = await client.plan(words(1), **call(llm_configs=odd, max_cost=1.0), output_tokens=3)
    assert plan.cost is None
    assert "max_cost needs the prices of 'odd'" in plan.problems[0]


@pytest.mark.parametrize("counted", [None, math.nan, -5, True, "9"])
async def test_an_own_count_of_tokens_is_checked(counted: Any) -> None:
    """It gives whole numbers, or an error says so."""
    client = AsyncClient(api_key="k", base_url="https://127.0.0.1:9")
    with pytest.raises(InputError, match="count_tokens must give"):
        await client.plan(words(1), **call(), count_tokens=lambda text: counted)
