"""Rows 62, 68, 69, 72, 74 and 75: limits that nobody told, long inputs, and jobs that never end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import time
import tracemalloc
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from elluminate_async import Batch, BatchOptions, OutcomeUnknownError, PromptResponse, RateLimit
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService, run_virtually
from elluminate_async.testing.exchange import Exchange, Process, Reply, ServerLimit
from elluminate_async.testing.faults import refuse
from tests.faults.inprocess import client_of, experiment_of
from tests.matrix import Fired

POSTS = "POST responses/batches"


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def scripted(**script: Any) -> ScriptedService:
    return ScriptedService(variables=lambda id: {"x": f"v{id}"}, **script)


def own(batch: Batch[PromptResponse], ids: list[int]) -> bool:
    """Whether each position holds what its own input gives."""
    return [r.response_str for r in batch] == [json.dumps({"x": f"v{id}"}) for id in ids]


@pytest.mark.row(62)
@pytest.mark.parametrize("hosted", [False, True], ids=["results", "listing"])
@pytest.mark.parametrize("quiet", ["stream", "polls"])
async def test_a_job_that_shows_nothing_new_is_given_up(
    fired: Fired, hosted: bool, quiet: str
) -> None:
    """STARTED for ever: after `job_stall` its rows count, and what has none is unknown."""
    started = 0

    async def stall(exchange: Exchange, process: Process) -> Reply:
        nonlocal started
        started += 1
        fired()
        if quiet == "polls" and exchange.route.endswith("stream"):
            return Reply(404)
        if quiet == "polls":
            return Reply(200, b'{"status": "STARTED", "error_msg": null}')
        return Reply(content_type="text/event-stream", events=heartbeats())

    async def heartbeats() -> AsyncIterator[bytes]:
        yield b'data: {"status": "STARTED", "error_msg": null}\n\n'
        while True:
            await asyncio.sleep(15)
            yield b": still here\n\n"

    service = scripted(keys=not hosted, results=not hosted)
    options = BatchOptions(chunk_size=5, job_stall=300.0, settle=30.0)
    async with client_of(service, options, latency=0.1) as client:
        experiment = await experiment_of(client)
        service.faults = [Fault(stall, on=lambda exchange: "batches/" in exchange.route)]
        begin = time.monotonic()
        batch = await client.responses.generate_many(
            template_variables=[1, 2, 3, 4, 5], experiment=experiment
        )
        seconds = time.monotonic() - begin

    assert 300 <= seconds <= 400
    assert service.traffic.requests[POSTS] == 1
    if hosted:
        assert own(batch, [1, 2, 3, 4, 5])
    else:
        assert all(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())
        assert {error.code for error in batch.failed.values()} == {"stalled"}
        assert len(batch.failed) == 5


@pytest.mark.row(62)
async def test_a_job_that_never_ends_is_bounded_by_the_deadline(fired: Fired) -> None:
    """Whatever it shows meanwhile: progress for ever moves the stall on, not the deadline."""
    count = itertools.count(1)

    async def crawl(exchange: Exchange, process: Process) -> Reply:
        fired()
        if exchange.route.endswith("stream"):
            return Reply(404)
        progress = {"processed": next(count), "total": 10**6}
        return Reply(200, json.dumps({"status": "STARTED", "progress": progress}).encode())

    service = scripted()
    service.faults = [Fault(crawl, on=lambda exchange: "responses/batches/" in exchange.route)]
    async with client_of(service, BatchOptions(job_stall=30.0, deadline=600.0)) as client:
        experiment = await experiment_of(client)
        begin = time.monotonic()
        batch = await client.responses.generate_many(
            template_variables=[1, 2, 3], experiment=experiment
        )
        seconds = time.monotonic() - begin

    assert 600 <= seconds <= 602
    assert {error.code for error in batch.failed.values()} == {"deadline"}


@dataclass
class HiddenLimit:
    """A token bucket before the chunks' POSTs that the service tells nobody about."""

    fired: Fired
    rates: dict[float, float]
    limit: ServerLimit = field(default_factory=lambda: ServerLimit(20.0, burst=20))
    began: float = 0.0
    accepted: list[float] = field(default_factory=list[float])

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        now = time.monotonic() - self.began
        self.limit.rate = [rate for since, rate in self.rates.items() if since <= now][-1]
        refusal = self.limit.admit()
        if refusal is not None:
            self.fired()
            return refusal
        self.accepted.append(now)
        return await process()

    def between(self, begin: float, end: float) -> int:
        return bisect_left(self.accepted, end) - bisect_left(self.accepted, begin)


