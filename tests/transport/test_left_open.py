"""A client that nobody closes says so once, and where it was made; and one outside of asyncio."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trio
from anyio.from_thread import start_blocking_portal

from elluminate_async import AsyncClient, BatchOptions, WrongEventLoopError
from elluminate_async.server import LocalServer
from elluminate_async.testing import ScriptedService

HERE = Path(__file__)
NOWHERE = "http://127.0.0.1:9"


def line_of(text: str) -> int:
    """The number of the first line of this file that has ``text``."""
    lines = HERE.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@asynccontextmanager
async def collected(times: int = 1) -> AsyncGenerator[list[warnings.WarningMessage]]:
    """All that is warned of within, garbage and what the loop has yet to do included."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
        for _ in range(3):
            gc.collect()
            await anyio.sleep(0.01)
    assert len(caught) == times, [str(one.message) for one in caught]


async def use(service: ScriptedService) -> None:
    """Make a client, use it, and forget it."""
    client = AsyncClient(base_url=service.url, api_key=service.api_key)  # made here
    await client.collections.list()


async def test_it_warns_once_and_where_it_was_made() -> None:
    """At the line of the caller's, in words of this package; aiohttp and asyncio say nothing."""
    async with ScriptedService() as service:
        async with collected() as caught:
            await use(service)
        connections = service.traffic.total

    (warning,) = caught
    line = line_of("# made here")
    assert warning.category is ResourceWarning
    assert (warning.filename, warning.lineno) == (str(HERE), line)
    assert f"unclosed AsyncClient of {service.url}, made in {HERE}:{line}" in str(warning.message)
    assert "close()" in str(warning.message)
    assert connections > 0


async def test_it_warns_as_soon_as_it_is_dropped() -> None:
    """No collection of garbage is needed: a client is in no circle of references."""
    async with ScriptedService() as service, collected() as caught:
        gc.disable()
        try:
            await use(service)
            assert len(caught) == 1
        finally:
            gc.enable()


async def test_its_connections_are_closed() -> None:
    """What it left open does not stay so for as long as the program runs."""
    async with LocalServer() as server, collected():
        client = AsyncClient(base_url=server.url, api_key=server.api_key)
        await client.collections.list()
        session = client._connection.transport._session._sessions[False]
        connector = session.connector
        assert connector is not None
        del client
        await anyio.sleep(0.01)
        assert connector.closed
        assert session.closed


async def test_a_client_in_use_is_not_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that can be retried needs it; it ends, and warns, with that."""
    # A record of the log would hold the batch.
    monkeypatch.setattr(logging.getLogger("elluminate_async"), "disabled", True)
    async with LocalServer() as server, collected() as caught:

        async def generate() -> object:
            client = AsyncClient(base_url=server.url, api_key=server.api_key)
            template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
            collection, _ = await client.collections.get_or_create("values")
            experiment, _ = await client.experiments.get_or_create(
                "run", prompt_template=template, collection=collection
            )
            rows = await client.template_variables.add_many([{"x": "a"}], collection=collection)
            return await client.responses.generate_many(
                template_variables=rows, experiment=experiment, options=BatchOptions(deadline=1e-6)
            )

        batch = await generate()
        gc.collect()
        assert caught == []
        await batch.retry_failed(options=BatchOptions())  # type: ignore[attr-defined]
        assert not batch.failed  # type: ignore[attr-defined]
        del batch


async def test_one_that_is_closed_or_unused_says_nothing() -> None:
    """Nothing is open then."""
    async with ScriptedService() as service, collected(0):
        AsyncClient(base_url=service.url, api_key=service.api_key)
        client = AsyncClient(base_url=service.url, api_key=service.api_key)
        await client.collections.list()
        await client.close()
        del client


async def test_another_thread_may_collect_it() -> None:
    """Its connections are closed in their own loop all the same."""
    async with ScriptedService() as service, collected():
        held = [AsyncClient(base_url=service.url, api_key=service.api_key)]
        await held[0].collections.list()
        thread = threading.Thread(target=held.clear)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)


def test_as_an_error_it_names_the_line(tmp_path: Path) -> None:
    """Under ``-W error`` a script that forgets to close it says so, and nothing else does."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio

            from elluminate_async import AsyncClient
            from elluminate_async.testing import ScriptedService

            async def main():
                async with ScriptedService() as service:
                    client = AsyncClient(base_url=service.url, api_key=service.api_key)
                    await client.collections.list()

            asyncio.run(main())
        """)
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(program)],
        env=os.environ | {"PYTHONASYNCIODEBUG": "0"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stderr.count("ResourceWarning") == 1
    assert f"made in {program}:9" in done.stderr
    assert "client session" not in done.stderr


def test_one_of_a_whole_program_is_told_at_its_end(tmp_path: Path) -> None:
    """Where its loop is closed by then nobody can close it any more; in our words."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio

            from elluminate_async import AsyncClient
            from elluminate_async.testing import ScriptedService

            async def main():
                global client
                async with ScriptedService() as service:
                    client = AsyncClient(base_url=service.url, api_key=service.api_key)
                    await client.collections.list()

            asyncio.run(main())
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", str(program)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert f"made in {program}:10" in done.stderr
    assert "client session" not in done.stderr


