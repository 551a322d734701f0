"""`examples/05_sync.py` in the programs that it is for: forked workers, threaded views, scripts."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from elluminate_async import AsyncClient, InputError
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, OfflineModel
from tests.docs.pages import DOCS, blocks_of
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, words
from tests.faults.test_processes import ROOT, environment

CALLS = 1_000

BEGIN = """
import gc, json, os, sys, threading
from portal import Portal, call

EXPERIMENT, ROWS = json.loads(sys.argv[1])

async def answer(client, number):
    row = ROWS[number % len(ROWS)]
    response = await client.responses.generate(template_variables=row, experiment=EXPERIMENT)
    return response.response_str

def state():
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return [threading.active_count(), len(os.listdir("/proc/self/fd")), pages * 4096]
"""


@dataclass(slots=True)
class Program:
    """A synchronous program that asks for answers by the number of their row."""

    scene: Scene
    folder: Path
    experiment: int
    rows: list[int]

    async def start(self, script: str) -> asyncio.subprocess.Process:
        """The program, under pipes; warnings are errors, but that threads and forks are mixed."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning",
            "-c", BEGIN + textwrap.dedent(script),
            json.dumps([self.experiment, self.rows]),
            cwd=self.folder,
            env=environment(
                ELLUMINATE_BASE_URL=self.scene.server.url,
                ELLUMINATE_API_KEY=self.scene.server.api_key,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What runs in a shell's background ignores SIGINT, and its children with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    async def run(self, script: str) -> Any:
        """What it prints, as JSON, of a program that ends well and without a complaint."""
        with anyio.fail_after(600):
            code, out, err = await ended(await self.start(script))
        assert (code, err) == (0, "")
        return json.loads(out)


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Its exit code, its output and its errors."""
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def a_program(folder: Path) -> AsyncGenerator[Program]:
    """One beside its service, which has an experiment and seven rows."""
    shutil.copy(ROOT / "examples" / "05_sync.py", folder / "portal.py")
    async with evaluating() as scene:
        client = scene.client
        template, _ = await client.prompt_templates.get_or_create("Say {{word}}", name="Say")
        collection, _ = await client.collections.get_or_create("Words")
        rows = await client.template_variables.add_many(words(7), collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "Sync", prompt_template=template, collection=collection
        )
        yield Program(scene, folder, experiment.id, [row.id for row in rows.succeeded.values()])


def is_of(number: int, said: str) -> bool:
    return f"Say word{number % 7}" in said


async def test_a_pool_of_forked_workers(tmp_path: Path) -> None:
    """Workers that come and go, forked from a process whose client is open: each has its own.

    1,000 calls are answered, each with its own answer, and a worker's threads and descriptors
    do not become more.
    """
    script = f"""
    import multiprocessing

    def task(number):
        return number, call(answer, number), os.getpid(), state()

    call(answer, 0)
    with multiprocessing.get_context("fork").Pool(4, maxtasksperchild=125) as pool:
        done = pool.map(task, range({CALLS}), chunksize=1)
        pool.close()
        pool.join()
    again = call(answer, 1)
    print(json.dumps([os.getpid(), again, done]))
    """
    async with a_program(tmp_path) as program:
        parent, again, done = await program.run(script)
        generated = sum(program.scene.model.answered.values())

    assert is_of(1, again)
    assert [number for number, *_ in done] == [*range(CALLS)]
    assert all(is_of(number, said) for number, said, *_ in done)
    assert generated == CALLS + 2
    states: defaultdict[int, list[list[int]]] = defaultdict(list)
    for _, _, worker, state in done:
        states[worker].append(state)
    assert parent not in states
    assert len(states) >= CALLS // 125
    for each in states.values():
        assert {threads for threads, *_ in each} == {2}
        assert max(files for _, files, _ in each) - min(files for _, files, _ in each) <= 2


async def test_views_of_a_threaded_server(tmp_path: Path) -> None:
    """Flask under werkzeug, a thread a request: one client for all, and nothing grows.

    Of the 1,000 requests 20 are there at once.
    """
    script = f"""
    from concurrent.futures import ThreadPoolExecutor
    from urllib.request import urlopen
    import logging
    from flask import Flask
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Flask("views")

    @app.get("/<int:number>")
    def view(number):
        return {{"said": call(answer, number)}}

    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()

    def ask(number):
        with urlopen(f"http://127.0.0.1:{{server.port}}/{{number}}") as answer:
            return number, json.load(answer)["said"]

    def ask_all(numbers):
        with ThreadPoolExecutor(20) as browsers:
            done = [*browsers.map(ask, numbers)]
        gc.collect()
        return done, state()

    first = ask_all(range({CALLS // 4}))
    rest = ask_all(range({CALLS // 4}, {CALLS}))
    server.shutdown()
    serving.join()
    server.server_close()
    print(json.dumps([first, rest]))
    """
    async with a_program(tmp_path) as program:
        (first, before), (rest, after) = await program.run(script)
        generated = sum(program.scene.model.answered.values())

    assert all(is_of(number, said) for number, said in first + rest)
    assert len(first + rest) == generated == CALLS
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 2
    assert after[2] - before[2] < 10 << 20


async def test_a_forked_child_ends(tmp_path: Path) -> None:
    """In the ordinary way, with the parent's portal inherited: nobody waits for its thread."""
    script = """
    said = call(answer, 0)
    child = os.fork()
    if child == 0:
        print(json.dumps(call(answer, 1)), end=",", flush=True)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps([said, call(answer, 2), status]), end="")
    """
    async with a_program(tmp_path) as program:
        with anyio.fail_after(600):
            code, out, err = await ended(await program.start(script))

    of_child, (first, last, status) = json.loads(f"[{out}]")
    assert (code, status, err) == (0, 0, "")
    assert [is_of(number, said) for number, said in enumerate((first, of_child, last))] == [
        True
    ] * 3


def never_answering(scene: Scene) -> anyio.Event:
    """Have the model say nothing; the event tells that it was asked."""
    asked = anyio.Event()

    async def complete(request: ModelRequest) -> ModelAnswer:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    scene.model.complete = complete
    return asked


async def test_ctrl_c_ends_a_script_that_waits(tmp_path: Path) -> None:
    """With Python's own word for it, and nothing else is said or left."""
    async with a_program(tmp_path) as program:
        asked = never_answering(program.scene)
        process = await program.start("call(answer, 0)")
        with anyio.fail_after(600):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            code, _, err = await ended(process)

    assert code == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1
    assert "Exception ignored" not in err


async def test_a_task_that_is_out_of_time_waits_for_nothing(tmp_path: Path) -> None:
    """As Celery's soft limit has it: a signal's handler raises, and the client's call ends too."""
    script = """
    import signal, time

    class OutOfTime(Exception):
        pass

    def handler(number, frame):
        raise OutOfTime

    signal.signal(signal.SIGUSR1, handler)
    try:
        call(answer, 0)
    except OutOfTime:
        traffic = Portal.here().client.traffic
        while traffic.in_flight:
            time.sleep(0.01)
            traffic = Portal.here().client.traffic
        print(json.dumps(traffic.in_flight))
    """
    async with a_program(tmp_path) as program:
        asked = never_answering(program.scene)
        process = await program.start(script)
        with anyio.fail_after(600):
            await asked.wait()
            process.send_signal(signal.SIGUSR1)
            code, out, err = await ended(process)

    assert (code, out, err) == (0, "0\n", "")


async def test_a_service_that_is_away_is_told_to_each_caller(tmp_path: Path) -> None:
    """The first call raises, and so does the next: a client that did not open is not kept."""
    script = """
    from elluminate_async import AuthenticationError

    os.environ["ELLUMINATE_API_KEY"] = "wrong"
    told = []
    for _ in range(2):
        try:
            call(answer, 0)
        except AuthenticationError:
            told.append(threading.active_count())
    os.environ["ELLUMINATE_API_KEY"] = os.environ["RIGHT_KEY"]
    print(json.dumps([told, call(answer, 1)]))
    """
    async with a_program(tmp_path) as program:
        right = program.scene.server.api_key
        told, said = await program.run(script.replace('os.environ["RIGHT_KEY"]', repr(right)))

    assert len(told) == 2
    assert is_of(1, said)


def test_the_page_has_the_example() -> None:
    """What a reader of the how-to copies is what is tested here."""
    [block] = [one for one in blocks_of(DOCS / "how-to" / "sync.md") if one.title == "portal.py"]

    assert (ROOT / "examples" / "05_sync.py").read_text("utf-8").startswith(block.code)


def test_a_deadline_bounds_what_the_thread_calls() -> None:
    """`with` is of the thread that calls the portal; a portal that enters it is told so."""
    ask = {"prompt": PROMPT, "criteria": CRITERIA}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(LocalServer(model=OfflineModel(delay=60.0))) as server,
        portal.wrap_async_context_manager(
            AsyncClient(base_url=server.url, api_key=server.api_key)
        ) as client,
    ):
        with client.deadline(1.0):
            evaluation = portal.call(partial(client.evaluate, words(1), **ask))
        assert [error.code for error in evaluation.failed.values()] == ["deadline"]
        # Outside of the block there is none.
        assert portal.call(client.ping)

        entering = portal.wrap_async_context_manager(client.deadline(1.0))
        with pytest.raises(InputError, match=r"write `with client\.deadline"):
            entering.__enter__()
