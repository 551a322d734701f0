"""A batch through a spoiled connection: the proxy, the service and the oracle together."""

from __future__ import annotations

import asyncio

import pytest

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.testing import VIRTUAL_TIME, FaultProxy, ScriptedService, check_batch
from elluminate_async.testing.proxy import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from tests.testing.bench import bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = BatchOptions(
    chunk_size=10,
    max_concurrency=4,
    connect_timeout=2,
    attempt_timeout=1,
    stream_silence=1,
    settle=0.5,
    deadline=30,
)

TOXICS = [
    Latency(0.05, jitter=0.05),
    Bandwidth(200_000),
    SlowClose(0.2),
    Timeout(0.1, toxicity=0.3),
    ResetPeer(toxicity=0.3),
    ResetPeer(direction="upstream", toxicity=0.3),
    Slicer(700, variation=500, delay=0.001),
    LimitData(6_000, toxicity=0.5),
]


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("toxic", TOXICS, ids=lambda toxic: type(toxic).__name__)
async def test_a_batch_through_a_toxic(toxic: Toxic, keys: bool) -> None:
    """Whatever happens to the connection, nothing is lost, swapped, foreign or paid twice."""
    toxic.fired = 0
    service = ScriptedService(keys=keys, results=keys)
    async with (
        bench(service, inputs_of(120)) as at,
        FaultProxy(service.url, seed=4) as proxy,
        AsyncClient(base_url=proxy.url, api_key=service.api_key, options=OPTIONS) as client,
    ):
        proxy.add(toxic)
        batch = await client.responses.generate_many(
            template_variables=at.variables, experiment=at.experiment
        )
        report = check_batch(batch, at.inputs, service.ledger)
    # The client keeps its connections, so the service has no end to pass on before it leaves.
    assert toxic.fired or isinstance(toxic, SlowClose)
    assert report.clean, report
    assert len(report.ok) > 30


async def test_a_service_that_goes_down_and_comes_back() -> None:
    """What was in flight is found or done again under its key; the rest follows."""
    service = ScriptedService(job_seconds=0.1)
    async with (
        bench(service, inputs_of(200)) as at,
        FaultProxy(service.url) as proxy,
        AsyncClient(base_url=proxy.url, api_key=service.api_key, options=OPTIONS) as client,
    ):

        async def outage() -> None:
            while not service.ledger.generations:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await proxy.down()
            await asyncio.sleep(0.05)
            await proxy.up()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outage())
            batch = await client.responses.generate_many(
                template_variables=at.variables, experiment=at.experiment
            )
        report = check_batch(batch, at.inputs, service.ledger)
    assert proxy.refused
    assert report.clean, report
    assert len(report.ok) > 100
