"""Jobs of experiments are begun once, whatever becomes of the answer, and told of to their end."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from pydantic import BaseModel

from elluminate_async import (
    BatchOptions,
    ConflictError,
    Experiment,
    ExperimentEvent,
    InputError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    UnsupportedError,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, reply
from tests.faults.gateway import HOSTED, Gateway, behind_gateway, in_turn, is_stream
from tests.flow.bench import Stage, until
from tests.transport.wiring import HEAD

if TYPE_CHECKING:
    from elluminate_async import OutcomeStream


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class _Annotation(BaseModel):
    annotation: str


KEYS = WireProfile()
PROFILES = pytest.mark.parametrize("profile", [KEYS, HOSTED], ids=["keys", "hosted"])
OPTIONS = BatchOptions(settle=2, attempt_timeout=3)
VALUES = ["a", "b", "c", "d"]
FAILED = {"say b", "say d"}


@asynccontextmanager
async def jobs(
    profile: WireProfile = KEYS, options: BatchOptions = OPTIONS
) -> AsyncGenerator[tuple[Stage, Gateway]]:
    """A stage with four rows, of which two fail until `Stage.model` is told otherwise."""
    async with behind_gateway(profile, options) as (stage, gateway):
        await stage.variables(VALUES)
        stage.model.failing = lambda prompt: prompt in FAILED
        gateway.requests.clear()
        yield stage, gateway


Begin: TypeAlias = Callable[[Stage], Awaitable[Experiment]]


async def run(at: Stage) -> Experiment:
    return await at.client.experiments.run(at.experiment)


async def retry(at: Stage) -> Experiment:
    return await at.client.experiments.retry_failed(at.experiment)


async def create(at: Stage) -> Experiment:
    return await at.client.experiments.create(
        "at once", prompt_template=at.template, collection=at.collection, generate=True
    )


async def ready_for(begin: Begin, at: Stage) -> dict[str, int]:
    """Make ready for one call of ``begin``; how often the model is to be asked for what."""
    if begin is retry:
        await run(at)
        at.model.failing = lambda prompt: False
        at.model.answered.clear()
        return dict.fromkeys(FAILED, 1)
    return {f"say {value}": 1 for value in VALUES}


def begins(received: Received) -> bool:
    path = received.path
    is_one = path.endswith(("/run", "/retry-failed", "/experiments"))
    return received.method == "POST" and is_one


Lose: TypeAlias = Callable[[Gateway], Script]


def bad_gateway(gateway: Gateway) -> Script:
    async def script(received: Received, connection: Connection) -> bytes:
        await gateway.passed(received)
        return reply(502)

    return script


def disconnect(gateway: Gateway) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        await gateway.passed(received)

    return script


def silence(gateway: Gateway) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        await gateway.passed(received)
        await connection.client_left()

    return script


def unreadable(gateway: Gateway) -> Script:
    async def script(received: Received, connection: Connection) -> bytes:
        await gateway.passed(received)
        return reply(200, b"<html>fine</html>")

    return script


def of_another(gateway: Gateway) -> Script:
    async def script(received: Received, connection: Connection) -> bytes:
        await gateway.passed(received)
        other = {"id": 99, "name": "another", "generation_task_id": "elsewhere"}
        return reply(200, json.dumps(other).encode())

    return script


LOSSES: list[Lose] = [bad_gateway, disconnect, silence, unreadable, of_another]


@PROFILES
@pytest.mark.parametrize("begin", [run, retry, create])
@pytest.mark.parametrize("lose", LOSSES)
async def test_a_lost_answer_does_nothing_twice(
    profile: WireProfile, begin: Begin, lose: Lose
) -> None:
    """The effect is there and its answer is not: the call ends as if it were."""
    async with jobs(profile) as (at, gateway):
        wanted = await ready_for(begin, at)
        gateway.choose = in_turn(begins, [lose(gateway)])
        experiment = await begin(at)

        assert at.model.answered == wanted
        assert experiment.results is not None
        assert experiment.results.num_failed_responses == (0 if begin is retry else 2)
        assert len(await at.client.responses.list(experiment=experiment)) == len(VALUES)
        sent = [seen.headers.get("idempotency-key") for seen in gateway.requests if begins(seen)]
        # Without keys it is never sent a second time.
        assert len(sent) - (begin is retry) == (2 if profile is KEYS else 1)
        assert len(set(sent[-2:])) == (1 if begin is not retry or profile is KEYS else 2)


@pytest.mark.parametrize("begin", [run, retry])
async def test_what_may_have_been_done_and_shows_nowhere_is_unknown(begin: Begin) -> None:
    """Without keys: it is not sent again, and the error says where to look."""
    async with jobs(HOSTED) as (at, gateway):
        await ready_for(begin, at)

        async def refused(received: Received, connection: Connection) -> bytes:
            return reply(502)

        gateway.choose = in_turn(begins, [refused])
        with pytest.raises(OutcomeUnknownError, match=r"client\.experiments\.get first"):
            await begin(at)
        assert not at.model.answered


def reads(received: Received) -> bool:
    return received.method == "GET" and "/experiments" in received.path


@pytest.mark.parametrize(("status", "is_found"), [(503, True), (404, False)])
async def test_a_look_that_fails_is_no_sign(status: int, is_found: bool) -> None:
    """An outage is waited out; of an experiment that is gone nothing can be known."""
    async with jobs(HOSTED) as (at, gateway):
        posted: list[Received] = []
        left = [reply(status)] * 2 if is_found else [reply(status)] * 99

        async def lost(received: Received, connection: Connection) -> bytes:
            posted.append(received)
            await gateway.passed(received)
            return reply(502)

        async def failing(received: Received, connection: Connection) -> bytes:
            return left.pop()

        def choose(received: Received) -> Script | None:
            if begins(received):
                return lost
            return failing if posted and reads(received) and left else None

        gateway.choose = choose
        if is_found:
            assert (await run(at)).results is not None
        else:
            with pytest.raises(OutcomeUnknownError):
                await run(at)
        assert len(posted) == 1
        assert set(at.model.answered.values()) == {1}


async def test_a_name_that_was_taken_before_tells_nothing_of_a_creation() -> None:
    """Without keys the experiment that is there is not taken for the one that was to be made."""
    async with jobs(HOSTED) as (at, gateway):
        await create(at)
        gateway.choose = in_turn(begins, [bad_gateway(gateway)])
        with pytest.raises(OutcomeUnknownError):
            await create(at)
        assert set(at.model.answered.values()) == {1}


async def test_a_job_of_another_request_is_not_followed() -> None:
    """An answer with a job that an earlier request had begun is asked for again, by its key."""
    async with jobs() as (at, gateway):
        at.model.failing = lambda prompt: False
        begun: list[bytes] = []

        async def stale(received: Received, connection: Connection) -> bytes:
            answer = await gateway.passed(received)
            found = re.search(rb'"generation_task_id":"([^"]+)"', answer)
            assert found is not None
            begun.append(found[1])
            return answer.replace(found[1], begun[0])

        gateway.choose = in_turn(begins, [stale, None, stale])
        await run(at)
        other = await at.client.experiments.create(
            "other", prompt_template=at.template, collection=at.collection
        )
        await at.client.experiments.run(other)
        assert len(begun) == 2
        followed = {seen.path.split("/")[-2] for seen in gateway.requests if is_stream(seen)}
        assert followed == {job.decode() for job in begun}


async def test_a_job_of_somebody_else_is_not_taken_for_ones_own() -> None:
    """A run that was under way before is no sign of this one, whatever it does meanwhile."""
    async with jobs(HOSTED) as (at, gateway):
        at.model.delay = 5.0
        others = asyncio.ensure_future(run(at))
        await until(lambda: bool(at.model.answered))
        gateway.choose = in_turn(begins, [bad_gateway(gateway)])
        with pytest.raises(OutcomeUnknownError):
            await run(at)
        await others
        assert set(at.model.answered.values()) == {1}


async def test_a_retry_asks_for_what_failed_and_for_nothing_else() -> None:
    """Good responses keep their ids, their texts and their ratings, and nothing is left to do."""
    async with jobs() as (at, _):
        wanted = await ready_for(retry, at)
        before = await at.client.responses.list(experiment=at.experiment)
        experiment = await retry(at)
        after = await at.client.responses.list(experiment=at.experiment)

        assert at.model.answered == wanted
        assert [row.id for row in after] == [row.id for row in before]
        assert [row for row in after if row in before] == [row for row in before if not row.error]
        assert experiment.results is not None
        assert experiment.results.num_rated_responses == len(VALUES)
        at.model.answered.clear()
        assert await retry(at) == experiment
        assert not at.model.answered


async def test_annotations_are_not_lost_unasked() -> None:
    """The refusal is typed and tells what to do; with leave it is done."""
    async with jobs() as (at, _):
        await ready_for(retry, at)
        rows = await at.client.responses.list(experiment=at.experiment)
        (failed, *_) = [row for row in rows if row.error]
        assert failed.id is not None
        path = ("responses", failed.id)
        await at.client._connection.call("PATCH", *path, body=_Annotation(annotation="mine"))
        with pytest.raises(ConflictError, match="discard_annotations"):
            await retry(at)
        assert not at.model.answered
        await at.client.experiments.retry_failed(at.experiment, discard_annotations=True)
        assert at.model.answered == dict.fromkeys(FAILED, 1)


async def events_of(stream: OutcomeStream[ExperimentEvent]) -> list[ExperimentEvent]:
    return [event async for event in stream]


async def test_a_stream_tells_progress_logs_and_the_end() -> None:
    """Figures never fall, the lines are the log, and the last event has the experiment."""
    async with jobs() as (at, _):
        at.model.slow = lambda prompt: 2.0 * VALUES.index(prompt[-1])
        events = await events_of(at.client.experiments.stream_run(at.experiment))

        last = events[-1]
        assert [event.is_terminal for event in events] == [False] * (len(events) - 1) + [True]
        counts = [event.completed_responses or 0 for event in events]
        assert counts == sorted(counts)
        assert len(set(counts)) > 2
        assert (last.status, last.total_responses) == ("SUCCESS", 4)
        assert last.experiment == await at.client.experiments.get(id=at.experiment.id)
        assert last.experiment is not None
        assert "".join(event.logs for event in events) == last.experiment.logs
        at.model.failing = lambda prompt: False
        again = await events_of(at.client.experiments.stream_retry_failed(at.experiment))
        assert again[-1].total_responses == 2
        assert again[-1].experiment is not None
        assert "".join(event.logs for event in again) == again[-1].experiment.logs
        (nothing,) = await events_of(at.client.experiments.stream_retry_failed(at.experiment))
        assert (nothing.status, nothing.total_responses) == ("SUCCESS", None)


def broken(gateway: Gateway, *, after: int, reset: bool) -> Script:
    """Passes so many events of a stream, then ends it within one, cleanly or not."""

    async def script(received: Received, connection: Connection) -> None:
        answer = await gateway.passed(received)
        events = answer.partition(b"\r\n\r\n")[2].split(b"data: ")[1 : after + 1]
        await connection.send(HEAD)
        for event in events:
            body = event.partition(b"\n\n")[0]
            await connection.send(b"data: " + body + b"\n\n")
        await connection.send(b'data: {"status": "FAIL')
        if reset:
            connection.reset()

    return script


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "ended"])
@pytest.mark.parametrize(
    ("breaks", "openings"),
    [([0], None), ([1], 2), ([2, 1], None), ([1, 0, 0], None)],
    ids=["at once", "once", "twice", "for good"],
)
async def test_a_broken_stream_is_gone_on_with(
    breaks: list[int], openings: int | None, reset: bool
) -> None:
    """No line is lost or told twice, whether the stream is opened again or the job is polled."""
    async with jobs() as (at, gateway):
        await run(at)
        at.model.failing = lambda prompt: prompt == "say d"
        at.model.slow = lambda prompt: 1.5  # before the gateway is too slow
        gateway.requests.clear()
        scripts = [broken(gateway, after=after, reset=reset) for after in breaks]
        gateway.choose = in_turn(is_stream, scripts)
        events = await events_of(at.client.experiments.stream_retry_failed(at.experiment))

        last = events[-1]
        assert last.status == "SUCCESS"
        assert last.experiment is not None
        logs = last.experiment.logs or ""
        assert logs.count("\n") == 3
        assert "".join(event.logs for event in events) == logs
        assert sum(event.is_terminal for event in events) == 1
        streams = sum(map(is_stream, gateway.requests))
        assert openings in (None, streams)


async def test_a_slow_reader_is_no_stall_of_the_job() -> None:
    """Its time does not count; that in which the job shows nothing new does."""
    async with jobs(options=OPTIONS.replace(job_stall=5)) as (at, _):
        at.model.slow = lambda prompt: 3.0 * VALUES.index(prompt[-1])
        seen: list[str] = []
        async for event in at.client.experiments.stream_run(at.experiment):
            seen.append(event.status)
            await anyio.sleep(20)
        assert seen[-1] == "SUCCESS"
        at.model.failing = lambda prompt: False
        at.model.slow = lambda prompt: 30.0
        with pytest.raises(OutcomeUnknownError, match="nothing new for 5 s"):
            await events_of(at.client.experiments.stream_retry_failed(at.experiment))


@pytest.mark.parametrize("status", ["FAILURE", "REVOKED", "REJECTED", "TIMEOUT"])
async def test_another_end_is_an_event_and_then_an_error(status: str) -> None:
    """So nobody who only reads the events takes a run that failed for a good one."""
    async with jobs() as (at, gateway):

        async def ends(received: Received, connection: Connection) -> None:
            await connection.send(HEAD)
            told = {"status": status, "error_msg": "so it is", "logs_delta": "last words\n"}
            await connection.send(f"data: {json.dumps(told)}\n\n".encode())

        gateway.choose = lambda received: ends if is_stream(received) else None
        stream = at.client.experiments.stream_run(at.experiment)
        last = await anext(stream)
        assert (last.status, last.error_msg) == (status, "so it is")
        assert last.logs.startswith("last words\n")
        with pytest.raises(JobError, match="so it is") as caught:
            await anext(stream)
        assert caught.value.job_status == status


async def test_a_watcher_leaves_the_job_alone() -> None:
    """However the watch ends, nothing is cancelled; where no job runs it ends at once."""
    async with jobs() as (at, gateway):
        experiments = at.client.experiments
        assert await events_of(experiments.stream(at.experiment)) == []
        at.model.delay = 20.0
        running = asyncio.ensure_future(run(at))
        await until(lambda: len(at.model.answered) == len(VALUES))
        async with experiments.stream(at.experiment) as stream:
            assert (await anext(stream)).status == "STARTED"
        with pytest.raises(OutcomeUnknownError, match="goes on at the service"):
            await events_of(experiments.stream(at.experiment, timeout=2))
        begun = await experiments.get(id=at.experiment.id)
        last = (await events_of(experiments.stream(begun)))[-1]
        assert last.status == "SUCCESS"
        await running
        # The job of the answer has ended, and its end is told of all the same.
        (late,) = await events_of(experiments.stream(begun))
        assert late.status == "SUCCESS"
        assert late.logs == last.logs
        assert not [seen for seen in gateway.requests if seen.method == "DELETE"]
        with pytest.raises(NotFoundError):
            await events_of(experiments.stream(99))


@pytest.mark.parametrize("end", ["left", "deadline", "cancelled"])
async def test_who_began_a_job_and_leaves_has_it_cancelled(end: str) -> None:
    """The model is left alone, and what was not done is done by a retry, once."""
    async with jobs() as (at, _):
        at.model.failing = lambda prompt: False
        at.model.slow = lambda prompt: 0.1 if prompt in FAILED else 60.0
        experiments = at.client.experiments
        if end == "left":
            async with experiments.stream_run(at.experiment) as stream:
                async for event in stream:
                    if event.completed_responses == 2:
                        break
        elif end == "deadline":
            with pytest.raises(OutcomeUnknownError, match="was cancelled"):
                await experiments.run(at.experiment, timeout=5)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await experiments.run(at.experiment)
        await anyio.sleep(1)
        there = await experiments.get(id=at.experiment.id)
        assert there.generation_task_id is None
        assert (there.logs or "").startswith("cancelled, with 2 of 4 items done")
        at.model.delay = 0.0
        at.model.slow = lambda prompt: 0.0
        at.model.answered.clear()
        assert (await retry(at)).results is not None
        assert at.model.answered == {"say a": 1, "say c": 1}


async def test_a_stream_that_is_dropped_has_its_job_cancelled_too() -> None:
    """Nobody reads it any more, though nobody has closed it."""
    async with jobs() as (at, _):
        at.model.slow = lambda prompt: 3.0 if prompt in FAILED else 60.0
        stream = at.client.experiments.stream_run(at.experiment)
        await anext(stream)
        await anyio.sleep(5)  # the next event waits for a reader
        del stream
        gc.collect()
        await anyio.sleep(1)
        there = await at.client.experiments.get(id=at.experiment.id)
        assert (there.logs or "").startswith("cancelled, with 2 of 4")


async def test_a_run_without_an_answer_is_cancelled_by_its_key() -> None:
    """The deadline passes while the answer is on its way: what the POST began is ended."""
    async with jobs(options=OPTIONS.replace(attempt_timeout=60)) as (at, gateway):
        at.model.delay = 30.0
        gateway.choose = in_turn(begins, [silence(gateway)])
        with pytest.raises(OutcomeUnknownError):
            await at.client.experiments.run(at.experiment, timeout=5)
        await anyio.sleep(1)
        there = await at.client.experiments.get(id=at.experiment.id)
        assert (there.logs or "").startswith("cancelled, with 0 of 4")


async def test_a_run_has_the_epochs_of_its_experiment() -> None:
    """Of the object or of its id, unless it is given others; a stream's run too."""
    async with jobs() as (at, _):
        at.model.failing = lambda prompt: prompt in {"say b", "say c", "say d"}
        experiments = at.client.experiments

        async def defined(name: str) -> Experiment:
            return await experiments.create(
                name, prompt_template=at.template, collection=at.collection, n_epochs=3
            )

        first, second, third, fourth = [await defined(name) for name in "1234"]
        ran = [await experiments.run(first), await experiments.run(second.id)]
        await events_of(experiments.stream_run(third.id))
        ran += [await experiments.get(id=third.id), await experiments.run(fourth, n_epochs=2)]
        assert [one.n_epochs for one in ran] == [3, 3, 3, 2]
        rows = [len(await at.client.responses.list(experiment=one)) for one in ran]
        assert rows == [12, 12, 12, 8]