async def two_thousand(hidden: HiddenLimit, job_seconds: float) -> float:
    """Seconds for two thousand items of one chunk each."""
    service = scripted(job_seconds=job_seconds)
    options = BatchOptions(chunk_size=1, max_concurrency=64)
    async with client_of(service, options, latency=0.2) as client:
        experiment = await experiment_of(client)
        service.faults = [Fault(hidden, on=POSTS)]
        ids = list(range(1, 2001))
        hidden.began = time.monotonic()
        batch = await client.responses.generate_many(template_variables=ids, experiment=experiment)
        seconds = time.monotonic() - hidden.began
    assert own(batch, ids)
    assert set(service.ledger.generated.values()) == {1}
    return seconds


@pytest.mark.unmeasured
@pytest.mark.row(68)
@pytest.mark.parametrize("job_seconds", [0.0, 1.5])
def test_a_hidden_limit_that_changes(fired: Fired, job_seconds: float) -> None:
    """20/s, 10/s from 30 s on, 20/s again from 80 s on: found each time within ten seconds."""
    random.seed(1)
    hidden = HiddenLimit(fired, {0.0: 20.0, 30.0: 10.0, 80.0: 20.0})

    seconds = run_virtually(lambda: two_thousand(hidden, job_seconds))

    sent = hidden.limit.admitted + hidden.limit.refused
    ideal = 80 + (2000 - 20 - 30 * 20 - 50 * 10) / 20
    assert ideal / seconds >= 0.9
    assert sent / 2000 <= 1.1
    assert hidden.between(10, 30) >= 0.9 * 20 * 20
    assert hidden.between(40, 80) >= 0.9 * 40 * 10
    assert hidden.between(90, seconds - 2) >= 0.9 * (seconds - 92) * 20


@pytest.mark.row(69)
async def test_a_strict_window_is_never_overstepped(fired: Fired) -> None:
    """Five a second, strictly: the service refuses none, and the limit is used up."""
    arrived: list[float] = []

    async def count(exchange: Exchange, process: Process) -> Reply:
        arrived.append(time.monotonic())
        fired()
        if len(arrived) > 5 and arrived[-1] - arrived[-6] < 1.0 - 1e-9:
            return Reply(429)
        return await process()

    service = scripted(faults=[Fault(count, on=lambda exchange: True)])
    options = BatchOptions(chunk_size=1, rate_limit=RateLimit(5, 1.0))
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        batch = await client.responses.generate_many(
            template_variables=list(range(1, 101)), experiment=experiment
        )

    assert not batch.failed
    assert service.traffic.statuses[429] == 0
    assert len(arrived) >= 200
    assert (len(arrived) - 1) / (arrived[-1] - arrived[0]) >= 0.95 * 5


