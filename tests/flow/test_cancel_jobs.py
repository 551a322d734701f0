"""A call that ends early stops the spending: its jobs are cancelled, or their places stay taken."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ElluminateError,
    Experiment,
    OutcomeUnknownError,
    Progress,
)
from elluminate_async.limits.breaker import DOUBT
from elluminate_async.server import LocalServer, ModelAnswer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME, ScriptedService
from tests.faults.inprocess import client_of, experiment_of
from tests.flow.bench import Boom, Recorder, Seen, answer, is_batch

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Send

    from elluminate_async.server import ModelRequest
    from elluminate_async.testing.exchange import Exchange
    from elluminate_async.testing.service import Behaviour


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = BatchOptions(chunk_size=5, max_concurrency=2, settle=0.5)
WITHIN = 1.0
ROWS = 20


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fail after a minute."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Meter:
    """A model and a judge that count; those of the first calls answer, the others never do.

    Attributes:
        left: Calls that are answered from now on.
        active: Calls in flight.
        begun: Calls by what they ask.
        done: Answers by what was asked.
    """

    name = "meter"

    def __init__(self) -> None:
        self.left = ROWS
        self.active = 0
        self.begun = Counter[str]()
        self.done = Counter[str]()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = str(request.messages)
        self.begun[prompt] += 1
        self.active += 1
        try:
            if self.left <= 0:
                await asyncio.Future[None]()
            self.left -= 1
            await asyncio.sleep(0)
        finally:
            self.active -= 1
        self.done[prompt] += 1
        if request.json_schema is None:
            return ModelAnswer("fine", input_tokens=1, output_tokens=1)
        keys = request.json_schema.schema["properties"]
        verdicts = ",".join(f'"{key}":{{"verdict":"YES","reasoning":"so"}}' for key in keys)
        return ModelAnswer(f"{{{verdicts}}}")

    def forget(self, left: int) -> None:
        self.begun.clear()
        self.done.clear()
        self.left = left

    async def aclose(self) -> None:
        pass


@dataclass(slots=True)
class Scene:
    client: AsyncClient
    server: LocalServer
    model: Meter
    recorder: Recorder
    experiment: Experiment
    rows: list[int]

    def generate(self, **arguments: Any) -> Awaitable[Batch[Any]]:
        return self.client.responses.generate_many(
            template_variables=self.rows, experiment=self.experiment, **arguments
        )

    async def statuses(self) -> Counter[str]:
        """The jobs by their status."""
        service = self.server._service
        assert service is not None

        def read(connection: Any) -> list[str]:
            found = connection.exec_driver_sql("SELECT status FROM jobs")
            return [status for (status,) in found]

        return Counter(await service.database.read(read))


@asynccontextmanager
async def scene(
    profile: WireProfile | None = None, *, calls: int = 64, options: BatchOptions = OPTIONS
) -> AsyncGenerator[Scene]:
    model, recorder = Meter(), Recorder()
    async with (
        LocalServer(
            model=model, profile=profile, wrap=recorder.wrap, max_model_calls=calls
        ) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client,
    ):
        experiment = await experiment_of(client)
        assert experiment.prompt_template is not None
        await client.criteria.add_many(["is it so?"], prompt_template=experiment.prompt_template)
        rows = await client.template_variables.add_many(
            [{"x": f"v{i}"} for i in range(ROWS)],
            collection=(await client.collections.get_or_create("values"))[0],
        )
        recorder.requests.clear()
        yield Scene(client, server, model, recorder, experiment, [row.id for row in rows])


End: TypeAlias = Callable[[Scene, Callable[[], bool]], Awaitable[None]]


async def by_its_task(at: Scene, ready: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(at.generate())
    await until(ready)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_timeout(at: Scene, ready: Callable[[], bool]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await at.generate()


async def by_its_deadline(at: Scene, ready: Callable[[], bool]) -> None:
    batch = await at.generate(options=OPTIONS.replace(deadline=5))
    assert {error.code for error in batch.failed.values()} == {"deadline"}


async def by_leaving_a_stream(at: Scene, ready: Callable[[], bool]) -> None:
    stream = at.client.responses.stream_generate_many(
        template_variables=at.rows, experiment=at.experiment
    )
    async with stream:
        first = asyncio.ensure_future(anext(stream))
        await until(ready)
        first.cancel()
        await asyncio.wait({first})


async def by_closing_the_client(at: Scene, ready: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(at.generate())
    await until(ready)
    await at.client.close()
    with pytest.raises(ElluminateError):
        await task


ENDS: list[End] = [
    by_its_task,
    by_a_timeout,
    by_its_deadline,
    by_leaving_a_stream,
    by_closing_the_client,
]


@pytest.mark.parametrize("end", ENDS)
async def test_the_model_is_left_alone_within_a_second(end: End) -> None:
    """Whatever ends a call: calls in flight are abandoned, those not begun are never made."""
    async with scene(calls=8) as at:
        at.model.left = 0
        await end(at, lambda: at.model.active == 8)
        ended = time.monotonic()
        await until(lambda: not at.model.active)
        assert time.monotonic() - ended <= WITHIN
        await asyncio.sleep(90)

        # Of the two chunks that were sent; one may get the turns of the other in between.
        assert at.model.begun.total() <= 10
        assert await at.statuses() == {"REVOKED": 2}
        assert at.client._connection.tasks == set()


async def test_a_callback_that_raises_stops_the_spending(tmp_path: Path) -> None:
    """One chunk is done when it raises; the other is cancelled, and the rest never sent."""

    def raising(progress: Progress) -> None:
        if progress.done:
            raise Boom

    async with scene() as at:
        at.model.left = 5
        with pytest.raises(Boom):
            await at.generate(options=OPTIONS.replace(on_progress=raising))
        await until(lambda: not at.model.active)

        assert await at.statuses() in ({"SUCCESS": 1, "REVOKED": 1}, {"SUCCESS": 1})
        assert at.model.begun.total() <= 10
        assert at.client._connection.limits.free_chunks == 2


@pytest.mark.parametrize("include", ["journal", "retry"])
async def test_what_a_cancelled_call_had_done_is_done_once(include: str, tmp_path: Path) -> None:
    """Gone on with: the rows that are there are taken, the rest is sent, none is made twice."""
    async with scene(calls=8) as at:
        at.model.left = 6
        journal: dict[str, Any] = {"journal": tmp_path / "run"} if include == "journal" else {}
        batch = await at.generate(options=OPTIONS.replace(deadline=5), **journal)
        assert len(batch.failed) >= ROWS - 6
        assert at.model.done.total() == 6
        abandoned = at.model.begun.total() - 6
        assert abandoned

        at.model.left = ROWS
        if include == "journal":
            batch = await at.generate(**journal)
        else:
            await batch.retry_failed(options=OPTIONS)

        assert not batch.failed
        assert set(at.model.done.values()) == {1}
        assert at.model.begun.total() == ROWS + abandoned
        found = await at.client.responses.list(experiment=at.experiment)
        assert sorted(row.id for row in found) == sorted(row.id for row in batch)
        assert len(found) == ROWS


@pytest.mark.parametrize(
    "profile",
    [WireProfile(), WireProfile(page_size=7, listing_seed=3, results_with_status=False)],
    ids=["results", "listing"],
)
async def test_a_cancelled_journal_is_taken_up(profile: WireProfile, tmp_path: Path) -> None:
    """Cancelled three times, at any moment, and then whole: each row is made once."""
    async with scene(profile, calls=4) as at:
        for left in (3, 4, 2):
            at.model.left = left
            task = asyncio.ensure_future(at.generate(journal=tmp_path / "run"))
            await until(lambda: at.model.left == 0 and at.model.active >= 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not at.model.active)
        at.model.left = ROWS
        batch = await at.generate(journal=tmp_path / "run")

        assert not batch.failed
        assert set(at.model.done.values()) == {1}
        found = await at.client.responses.list(experiment=at.experiment)
        assert [row.id for row in batch] == [
            row.id for _, row in sorted((at.rows.index(_row_of(r)), r) for r in found)
        ]
        again = await at.generate(journal=tmp_path / "run")
        assert [row.id for row in again] == [row.id for row in batch]
        assert set(at.model.done.values()) == {1}


def _row_of(response: Any) -> int:
    return response.prompt.template_variables.id


@pytest.mark.parametrize(
    "profile", [WireProfile(), WireProfile(results_with_status=False)], ids=["results", "listing"]
)
async def test_ratings_of_a_cancelled_call_are_made_once(
    profile: WireProfile, tmp_path: Path
) -> None:
    """A response that was rated keeps its rating, the others get theirs."""
    async with scene(profile, calls=4) as at:
        responses = await at.generate()
        at.model.forget(7)
        task = asyncio.ensure_future(
            at.client.ratings.rate_many(responses, journal=tmp_path / "run")
        )
        await until(lambda: at.model.left == 0 and at.model.active >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        at.model.left = ROWS
        batch = await at.client.ratings.rate_many(responses, journal=tmp_path / "run")

        assert not batch.failed
        assert set(at.model.done.values()) == {1}
        rows = await at.client.responses.list(experiment=at.experiment)
        assert [len(row.ratings) for row in rows] == [1] * ROWS


async def test_a_job_whose_id_never_came_is_cancelled_by_its_key() -> None:
    """The answer to the POST was still awaited: what it began ends all the same."""
    async with scene() as at:
        at.model.left = 0

        async def swallow(seen: Seen, send: Send) -> bool:
            if not is_batch(seen):
                return False
            await anyio.sleep_forever()
            return True

        at.recorder.after = swallow
        await by_its_task(at, lambda: at.model.active == 10)
        await until(lambda: not at.model.active)

        assert await at.statuses() == {"REVOKED": 2}
        assert at.client._connection.limits.free_chunks == 2


async def test_somebody_else_may_cancel_a_job() -> None:
    """What it had done is there; the rest has the code ``revoked``, and is sent again on demand."""
    async with scene() as at:
        at.model.left = 3
        task = asyncio.ensure_future(at.generate())
        await until(lambda: at.model.active == 7)
        service = at.server._service
        assert service is not None
        at.model.left = ROWS
        for job in [*service.jobs._running]:
            await service.jobs.revoke(job)
        batch = await task

        assert {error.code for error in batch.failed.values()} == {"revoked"}
        assert len(batch.failed) == 7
        assert all(error.retryable for error in batch.failed.values())
        await batch.retry_failed()
        assert not batch.failed
        assert set(at.model.done.values()) == {1}


@pytest.mark.parametrize("what", ["generate", "rate"])
async def test_a_single_call_that_is_cancelled_is_abandoned(what: str) -> None:
    """Its model call ends within a second, and nothing of it is kept."""
    async with scene() as at:
        (response,) = await at.client.responses.generate_many(
            template_variables=at.rows[:1], experiment=at.experiment
        )
        at.model.left = 0

        async def call() -> object:
            if what == "rate":
                return await at.client.ratings.rate(response)
            return await at.client.responses.generate(
                template_variables=at.rows[1], experiment=at.experiment
            )

        task = asyncio.ensure_future(call())
        await until(lambda: at.model.active == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended = time.monotonic()
        await until(lambda: not at.model.active)

        assert time.monotonic() - ended <= WITHIN
        rows = await at.client.responses.list(experiment=at.experiment)
        assert [(row.id, row.ratings) for row in rows] == [(response.id, [])]


async def test_a_single_call_past_its_deadline_is_abandoned() -> None:
    """It raises, as before, that nothing tells what became of it."""
    async with scene() as at:
        at.model.left = 0
        with pytest.raises(OutcomeUnknownError):
            await at.client.responses.generate(
                template_variables=at.rows[0],
                experiment=at.experiment,
                options=OPTIONS.replace(deadline=2),
            )
        await until(lambda: not at.model.active)


async def test_a_cancellation_that_fails_costs_a_second_and_a_place() -> None:
    """The DELETE is not answered: the call ends all the same, and the job's place stays taken."""
    async with scene(options=OPTIONS.replace(max_concurrency=1)) as at:
        at.model.left = 0

        async def unanswered(seen: Seen, send: Send) -> bool:
            if seen.method != "DELETE":
                return False
            await anyio.sleep_forever()
            return True

        at.recorder.before = unanswered
        task = asyncio.ensure_future(at.generate())
        await until(lambda: at.model.active == 5)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began <= WITHIN + 0.1
        assert at.client._connection.limits.free_chunks == 0

        service = at.server._service
        assert service is not None
        for job in [*service.jobs._running]:
            await service.jobs.revoke(job)
        await until(lambda: at.client._connection.limits.free_chunks == 1)