async def test_where_all_failed_the_map_tells_it() -> None:
    """There are no results then, as nothing was rated."""
    async with jobs() as (at, _):
        at.model.failing = lambda prompt: True
        with suppress(JobError):
            assert (await run(at)).results is None
        samples = await at.client.experiments.map(at.experiment)
        assert sum(one.has_error for row in samples for one in row.responses) == len(VALUES)


async def begin_run(at: Stage) -> Experiment:
    return await at.client.experiments.run(at.experiment, wait=False)


async def begin_retry(at: Stage) -> Experiment:
    return await at.client.experiments.retry_failed(at.experiment, wait=False)


async def begin_new(at: Stage) -> Experiment:
    return await at.client.experiments.create(
        "at once", prompt_template=at.template, collection=at.collection, generate=True, wait=False
    )


@pytest.mark.parametrize("begin", [begin_run, begin_retry, begin_new])
async def test_a_job_that_nobody_waits_for_goes_on(begin: Begin) -> None:
    """It is begun once, also of an answer that was lost; leaving it cancels nothing."""
    async with jobs() as (at, gateway):
        if begin is begin_retry:
            await run(at)
        at.model.failing = lambda prompt: False
        at.model.delay = 10.0
        at.model.answered.clear()
        gateway.choose = in_turn(begins, [bad_gateway(gateway)])
        async with asyncio.timeout(5):
            begun = await begin(at)
        assert begun.generation_task_id is not None
        with pytest.raises(OutcomeUnknownError, match="goes on at the service"):
            await at.client.experiments.wait(begun.id, timeout=2)

        ended = await at.client.experiments.wait(begun)
        assert ended.results is not None
        assert ended.results.num_rated_responses == len(VALUES)
        assert at.model.answered == dict.fromkeys(
            FAILED if begin is begin_retry else [f"say {value}" for value in VALUES], 1
        )
        assert not [seen for seen in gateway.requests if seen.method == "DELETE"]
        # With nothing to wait for, or to do, nothing is waited for.
        assert await at.client.experiments.wait(begun.id) == ended
        assert await at.client.experiments.retry_failed(begun, wait=False) == ended


