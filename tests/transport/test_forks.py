"""A fork: the parent's connections stay the parent's, whatever its child does."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trustme

from elluminate_async.testing.raw import RawServer, replies
from tests.faults.test_processes import environment, run_script
from tests.faults.test_tls import serving_as
from tests.measured import measured
from tests.transport.wiring import OK, all_closed

BEGIN = """
import asyncio, gc, os, ssl, sys, traceback, warnings
from elluminate_async import AsyncClient, WrongEventLoopError

trusting = ssl.create_default_context(cafile=sys.argv[1]) if len(sys.argv) > 1 else None
client = AsyncClient(ssl_context=trusting)
loop = asyncio.new_event_loop()

def in_child(what):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            what()
        except Exception:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
"""


@asynccontextmanager
async def a_service(encrypted: bool, folder: Path) -> AsyncGenerator[tuple[RawServer, list[str]]]:
    """A server that answers with 200, and the arguments by which a program trusts it."""
    context: ssl.SSLContext | None = None
    if encrypted:
        authority = trustme.CA()
        context = serving_as(authority, folder, "127.0.0.1")
        authority.cert_pem.write_to_path(folder / "authority.pem")
    async with RawServer(replies(OK), ssl_context=context) as server:
        yield server, [str(folder / "authority.pem")] if encrypted else []


async def printed_by(script: str, folder: Path, server: RawServer, *arguments: str) -> str:
    """What a program of this client's prints."""
    return await run_script(
        BEGIN + textwrap.dedent(script), folder, *arguments,
        ELLUMINATE_BASE_URL=server.url, ELLUMINATE_API_KEY="key", **measured(),
    )  # fmt: skip


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "what",
    [
        "loop.run_until_complete(client.close())",
        "asyncio.run(client.close())",
        "globals().pop('client'); gc.collect()",
        # Of the loop and its sockets.
        "warnings.simplefilter('ignore', ResourceWarning); sys.exit(0)",
    ],
    ids=["closed", "closed in another loop", "garbage", "at its end"],
)
async def test_the_parents_connection_outlives_the_child(
    tmp_path: Path, what: str, encrypted: bool
) -> None:
    """The parent goes on with it: its next request comes on the same connection."""
    script = f"""
    async def use():
        await client.ping(60)

    loop.run_until_complete(use())
    in_child(lambda: exec({what!r}, globals()))
    loop.run_until_complete(use())
    loop.run_until_complete(client.close())
    loop.close()
    """
    async with a_service(encrypted, tmp_path) as (server, trust):
        await printed_by(script, tmp_path, server, *trust)
        connections, requests = server.connections, len(server.requests)

    assert (connections, requests) == (1, 2)


@pytest.mark.parametrize("where", ["loop.run_until_complete", "asyncio.run"])
async def test_a_client_that_was_used_is_refused_in_the_child(tmp_path: Path, where: str) -> None:
    """Also in the loop that the child has inherited; nothing is sent."""
    script = f"""
    loop.run_until_complete(client.ping(60))

    async def awaited(call):
        return await call()

    def again():
        for call in (client.ping, client.collections.list, client.__aenter__):
            try:
                {where}(awaited(call))
            except WrongEventLoopError as error:
                print(error)

    in_child(again)
    loop.run_until_complete(client.close())
    loop.close()
    """
    async with a_service(False, tmp_path) as (server, _):
        printed = (await printed_by(script, tmp_path, server)).splitlines()
        requests = len(server.requests)

    assert len(printed) == 3
    assert all("before a fork" in line for line in printed)
    assert all("make one AsyncClient per process" in line for line in printed)
    assert requests == 1


async def test_a_client_that_was_only_made_is_as_new_in_the_child(tmp_path: Path) -> None:
    """Each process opens connections of its own."""
    script = """
    async def use():
        await client.ping(60)
        await client.close()

    in_child(lambda: asyncio.run(use()))
    asyncio.run(use())
    loop.close()
    """
    async with a_service(False, tmp_path) as (server, _):
        await printed_by(script, tmp_path, server)
        connections, requests = server.connections, len(server.requests)

    assert (connections, requests) == (2, 2)


async def test_the_parents_close_is_one_while_the_child_lives(tmp_path: Path) -> None:
    """The child keeps no connection open that its parent has closed."""
    script = BEGIN + textwrap.dedent("""
    loop.run_until_complete(client.ping(60))
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    loop.run_until_complete(client.close())
    loop.close()
    os.wait()
    """)
    async with a_service(False, tmp_path) as (server, _):
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", script,
            env=environment(ELLUMINATE_BASE_URL=server.url, ELLUMINATE_API_KEY="key"),
            stdin=subprocess.PIPE,
        )  # fmt: skip
        with anyio.fail_after(300):
            while not server.requests:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await all_closed(server)
            assert program.returncode is None
            await program.communicate(b"")

    assert program.returncode == 0


async def test_a_child_does_not_keep_an_evaluations_journal(tmp_path: Path) -> None:
    """The parent gives it back at its call's end, though a child that lives has the file open."""
    script = """
    from pathlib import Path
    from elluminate_async.evaluation.directory import locked

    async def hold():
        async with locked(Path("journal")):
            child, end = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(end)
                os.read(child, 1)
                os._exit(0)
            os.close(child)
        async with locked(Path("journal")):
            print("free")
        os.close(end)
        os.waitpid(pid, 0)

    loop.run_until_complete(hold())
    loop.close()
    """
    async with a_service(False, tmp_path) as (server, _):
        assert await printed_by(script, tmp_path, server) == "free\n"