@pytest.mark.parametrize("end", [by_its_task, by_closing_the_client])
async def test_a_service_that_is_away_for_a_moment_cancels_all_the_same(end: End) -> None:
    """The DELETE goes again within its second, though an outage holds all else back."""
    async with scene() as at:
        at.model.left = 0
        first: list[float] = []

        async def away(seen: Seen, send: Send) -> bool:
            if seen.method == "DELETE":
                first[:] = first or [seen.at]
                if seen.at - first[0] < 0.6:
                    await answer(send, 503)
                    return True
            return False

        def ready() -> bool:
            if at.model.active < 10:
                return False
            for _ in range(DOUBT):
                at.client._connection.limits.failed("gone")
            return True

        at.recorder.before = away
        began = time.monotonic()
        await end(at, ready)
        assert time.monotonic() - began <= WITHIN + 0.1
        assert await at.statuses() == {"REVOKED": 2}
        assert not at.model.active


class Running:
    """Counts the jobs that run at a scripted service whenever one more is asked for."""

    def __init__(self, service: ScriptedService) -> None:
        self._service = service
        self.most = 0

    def take(self, exchange: Exchange) -> Behaviour | None:
        if exchange.route == "POST responses/batches":
            jobs = self._service._store.jobs.values()
            self.most = max(self.most, 1 + sum(not job.ended for job in jobs))
        return None


