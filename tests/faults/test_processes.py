"""Rows 81, 83, 105, 118 and 122: signals, loops, forks and files, in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import anyio
import pytest

from elluminate_async.testing import Fault, ScriptedService
from elluminate_async.testing.exchange import Exchange, Process, Reply
from tests.matrix import Fired

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ELLUMINATE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **more}


async def run(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A program beside this one's servers, with warnings as errors."""
    with anyio.fail_after(600):
        return await anyio.run_process(
            [sys.executable, "-W", "error", *arguments],
            cwd=folder,
            env=environment(**more),
            check=False,
        )


async def run_script(script: str, folder: Path, *arguments: str, **more: str) -> str:
    """What a script prints that ends well."""
    done = await run("-c", textwrap.dedent(script), *arguments, folder=folder, **more)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout.decode()


@pytest.mark.row(81)
@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT], {130}),
        ([signal.SIGTERM], {143}),
        # The second may find the interpreter at its end, which the signal itself then ends.
        ([signal.SIGINT, signal.SIGINT], {130, -signal.SIGINT}),
    ],
    ids=["ctrl-c", "terminate", "ctrl-c-twice"],
)
async def test_a_signal_ends_the_program_cleanly(
    tmp_path: Path, fired: Fired, signals: list[signal.Signals], status: set[int]
) -> None:
    """In mid-batch: gone within five seconds, with the signal's status and without a traceback."""
    async with ScriptedService(job_seconds=60.0) as service:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "elluminate_async", "demo", "--hosted",
            cwd=tmp_path,
            env=environment(
                ELLUMINATE_BASE_URL=service.url, ELLUMINATE_API_KEY=service.api_key
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What runs in a shell's background ignores SIGINT, and its children with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        with anyio.fail_after(300):
            while not service.traffic.count("stream"):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        started = time.monotonic()
        for number in signals:
            program.send_signal(number)
            fired()
            await anyio.sleep(0.05 if len(signals) > 1 else 0)
        output, errors = await program.communicate()
        seconds = time.monotonic() - started
        sent = service.traffic.total
        await anyio.sleep(0.1)

        assert service.traffic.total == sent
    assert seconds <= 5
    assert program.returncode in status, (output, errors)
    assert b"Traceback" not in errors


@pytest.mark.row(83)
async def test_a_client_of_another_loop_is_never_used(tmp_path: Path, fired: Fired) -> None:
    """A second `asyncio.run`, a second thread, a forked child: an error that says what to do."""
    script = """
    import asyncio, os, sys, threading, warnings
    from elluminate_async import AsyncClient, WrongEventLoopError

    client = AsyncClient()

    async def first():
        async with client:
            print(len(await client.collections.list()))

    async def left_open():
        global client
        client = AsyncClient()
        await client.collections.list()
        # Its sockets are closed by hand, as nobody will close the client.
        for session in client._connection.transport._session._sessions.values():
            await session.close()

    async def again():
        try:
            await client.collections.list()
        except WrongEventLoopError as error:
            print("refused:", error)

    asyncio.run(first())
    asyncio.run(left_open())
    asyncio.run(again())
    thread = threading.Thread(target=lambda: asyncio.run(again()))
    thread.start()
    thread.join()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        asyncio.run(again())
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("child", status)
    """
    async with ScriptedService() as service:
        printed = await run_script(
            script, tmp_path,
            ELLUMINATE_BASE_URL=service.url, ELLUMINATE_API_KEY=service.api_key,
        )  # fmt: skip
        requests = service.traffic.count("collections")
    refusals = [line for line in printed.splitlines() if line.startswith("refused:")]
    fired(times=len(refusals))
    assert len(refusals) == 3
    assert all("make one AsyncClient per loop" in line for line in refusals[:2])
    assert "make one AsyncClient per process" in refusals[2]
    assert printed.splitlines()[0] == "0"
    assert printed.splitlines()[-1] == "child 0"
    assert requests == 2


@pytest.mark.row(83)
async def test_a_client_that_nobody_closed_before_its_loop(tmp_path: Path, fired: Fired) -> None:
    """A closed client afterwards says so, and closing one whose loop is gone does no harm."""
    script = """
    import asyncio, gc, warnings
    from elluminate_async import AsyncClient, ClientClosedError

    warnings.simplefilter("ignore", ResourceWarning)  # told of sockets, and rightly
    client = AsyncClient()

    async def use():
        await client.collections.list()

    asyncio.run(use())
    asyncio.run(client.close())
    try:
        asyncio.run(use())
    except ClientClosedError as error:
        print(error)
    del client
    gc.collect()
    """
    async with ScriptedService() as service:
        printed = await run_script(
            script, tmp_path,
            ELLUMINATE_BASE_URL=service.url, ELLUMINATE_API_KEY=service.api_key,
        )  # fmt: skip
        fired()
    assert "make a new AsyncClient" in printed


@pytest.mark.row(105)
@pytest.mark.parametrize("where", ["cwd", "parent"])
async def test_a_settings_file_that_nobody_named_is_not_read(
    tmp_path: Path, fired: Fired, where: str
) -> None:
    """An `.env` here or above that names another host: neither host nor key is taken from it."""
    script = """
    from elluminate_async import AsyncClient, ConfigurationError
    print(AsyncClient(api_key="k").base_url)
    try:
        AsyncClient()
    except ConfigurationError as error:
        print(error)
    """
    here = tmp_path / "project"
    here.mkdir()
    folder = here if where == "cwd" else tmp_path
    (folder / ".env").write_text("ELLUMINATE_BASE_URL=https://evil.test\nELLUMINATE_API_KEY=x\n")
    fired()

    printed = await run_script(script, here)

    assert "evil" not in printed
    assert printed.startswith("https://app.elluminate.de\nno API key")


@pytest.mark.row(105)
async def test_a_key_does_not_follow_a_files_host_in_silence(tmp_path: Path, fired: Fired) -> None:
    """The file names the host, the environment has the key: one warning, where it is made."""
    (tmp_path / "named.env").write_text("ELLUMINATE_BASE_URL=https://other.test\n")
    fired()
    done = await run(
        "-c", "from elluminate_async import AsyncClient; AsyncClient(env_file='named.env')",
        folder=tmp_path, ELLUMINATE_API_KEY="canary-key",
    )  # fmt: skip

    # Warnings are errors here.
    assert done.returncode == 1
    assert b"make sure that they belong together" in done.stderr
    assert b"canary-key" not in done.stderr


@pytest.mark.row(122)
async def test_nothing_but_the_service_is_spoken_to(tmp_path: Path, fired: Fired) -> None:
    """A whole run, with a service that says it is incompatible: no other host is looked up."""
    script = """
    import asyncio, logging, sys

    seen = set()

    def watch(event, arguments):
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            seen.add(("connect", arguments[1][0], arguments[1][1]))
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            seen.add((event, str(arguments[0]), 0))

    sys.addaudithook(watch)
    logging.basicConfig(stream=sys.stdout)
    from elluminate_async import AsyncClient

    async def main():
        async with AsyncClient() as client:
            template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="T")
            collection, _ = await client.collections.get_or_create("c")
            experiment, _ = await client.experiments.get_or_create(
                "e", prompt_template=template, collection=collection
            )
            rows = await client.template_variables.add_many(
                [{"x": str(i)} for i in range(30)], collection=collection
            )
            batch = await client.responses.generate_many(
                template_variables=rows, experiment=experiment
            )
            print(len(batch.succeeded), len((await client.ratings.rate_many(batch)).succeeded))

    asyncio.run(main())
    for found in sorted(seen):
        print(*found)
    """

    async def incompatible(exchange: Exchange, process: Process) -> Reply:
        fired()
        reply = await process()
        return Reply(200, reply.body.replace(b'"is_compatible": true', b'"is_compatible": false'))

    fault = Fault(incompatible, on="POST version/compatible")
    async with ScriptedService(faults=[fault]) as service:
        printed = await run_script(
            script, tmp_path,
            ELLUMINATE_BASE_URL=service.url, ELLUMINATE_API_KEY=service.api_key,
        )  # fmt: skip
        port = service.url.rpartition(":")[2]
    warning, counts, *seen = printed.splitlines()

    assert "look for a newer elluminate-async" in warning
    assert counts == "30 30"
    assert f"connect 127.0.0.1 {port}" in seen
    assert {line.split()[1] for line in seen} == {"127.0.0.1"}
