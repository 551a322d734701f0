"""Copies of one server, an operation done on each of them, by either client."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer
from tests.flow.bench import EchoModel
from tests.official.differential.canonical import Fact, Recording, stored
from tests.official.differential.given import given, seed
from tests.official.differential.registry import OPERATIONS
from tests.official.test_official_clients import KEY, official

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

OPENING = "open a client"
_AT_ONCE = 16

Side: TypeAlias = "dict[str, list[Fact]]"
"""The facts of each operation."""


def server_of(db: Path, model: EchoModel, recording: Recording) -> LocalServer:
    """One that does the same each time: a call of its model after the other."""
    return LocalServer(db=db, model=model, api_key=KEY, max_model_calls=1, wrap=recording.wrap)


async def seeded(folder: Path) -> None:
    """Make the store that all begin with."""
    model = EchoModel()
    model.failing = lambda prompt: "bad" in prompt
    server = server_of(folder / "s.db", model, Recording())
    async with server, AsyncClient(base_url=server.url, api_key=KEY) as client:
        await seed(client)


async def by_the_sdk(folder: Path, store: Path) -> Side:
    """Each operation by this SDK."""
    async with (
        copy_of(store, folder / "objects") as (server, _),
        AsyncClient(base_url=server.url, api_key=KEY) as client,
    ):
        objects = await given(client)

    async def done(name: str, url: str) -> Any:
        async with AsyncClient(base_url=url, api_key=KEY) as client:
            return await OPERATIONS[name](client, objects)

    return await _each(folder, store, done)


async def by_the_official(folder: Path, store: Path) -> Side:
    """Each operation by the official client, all in one process."""
    answers: dict[str, asyncio.Future[Any]] = {}
    process = await official("1.5.2", "operations_1_5_2.py")
    assert process.stdin is not None
    assert process.stdout is not None

    async def listen(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            name, answer = json.loads(line)
            answers[name].set_result(answer)

    async def done(name: str, url: str) -> Any:
        assert process.stdin is not None
        answer = answers[name] = asyncio.get_running_loop().create_future()
        process.stdin.write(f"{json.dumps([name, url])}\n".encode())
        await asyncio.wait([answer, listening], return_when=asyncio.FIRST_COMPLETED)
        assert answer.done(), f"the program has ended; it was asked to {name}"
        return answer.result()

    listening = asyncio.create_task(listen(process.stdout))
    try:
        async with copy_of(store, folder / "objects") as (server, _):
            assert await done("", server.url) == sorted(OPERATIONS)
        found = await _each(folder, store, done)
    finally:
        process.stdin.close()
        await listening
        code = await process.wait()
    assert code == 0
    return found


@asynccontextmanager
async def copy_of(store: Path, folder: Path) -> AsyncGenerator[tuple[LocalServer, Recording]]:
    """A server with a copy of the store."""
    shutil.copytree(store, folder)
    recording = Recording()
    async with server_of(folder / "s.db", EchoModel(), recording) as server:
        yield server, recording


async def _each(folder: Path, store: Path, do: Callable[[str, str], Awaitable[Any]]) -> Side:
    """Do all operations; what each asked for, what came back, and what is stored then.

    What opening a client asks for is left out of all but the operation that does just this.
    """
    permits = asyncio.Semaphore(_AT_ONCE)
    requests: dict[str, list[Fact]] = {}
    found: Side = {}

    async def one(place: int, name: str) -> None:
        home = folder / str(place)
        async with permits:
            async with copy_of(store, home) as (server, recording):
                answer = await do(name, server.url)
            requests[name] = recording.requests
        found[name] = [Fact("answer", {"is": json.dumps(answer)}), *stored(home / "s.db")]

    async with asyncio.TaskGroup() as group:
        for place, name in enumerate(OPERATIONS):
            group.create_task(one(place, name))
    for name, facts in found.items():
        for opening in requests[OPENING] if name != OPENING else ():
            # The version is checked beside the operation, and given up where that ends first.
            if opening in requests[name]:
                requests[name].remove(opening)
        facts += requests[name]
    return found