def scripted(**script: Any) -> ScriptedService:
    return ScriptedService(variables=lambda id: {"x": f"v{id}"}, **script)


@pytest.mark.parametrize("keys", [True, False])
async def test_the_bound_holds_for_what_really_runs(keys: bool) -> None:
    """Forty calls, half of which hang up, on a service that cannot cancel: never above 3 jobs."""
    service = scripted(cancels=False, keys=keys, results=keys, job_seconds=5.0)
    running = Running(service)
    service.faults = [running]
    options = BatchOptions(chunk_size=1, max_concurrency=3, settle=0.1)
    async with client_of(service, options, latency=0.02) as client:
        experiment = await experiment_of(client)

        async def call(number: int) -> int:
            seconds = 0.3 + number % 7 if number % 2 else 300.0
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    batch = await client.responses.generate_many(
                        template_variables=[number + 1], experiment=experiment
                    )
                    return len(batch.succeeded)
            return 0

        came = await asyncio.gather(*map(call, range(40)))
        assert sum(came) >= 20
        assert running.most == 3
        await asyncio.sleep(61)
        assert client._connection.limits.free_chunks == 3
        assert client._connection.tasks == set()


async def test_a_place_is_given_back_after_a_minute() -> None:
    """Of a job that never ends, as of one whose id never came; closing waits for neither."""
    service = scripted(cancels=False, job_seconds=10_000.0)
    async with client_of(service, OPTIONS, latency=0.02) as client:
        experiment = await experiment_of(client)
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await client.responses.generate_many(
                        template_variables=[*range(1, 11)], experiment=experiment
                    )
            assert client._connection.limits.free_chunks == 0
            asked = service.traffic.total
            await asyncio.sleep(59)
            assert client._connection.limits.free_chunks == 0
            assert service.traffic.total - asked < 2 * 20
            await asyncio.sleep(2)
            assert client._connection.limits.free_chunks == 2
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await client.responses.generate_many(template_variables=[1], experiment=experiment)
        began = time.monotonic()
    assert time.monotonic() - began < WITHIN


async def test_a_service_that_cannot_cancel_is_not_asked_to() -> None:
    """No DELETE leaves for it, as for the hosted one."""
    async with scene(WireProfile.hosted()) as at:
        at.model.left = 0
        await by_its_task(at, lambda: at.model.active == 10)
        assert at.recorder.count("", "DELETE") == 0


async def test_what_was_not_sent_asks_for_nothing() -> None:
    """A call that is cancelled while it waits for its permit sends no DELETE."""
    async with scene(options=OPTIONS.replace(max_concurrency=1)) as at:
        at.model.left = 0
        first = asyncio.ensure_future(at.generate())
        await until(lambda: at.model.active == 5)
        second = asyncio.ensure_future(at.generate())
        await asyncio.sleep(1)
        second.cancel()
        await asyncio.wait({second})
        assert at.recorder.count("", "DELETE") == 0
        first.cancel()
        await asyncio.wait({first})
        assert at.recorder.count("", "DELETE") == 1