async def test_a_job_is_cancelled_by_whom_it_is_known_to() -> None:
    """Rows that are done stay, who waits is told, and a retry goes on with the rest."""
    async with jobs() as (at, _):
        experiments = at.client.experiments
        at.model.failing = lambda prompt: False
        at.model.slow = lambda prompt: 0.1 if prompt in FAILED else 60.0
        begun = await begin_run(at)
        waiting = asyncio.ensure_future(experiments.wait(begun))
        await anyio.sleep(5)
        with pytest.raises(ConflictError, match="cancel it"):
            await begin_retry(at)

        cancelled = await experiments.cancel(at.experiment.id)
        assert (cancelled.generation_task_id, cancelled.results is not None) == (None, True)
        with pytest.raises(JobError, match="2 of 4 items done") as caught:
            await waiting
        assert caught.value.job_status == "REVOKED"
        # Of what has ended nothing changes.
        assert await experiments.cancel(begun) == cancelled
        at.model.slow = lambda prompt: 0.0
        at.model.answered.clear()
        await retry(at)
        assert at.model.answered == {"say a": 1, "say c": 1}
        with pytest.raises(NotFoundError):
            await experiments.cancel(99)


async def test_what_cannot_be_cancelled_is_not_asked_for() -> None:
    """Where the service does not say that it can: the error is typed, and the job goes on."""
    async with jobs(HOSTED) as (at, gateway):
        at.model.delay = 5.0
        begun = await begin_run(at)
        with pytest.raises(UnsupportedError, match=r"client\.experiments\.wait"):
            await at.client.experiments.cancel(begun)
        assert not [seen for seen in gateway.requests if seen.method == "DELETE"]
        assert (await at.client.experiments.wait(begun)).results is not None


async def test_arguments_are_checked_before_anything_is_sent() -> None:
    """By the call, also where a stream would send only at its first step."""
    async with jobs() as (at, gateway):
        experiments = at.client.experiments
        bad: list[Callable[[], Any]] = [
            lambda: experiments.stream_run(at.experiment, timeout=-1),
            lambda: experiments.stream(at.experiment, timeout=float("nan")),
            lambda: experiments.stream_retry_failed("x"),  # pyright: ignore[reportArgumentType]
            lambda: experiments.stream_run(at.experiment, rating_mode="odd"),  # pyright: ignore[reportArgumentType]
        ]
        for call in bad:
            with pytest.raises(InputError):
                call()
        assert gateway.requests == []