@pytest.mark.unmeasured
@pytest.mark.row(72)
async def test_one_poisoned_item_of_ten_thousand(fired: Fired) -> None:
    """Refused with its whole chunk: halved until it stands alone, all others succeed."""

    def poisoned(exchange: Exchange) -> bool:
        return exchange.route == POSTS and b'"template_variables_id":4711,' in exchange.body

    poison = Fault(refuse(422), on=poisoned)
    service = scripted(faults=[poison])
    options = BatchOptions(chunk_size=256, chunk_bytes=1 << 24)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        batch = await client.responses.generate_many(
            template_variables=list(range(1, 10_001)), experiment=experiment
        )
    fired(times=poison.fired)

    assert list(batch.failed) == [4710]
    assert batch.failed[4710].code == "http_422"
    assert len(batch.succeeded) == 9_999
    assert set(service.ledger.generated.values()) == {1}
    chunks = -(-10_000 // 256)
    # 256 is 2^8: two requests for each halving, and the chunk itself.
    assert service.traffic.requests[POSTS] <= chunks + 2 * 8


def forget(service: ScriptedService) -> None:
    """What the service remembers is not the client's memory."""
    service._answered.clear()
    while len(service._store.jobs) > 20:
        service._store.jobs.popitem(last=False)
    service.ledger.by_key.clear()
    service.traffic._times.clear()
    del service._store._experiment_of[:]


async def peak_of_a_stream(items: int) -> tuple[int, int]:
    """Bytes that live at most while so many items stream through, and tasks at most."""
    service = scripted(retain=False)
    options = BatchOptions(chunk_size=100, max_concurrency=4)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        done = tasks = most = 0
        stream = client.responses.stream_generate_many(
            template_variables=iter(range(1, items + 1)), experiment=experiment
        )
        tracemalloc.start()
        try:
            async for position, outcome in stream:
                assert isinstance(outcome, PromptResponse)
                assert outcome.response_str == json.dumps({"x": f"v{position + 1}"})
                done += 1
                if done % 500 == 0:
                    forget(service)
                    tasks = max(tasks, len(asyncio.all_tasks()))
                    # What the collector has yet to find comes and goes by chance.
                    gc.collect()
                    most = max(most, tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert done == items
    return most, tasks


@pytest.mark.unmeasured
@pytest.mark.row(74)
def test_memory_does_not_grow_with_the_input(fired: Fired) -> None:
    """Four times the items through a stream: the same memory, and a window of tasks."""
    # Fills pydantic's cache of short texts, which is the process's and bounded.
    run_virtually(lambda: peak_of_a_stream(12_000))
    small, tasks = run_virtually(lambda: peak_of_a_stream(3_000))
    large, more_tasks = run_virtually(lambda: peak_of_a_stream(12_000))
    fired(times=27_000)

    assert large <= 1.1 * small
    assert max(tasks, more_tasks) <= 20


class Boom(Exception):
    """The caller's own."""


@pytest.mark.row(74)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_input_that_raises_midway(fired: Fired, asynchronous: bool) -> None:
    """What came until then is delivered, and then the exception, as it is and once."""

    def source() -> Iterator[int]:
        for id in itertools.count(1):
            if id == 251:
                fired()
                raise Boom
            yield id

    async def slow_source() -> AsyncIterator[int]:
        for id in source():
            await asyncio.sleep(0.5)
            yield id

    service = scripted()
    seen: list[int] = []
    async with client_of(service, BatchOptions(chunk_size=10, max_concurrency=3)) as client:
        experiment = await experiment_of(client)
        stream = client.responses.stream_generate_many(
            template_variables=slow_source() if asynchronous else source(), experiment=experiment
        )

        async def read() -> None:
            async for position, outcome in stream:
                assert isinstance(outcome, PromptResponse)
                seen.append(position)

        with pytest.raises(Boom):
            await read()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    assert sorted(seen) == list(range(len(seen)))
    # All but the window that was in flight when it raised.
    assert 250 - 10 * (3 + 2) <= len(seen) <= 250


@pytest.mark.row(75)
async def test_two_clients_of_one_host_do_not_hold_each_other(fired: Fired) -> None:
    """One is told to wait for an hour: the other has limits, holds and a pace of its own."""
    service = scripted()
    options = BatchOptions(chunk_size=1, max_retry_after=4000.0, deadline=8000.0)
    async with (
        client_of(service, options) as told,
        client_of(service, options) as other,
    ):
        experiment = await experiment_of(told)
        held = Fault(refuse(429, retry_after="3600"), on=POSTS, times=1)
        service.faults = [held]
        began = time.monotonic()

        async def generate(client: Any) -> float:
            batch = await client.responses.generate_many(
                template_variables=[1, 2, 3], experiment=experiment
            )
            assert not batch.failed
            return time.monotonic() - began

        waits = asyncio.create_task(generate(told))
        await asyncio.sleep(1)
        free = await generate(other)
        fired(times=held.fired)
        assert free <= 2
        assert await waits >= 3600
