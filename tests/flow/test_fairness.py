"""One-row calls beside a long run, over real sockets: whose model call and whose chunk is next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from elluminate_async import AsyncClient, Batch, BatchOptions, Priority
from elluminate_async.limits.fairness import FairGate, Share
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.server.llms.base import text_of
from tests.flow.bench import EchoModel, Recorder, Stage, set_stage, until


class Turnwise(EchoModel):
    """Answers at once, but for prompts with "long" in them: those one by one, as it is told.

    Attributes:
        begun: The prompts, in the order in which they were asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self._open = asyncio.Semaphore(0)

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = text_of(request.messages[-1])
        self.begun.append(prompt)
        if "long" in prompt:
            await self._open.acquire()
        return await super().complete(request)

    def answer(self, count: int = 1) -> None:
        """Let so many long ones be answered."""
        for _ in range(count):
            self._open.release()


@asynccontextmanager
async def staged(calls: int, **options: Any) -> AsyncGenerator[tuple[Stage, Turnwise]]:
    """A stage whose server makes so many model calls at once."""
    model, recorder = Turnwise(), Recorder()
    async with (
        LocalServer(model=model, max_model_calls=calls, wrap=recorder.wrap) as server,
        AsyncClient(
            base_url=server.url, api_key=server.api_key, options=BatchOptions(**options)
        ) as client,
    ):
        yield await set_stage(client, server, model, recorder), model


async def begin(stage: Stage, model: Turnwise, calls: int, **arguments: Any) -> asyncio.Task[Any]:
    """A long run of 40 rows that has so many model calls in flight."""
    values = [f"long {number}" for number in range(40)]
    run = asyncio.create_task(stage.generate(values, **arguments))
    await until(lambda: len(model.begun) == calls)
    return run


async def finish(model: Turnwise, run: asyncio.Task[Batch[Any]]) -> None:
    """Let the run come to its end, and see that it lost nothing."""
    model.answer(40)
    assert len((await run).succeeded) == 40


def running(stage: Stage) -> int:
    """The jobs that the server is at."""
    service = stage.server._service
    assert service is not None
    return len(service.jobs._running)


def waiting(stage: Stage) -> int:
    """The calls that wait for a permit of the client."""
    gate = stage.client._connection.limits._gate
    return sum(len(queue) for queue in gate._queues)


async def test_a_row_has_the_servers_next_model_call() -> None:
    """Forty rows of a job wait for a model call, and the one of another job is the next."""
    async with staged(calls=4) as (stage, model):
        run = await begin(stage, model, 4)
        row = asyncio.create_task(stage.generate(["short"]))
        await until(lambda: running(stage) == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        model.answer()

        batch = await row

        assert len(batch.succeeded) == 1
        assert "short" in model.begun[4]
        await finish(model, run)


async def test_the_clients_bulk_run_leaves_a_chunk_to_others() -> None:
    """It has four chunks to send and three permits: a row is answered before any of it ends."""
    options = {"max_concurrency": 3, "chunk_size": 10}
    async with staged(calls=64, **options) as (stage, model):
        bulk = stage.client.options.replace(priority="bulk")
        run = await begin(stage, model, 20, options=bulk)

        for _ in range(3):
            assert len((await stage.generate(["short"])).succeeded) == 1

        assert not run.done()
        assert len([prompt for prompt in model.begun if "long" in prompt]) == 20
        await finish(model, run)


async def test_a_row_has_the_clients_next_chunk() -> None:
    """Two runs of its own priority hold all permits, and wait for more, when it comes."""
    options = {"max_concurrency": 4, "chunk_size": 1}
    async with staged(calls=64, **options) as (stage, model):
        # Beforehand, as an upload is a chunk too.
        long = await stage.variables([f"long {number}" for number in range(40)])
        short = await stage.variables(["short"])

        def generate(rows: Any) -> asyncio.Task[Batch[Any]]:
            responses, experiment = stage.client.responses, stage.experiment
            return asyncio.create_task(
                responses.generate_many(template_variables=rows, experiment=experiment)
            )

        first = generate(long)
        await until(lambda: len(model.begun) == 4)
        second = generate(long)
        await until(lambda: waiting(stage) == 1)
        model.answer(2)
        await until(lambda: len(model.begun) == 6 and waiting(stage) == 2)
        row = generate(short)
        await until(lambda: waiting(stage) == 3)
        model.answer()

        assert len((await row).succeeded) == 1
        assert "short" in model.begun[6]
        await asyncio.gather(finish(model, first), finish(model, second))


async def test_a_project_has_its_share_whatever_the_other_has_running() -> None:
    """Three jobs of one project wait, and the second job of another has the next call."""
    async with staged(calls=4) as (stage, model):
        run = await begin(stage, model, 4)
        more = [asyncio.create_task(stage.generate([f"short {n}"])) for n in range(2)]
        service = stage.server._service
        assert service is not None
        others = service.models.caller(2)
        await until(lambda: running(stage) == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        request = ModelRequest([{"role": "user", "content": "other"}])
        asked = asyncio.create_task(
            service.models.complete(service.models.default, request, others)
        )
        for _ in range(20):
            await asyncio.sleep(0)
        model.answer()
        await asked

        assert model.begun[4] == "other"
        await asyncio.gather(*more)
        await finish(model, run)


@pytest.mark.parametrize("permits", [1, 2, 3])
async def test_an_evaluation_of_any_priority_comes_to_its_end(permits: int) -> None:
    """Its steps have one share between them, and none waits for what another of them holds."""
    async with staged(calls=64, max_concurrency=permits, chunk_size=3) as (stage, _):
        priorities: list[Priority] = ["bulk", "interactive"]
        for priority in priorities:
            evaluation = await stage.client.evaluate(
                [{"word": f"{priority} {n}"} for n in range(20)],
                prompt="Say {{word}}",
                criteria=["Is it right?"],
                options=stage.client.options.replace(priority=priority),
            )

            assert not evaluation.failed
        assert stage.client._connection.limits.free_chunks == permits


async def test_an_evaluation_counts_as_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its upload, its responses and its ratings are on one account."""
    given: list[Share] = []
    give = FairGate._give

    def note(gate: FairGate, share: Share) -> None:
        if gate is clients:
            given.append(share)
        give(gate, share)

    monkeypatch.setattr(FairGate, "_give", note)
    async with staged(calls=64) as (stage, _):
        clients = stage.client._connection.limits._gate
        await stage.client.evaluate(
            [{"word": str(n)} for n in range(20)],
            prompt="Say {{word}}",
            criteria=["Is it right?"],
        )

    assert len(given) >= 3
    assert len({id(share) for share in given}) == 1


async def test_a_run_that_is_cancelled_gives_its_permits_back() -> None:
    """Also while it waits for one more, with its chunks in flight."""
    async with staged(calls=64, max_concurrency=3, chunk_size=10) as (stage, model):
        bulk = stage.client.options.replace(priority="bulk")
        run = await begin(stage, model, 20, options=bulk)

        run.cancel()
        with suppress(asyncio.CancelledError):
            await run

        assert len((await stage.generate(["short"])).succeeded) == 1
        assert stage.client._connection.limits.free_chunks == 3
        model.answer(40)