async def _enter(client: AsyncClient) -> None:
    async with client:
        pass


async def _stream(client: AsyncClient) -> None:
    async for _ in client.collections.list():
        pass


async def _bound(client: AsyncClient) -> None:
    async with client.deadline(1.0):
        pass


async def _serve(client: AsyncClient) -> None:
    async with LocalServer():
        pass


CALLS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "enter": _enter,
    "deadline": _bound,
    "server": _serve,
    "list": lambda client: _list(client),
    "iterate": _stream,
    "get": lambda client: client.collections.get(id=1),
    "ping": lambda client: client.ping(),
    "batch": lambda client: client.responses.generate_many(experiment=1, template_variables=[1]),
    "evaluate": lambda client: client.evaluate([{"x": "a"}], prompt="{{x}}", criteria=["?"]),
}


async def _list(client: AsyncClient) -> object:
    return await client.collections.list()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_under_trio_one_clear_error(call: Callable[[AsyncClient], Awaitable[object]]) -> None:
    """The first call says that it needs asyncio, and how to have that beside trio."""
    client = AsyncClient(base_url=NOWHERE, api_key="k")

    async def main() -> None:
        await call(client)

    with pytest.raises(WrongEventLoopError, match=r"here trio runs.*start_blocking_portal"):
        trio.run(main)


def test_making_one_under_trio_is_no_error() -> None:
    """It sends nothing, and needs no loop."""

    async def main() -> AsyncClient:
        return AsyncClient(base_url=NOWHERE, api_key="k")

    assert trio.run(main).base_url == NOWHERE


def test_the_way_that_the_error_names_works() -> None:
    """A portal has a loop of asyncio in a thread, also while trio runs here."""

    async def work() -> int:
        async with (
            LocalServer() as server,
            AsyncClient(base_url=server.url, api_key=server.api_key) as client,
        ):
            return len(await client.projects.list())

    async def main() -> int:
        with start_blocking_portal() as portal:
            return await trio.to_thread.run_sync(portal.call, work)

    assert trio.run(main) == 1


def test_without_any_loop_one_clear_error() -> None:
    """A stream that is made in no coroutine tells what it wants."""
    client = AsyncClient(base_url=NOWHERE, api_key="k")

    with pytest.raises(WrongEventLoopError, match=r"no event loop runs here.*asyncio\.run"):
        client.responses.stream_generate_many(experiment=1, template_variables=[1])


def test_a_loop_of_asyncios_in_a_thread_beside_trio() -> None:
    """Trio that runs in another thread is no reason to refuse."""

    async def main() -> None:
        async def use() -> None:
            client = AsyncClient(base_url=NOWHERE, api_key="k")
            client._connection.transport.check_usable()
            await client.close()

        await trio.to_thread.run_sync(asyncio.run, use())

    trio.run(main)
