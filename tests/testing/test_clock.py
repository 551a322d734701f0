"""Virtual time: it jumps over waiting, and not over work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest

from elluminate_async import AsyncClient
from elluminate_async.engine.threads import run_to_end
from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME

Threading = Callable[[Callable[[], object]], Awaitable[object]]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def by_executor(work: Callable[[], object]) -> object:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def by_anyio(work: Callable[[], object]) -> object:
    return await anyio.to_thread.run_sync(work)


async def by_submission(work: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (work(), loop.call_soon_threadsafe(done.set)))
        await done.wait()


@pytest.mark.parametrize("by", [by_executor, by_anyio, by_submission, run_to_end])
async def test_the_clock_stands_still_while_a_thread_works(by: Threading) -> None:
    """A timer of an hour does not run out, however long the thread takes for its work."""
    begun, worked = time.monotonic(), threading.Event()
    hour = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)

    def work() -> None:
        # Many times as long as silent sockets are waited for.
        worked.wait(0.2)

    await by(work)

    assert time.monotonic() - begun < 1
    await hour
    assert time.monotonic() - begun == pytest.approx(3600, abs=0.1)


async def test_an_embedded_server_runs_in_it() -> None:
    """Its database works in threads, and no clock of its client runs out meanwhile."""
    begun = time.monotonic()
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        await client.collections.create("one")
        names = [collection.name for collection in await client.collections.list()]

    assert names == ["one"]
    assert time.monotonic() - begun < 5
