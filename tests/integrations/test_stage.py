"""`Stage`: a client in a loop of its own, whatever happens to the thread that calls it."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.errors import ClientClosedError, ConfigurationError
from elluminate_async.integrations.stage import Connect, Stage
from elluminate_async.server import LocalServer

T = TypeVar("T")


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Connect]:
    async with LocalServer() as server:
        monkeypatch.setenv("ELLUMINATE_API_KEY", server.api_key)
        yield Connect(server.url)


async def in_a_thread(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function)


async def names(client: AsyncClient) -> list[str]:
    return [project.name for project in await client.projects.list()]


async def test_calls_share_one_client(connect: Connect) -> None:
    """The client is made with the first call, by the key of the environment, and stays."""
    seen: list[AsyncClient] = []

    async def look(client: AsyncClient) -> list[str]:
        seen.append(client)
        return await names(client)

    with Stage(connect) as stage:
        assert await in_a_thread(lambda: stage.call(look)) == await in_a_thread(
            lambda: stage.call(look)
        )

    assert seen[0] is seen[1]


def test_the_clock_goes_on_while_the_worker_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who blocks the thread that calls, and any loop there, does not stop the client's loop."""
    monkeypatch.setenv("ELLUMINATE_API_KEY", "any")
    beaten, beats = threading.Event(), 0

    async def begin(_: AsyncClient) -> None:
        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1
                if beats == 20:
                    beaten.set()

        beating.append(asyncio.create_task(beat()))

    beating: list[asyncio.Task[None]] = []

    async def blocked() -> bool:
        stage.call(begin)
        return beaten.wait(60)

    with Stage(Connect("http://127.0.0.1:9")) as stage:
        assert asyncio.run(blocked())


async def test_the_end_of_a_stage_closes_its_client(connect: Connect) -> None:
    """What still runs is cancelled, and its thread ends."""
    stage, ended = Stage(connect), threading.Event()

    async def forever(client: AsyncClient) -> None:
        try:
            clients.append(client)
            begun.set()
            await asyncio.sleep(1_000)
        finally:
            ended.set()

    clients: list[AsyncClient] = []
    begun = threading.Event()

    def wait() -> bool:
        try:
            stage.call(forever)
        except BaseException as error:
            return type(error).__name__ == "CancelledError"
        return False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_a_thread, wait)
        assert await in_a_thread(partial(begun.wait, 60))
        await in_a_thread(stage.close)

    assert ended.is_set()
    assert not [t for t in threading.enumerate() if t.name == "elluminate-async stage"]
    with pytest.raises(ClientClosedError):
        await clients[0].projects.list()


def test_a_worker_without_a_key_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of the client, from the first call."""
    monkeypatch.delenv("ELLUMINATE_API_KEY", raising=False)
    with (
        Stage(Connect("http://127.0.0.1:9")) as stage,
        pytest.raises(ConfigurationError, match="ELLUMINATE_API_KEY"),
    ):
        stage.call(names)


def test_only_how_it_connects_is_pickled() -> None:
    """A stage belongs to its process, and its settings have no key in them."""
    connect = Connect("http://127.0.0.1:9", "project", BatchOptions(chunk_size=5))

    assert pickle.loads(pickle.dumps(connect)) == connect
    with pytest.raises(TypeError, match="Connect"):
        pickle.dumps(Stage(connect))
