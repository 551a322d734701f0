"""The example's service as a whole: callers who hang up, kill -9 of it, and an outage behind it.

``python -m tests.soak.service --hangups 1000 --kills 20 --outage 10`` prints a JSON line for each,
and fails when one of its promises was broken:

* after so many callers who hung up, tasks, descriptors and memory are what they were before, and
  a second after the last of them the model is at work for none;
* killed in the midst of a batch in the background and started again, so often, each row was done
  once, as the model counted;
* with the server away for so many seconds, readiness says so within 3 s, each request is answered
  503 with ``Retry-After`` before its deadline, and all is well 2 s after the return.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from elluminate_async.testing.proxy import Timeout
from tests.integrations.scene import Asked, BusyModel, Held, Service, serving

ROWS = 300
DEADLINE = 20.0  # of the example's requests
QUIET = 1.0  # seconds after the last hang-up in which the model may still be at work for them
MEBIBYTES = 8.0  # that a process may grow, whatever the allocator does
ROUND = 50


async def hang_ups(folder: Path, count: int, *, seconds: float = 5.0) -> dict[str, Any]:
    """Half of 100 callers hang up after 0.3 s, of a model that takes longer; again and again."""
    async with serving(folder, app="tests.integrations.watched_app:app") as service:
        service.model.slow = lambda prompt: seconds if "long" in prompt else 0.01
        for number in range(2):
            await _round(service, f"warm{number}")
        await _settled(service)
        before = await service.held()
        statuses = Counter[int]()
        for number in range(count // ROUND):
            statuses += await _round(service, f"round{number}")
        await _settled(service)
        await _hang_up(service, "last")
        quiet = await _settled(service)
        after = await _held_no_more_than(service, before)
        return {
            "hang_ups": count // ROUND * ROUND,
            "answered": dict(statuses),
            "model_calls_of_theirs": sum("long" in asked for asked in service.model.answered),
            "model_calls_at_once": service.model.peak,
            "model_quiet_after": round(quiet, 2),
            "before": _plain(before),
            "after": _plain(after),
            "kept": after.tasks <= before.tasks
            and after.descriptors <= before.descriptors
            and after.mebibytes <= before.mebibytes + MEBIBYTES
            and quiet <= QUIET
            and set(statuses) == {200},
        }


async def _round(service: Service, name: str) -> Counter[int]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_hang_up(service, name))
        asked = [
            tasks.create_task(service.ask(f"short {name} {number}")) for number in range(ROUND)
        ]
    return Counter(task.result().status for task in asked)


async def _hang_up(service: Service, name: str) -> None:
    """The callers of a round leave together, 0.3 s after the model was asked for one of them."""
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(ROUND):
            tasks.create_task(service.hang_up(f"long-{name}-{number}-end", leave))
        with anyio.fail_after(60):
            while not any(f"long-{name}-" in asked for asked in service.model.answered):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await anyio.sleep(0.3)
        leave.set()


async def _settled(service: Service) -> float:
    """Seconds until the last call of a model has ended, after which there is none for a second."""
    began = busy = time.monotonic()
    with anyio.fail_after(300):
        while time.monotonic() < busy + 1:
            if service.model.in_flight:
                busy = time.monotonic()
            await anyio.sleep(0.01)
        while (await service.held()).requests:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return busy - began


async def _held_no_more_than(service: Service, before: Held) -> Held:
    """The last of what was seen in the time in which idle connections are closed."""
    with anyio.move_on_after(30):
        while True:
            after = await service.held()
            if after.tasks <= before.tasks and after.descriptors <= before.descriptors:
                return after
            await anyio.sleep(0.5)
    return await service.held()


async def kills(folder: Path, count: int, *, seed: int = 1, rows: int = ROWS) -> dict[str, Any]:
    """A batch in the background, killed in its midst and started again, until it is done."""
    chosen = random.Random(seed)
    done = killed = 0
    repeated: Counter[str] = Counter()
    for number in range(count):
        place = folder / f"kill{number}"
        place.mkdir()
        async with serving(place) as service:
            service.model.delay = 0.05
            questions = [f"What is {n}?" for n in range(rows)]
            kill_at = chosen.randrange(1, rows)
            async with service.session.post("/batches/nightly", json=questions) as response:
                assert response.status == 202, await response.text()
            await _until(service.model, kill_at)
            killed += await service.kill() < 0
            # The server goes on with what it has accepted; who asks meanwhile waits.
            await service.start("examples.service.app:app")
            status = await ended(service, "nightly")
            assert status["status"] == "succeeded", status
            assert status["result"] == [f"echo {question}" for question in questions]
            calls = service.model.answered
            done += sum(calls[question] >= 1 for question in questions)
            repeated += Counter({q: n - 1 for q, n in calls.items() if n > 1})
    return {
        "kills": killed,
        "rows": count * rows,
        "done": done,
        "done_twice": repeated.total(),
        "kept": killed == count and done == count * rows and not repeated,
    }


async def ended(service: Service, name: str) -> dict[str, Any]:
    """The status of a job that has come to its end."""
    with anyio.fail_after(300):
        while True:
            _, status = await service.get(f"/batches/{name}")
            if status["status"] in ("succeeded", "failed"):
                return status
            await anyio.sleep(0.05)


async def outage(folder: Path, seconds: float, *, silent: bool = False) -> dict[str, Any]:
    """The server is away: it refuses, or with ``silent`` takes everything and says nothing."""
    async with serving(folder) as service:
        assert (await service.get("/ready"))[0] == 200
        assert (await service.ask("before")).status == 200
        black_hole = Timeout(0.0)
        if silent:
            service.proxy.add(black_hole)
        else:
            await service.proxy.down()
        began = time.monotonic()
        asked: list[asyncio.Task[Asked]] = []
        async with asyncio.TaskGroup() as tasks:
            said_at = asyncio.ensure_future(_when(service.get, "/ready", 503, began))
            while time.monotonic() < began + seconds:
                asked.append(tasks.create_task(service.ask(f"during {len(asked)}")))
                tasks.create_task(service.get("/ready"))
                await anyio.sleep(0.5)
            if silent:
                service.proxy.toxics.remove(black_hole)
                await service.proxy.down()
            await service.proxy.up()
            returned = time.monotonic()
            well_at = await _well(service, returned)
        answers = [task.result() for task in asked]
        refused = [answer for answer in answers if answer.status != 200]
        slowest = max((answer.seconds for answer in answers), default=0.0)
        statuses = Counter(answer.status for answer in answers)
        told_when = all(answer.status == 503 and answer.retry_after for answer in refused)
        return {
            "outage": seconds,
            "silent": silent,
            "not_ready_after": round(await said_at, 2),
            "answered": dict(statuses),
            "told_when": told_when,
            "slowest": round(slowest, 2),
            "well_after": round(well_at, 2),
            "kept": await said_at <= 3
            and bool(refused)
            and told_when
            and slowest <= DEADLINE
            and well_at <= 2,
        }


async def _when(
    get: Callable[[str], Awaitable[tuple[int, Any]]], path: str, status: int, began: float
) -> float:
    while (await get(path))[0] != status:  # noqa: ASYNC110
        await anyio.sleep(0.1)
    return time.monotonic() - began


async def _well(service: Service, returned: float) -> float:
    """Seconds until five answers in a row, and readiness, were well."""
    in_row, first = 0, 0.0
    with anyio.fail_after(120):
        while in_row < 5:
            answer = await service.ask(f"after {time.monotonic()}")
            ready, _ = await service.get("/ready")
            if answer.status == ready == 200:
                first = first if in_row else time.monotonic()
                in_row += 1
            else:
                in_row = 0
    return first - returned


async def _until(model: BusyModel, calls: int) -> None:
    with anyio.fail_after(300):
        while model.answered.total() < calls:  # noqa: ASYNC110
            await anyio.sleep(0.005)


def _plain(held: Held) -> dict[str, Any]:
    return {name: getattr(held, name) for name in held.__slots__ if name != "requests"}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hangups", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--outage", type=float, default=0.0, help="seconds, of either kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    runs: list[Callable[[Path], Awaitable[dict[str, Any]]]] = []
    if options.hangups:
        runs.append(lambda folder: hang_ups(folder, options.hangups))
    if options.kills:
        runs.append(lambda folder: kills(folder, options.kills, seed=options.seed))
    if options.outage:
        runs.append(lambda folder: outage(folder, options.outage))
        runs.append(lambda folder: outage(folder, options.outage, silent=True))
    kept = True
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:

            async def once(path: Path = Path(folder), run: Any = run) -> dict[str, Any]:
                return await run(path)

            figures = asyncio.run(once())
        kept = kept and figures["kept"]
        with suppress(BrokenPipeError):
            print(json.dumps(figures), flush=True)  # noqa: T201
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
