"""A server that goes away in the midst of a batch, and a process that runs out of descriptors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from elluminate_async import AsyncClient, Batch, BatchOptions, PromptResponse
from elluminate_async.server import LocalServer, WireProfile
from tests.faults.gateway import HOSTED
from tests.faults.test_connections import refusing
from tests.flow.bench import EchoModel, Recorder, set_stage
from tests.flow.conftest import staged
from tests.matrix import Fired
from tests.server.program import environment

CLOSED = 3.0
"""Seconds that the port stays closed: far more than the back-off between three attempts."""


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.row(31)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["keys", "hosted"])
async def test_a_server_that_restarts(profile: WireProfile, tmp_path: Path, fired: Fired) -> None:
    """Its port is closed for seconds: no item is lost, none fails, and every row is there once."""
    values = [f"v{i}" for i in range(40)]
    model, recorder = EchoModel(), Recorder()
    port, key = refusing(), "a-key-of-the-test"

    def server() -> LocalServer:
        return LocalServer(
            db=tmp_path / "s.db",
            model=model,
            profile=profile,
            port=port,
            api_key=key,
            wrap=recorder.wrap,
        )

    first, second = server(), server()
    await first.__aenter__()
    options = BatchOptions(chunk_size=4, max_concurrency=3, settle=2.0)
    batches: list[Batch[PromptResponse]] = []
    async with AsyncClient(base_url=first.url, api_key=key, options=options) as client:
        stage = await set_stage(client, first, model, recorder)
        variables = await stage.variables(values)
        model.delay = 0.1

        async def run() -> None:
            batches.append(
                await client.responses.generate_many(
                    template_variables=variables, experiment=stage.experiment
                )
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await until(lambda: model.answered.total() >= 10)
            await first.__aexit__(None, None, None)
            fired()
            assert not batches
            await anyio.sleep(CLOSED)
            await second.__aenter__()
        rows = await client.responses.list(experiment=stage.experiment)
    await second.__aexit__(None, None, None)

    (batch,) = batches
    for position, value in enumerate(values):
        assert batch[position].response_str == f"echo say {value}"
    assert sorted(row.response_str for row in rows) == sorted(f"echo say {v}" for v in values)
    assert batch.surplus == ()


PROGRAM = """
import asyncio, json, os, resource, sys
from elluminate_async import AsyncClient, BatchOptions, ItemError
from elluminate_async.transport.session import Session

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

async def main(url, key, experiment, variables):
    options = BatchOptions(chunk_size=1, max_concurrency=100, deadline=60)
    refused = 0
    opened = Session.open

    async def counted(self, *args):
        nonlocal refused
        try:
            return await opened(self, *args)
        except OSError as error:
            refused += getattr(error, "errno", None) == 24
            raise

    Session.open = counted
    async with AsyncClient(base_url=url, api_key=key, options=options) as client:
        batch = await client.responses.generate_many(
            experiment=experiment, template_variables=variables
        )
        limit = client._connection.limits._gate.limit
    outcomes = [
        {"code": o.code} if isinstance(o, ItemError) else {"text": o.response_str}
        for o in batch.outcomes
    ]
    print(json.dumps({"refused": refused, "limit": limit, "outcomes": outcomes}))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.mark.row(32)
async def test_a_process_without_descriptors(fired: Fired) -> None:
    """More connections than the process may open: fewer at once from then on, and no item lost."""
    values = [f"v{i}" for i in range(90)]
    async with staged(WireProfile()) as stage:
        variables = await stage.variables(values)
        stage.model.delay = 0.05
        arguments = [
            stage.server.url,
            stage.server.api_key,
            stage.experiment.id,
            [row.id for row in variables],
        ]
        with anyio.fail_after(90):
            done = await anyio.run_process(
                [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
                env=environment(),
                check=False,
            )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    fired(times=found["refused"])

    assert found["limit"] < 100
    assert [o.get("text") for o in found["outcomes"]] == [f"echo say {value}" for value in values]
    assert set(stage.model.answered.values()) == {1}
