"""What does it cost when a worker of Ray Data is killed, or the whole job, and begun again?

    python -m benchmarks.ray_kill --rows 100000 --kill worker --at 0.3
    python -m benchmarks.ray_kill --rows 100000 --kill driver --at 0.3 --resume-batch 450
    python -m benchmarks.ray_kill --rows 20000 --kill worker --no-item-keys
    python -m benchmarks.ray_kill --heartbeat

Rows are read from Parquet, generated from and written, and then these are rated and written, each
with Ray's own checkpoint; ``--operations evaluate`` does both in one job. When the given share is
done, an actor or the driver gets SIGKILL; a job whose driver was killed is begun again as it was,
in tasks of another size if asked. One generation and one rating of 50 fails, by plan.

Every row of the output is compared with what it must be, and what was paid twice is told by the
model: calls for an answer that it had given, verdicts for a response that had one. With
``--no-item-keys`` the server knows neither items nor requests again, and then that number must be
above 0: else the fault did not bite, and nothing is proven. (With the keys of requests alone a
killed worker pays for nothing twice as long as its tasks are cut as before.) With ``--against
20000`` so many rows are first done without a fault, and an actor may have a tenth more memory than
with them at most.

With ``--heartbeat`` nothing is killed. The dataset is read slowly, so that Ray holds the workers
back, and a beat of 10 ms in the loop of the one worker's client tells how late it was at most by
the clock, and of that what the worker's own CPU time accounts for. Ray gives its workers a niceness
of 15, with which one gets next to nothing of a core that it shares with the service; the service is
elsewhere in earnest, so that here the workers have one of 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common.answers import answer, verdict, word
from benchmarks.common.children import ROOT, SERVER_CORE, Child
from benchmarks.common.report import emit
from benchmarks.ray_jobs.libraries import pa, pq
from benchmarks.ray_jobs.planted import generation_fails, rating_fails
from benchmarks.ray_jobs.watch import MARK, Watch
from elluminate_async import AsyncClient

HERE = Path(__file__).parent
ACTOR_MB, LATE_MS = 300, 50.0
MOST_GROWN = 1.1  # of an actor's memory with fewer rows
_LOOK_SECONDS = 0.1


async def main(arguments: argparse.Namespace) -> int:
    """Both operations, each with its fault; 1 where something is not as it must be."""
    few: dict[str, int] = {}
    if arguments.against and not arguments.heartbeat:
        fewer = argparse.Namespace(**{**vars(arguments), "rows": arguments.against, "kill": None})
        bad, few = await run_all(fewer)
        if bad:
            return 1
    bad, many = await run_all(arguments)
    more = grown(few, many)
    for problem in more:
        print(problem, file=sys.stderr)
    return 1 if bad or more else 0


def grown(few: dict[str, int], many: dict[str, int]) -> list[str]:
    """Where an actor has more MB with many rows than it may, by what it has with few."""
    return [
        f"{operation}: an actor had {most} MB, and {few[operation]} MB with fewer rows"
        for operation, most in many.items()
        if operation in few and most > few[operation] * MOST_GROWN
    ]


async def run_all(arguments: argparse.Namespace) -> tuple[int, dict[str, int]]:
    """What is not as it must be, and the most MB of an actor by operation."""
    keys = [] if arguments.item_keys else ["--no-item-keys"]
    bad, megabytes = 0, dict[str, int]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Child("-m", "benchmarks.ray_jobs.service", *keys, core=SERVER_CORE) as server:
            write_input(folder / "input", arguments.rows)
            experiment = await prepare(server)
            for operation in ["heartbeat"] if arguments.heartbeat else arguments.operations:
                task = {
                    "operation": operation,
                    "input": str(folder / ("generate" if operation == "rate" else "input")),
                    "output": str(folder / operation),
                    "checkpoint": str(folder / f"{operation}.checkpoint"),
                    "experiment": experiment,
                    "run": operation,
                    "rows_per_task": arguments.batch,
                }
                if arguments.heartbeat:
                    bad += await heartbeat(task, server, arguments)
                    continue
                problems, megabytes[operation] = await measure(task, server, arguments)
                bad += problems
    return bad, megabytes


def write_input(folder: Path, rows: int) -> None:
    """Numbered rows in some files, so that there is more than one task to read them."""
    folder.mkdir()
    parts = 4
    for part in range(parts):
        numbers = range(part, rows, parts)
        table = pa.table({"id": pa.array(numbers, pa.int64()), "word": [word(n) for n in numbers]})
        pq.write_table(table, folder / f"{part}.parquet")


async def prepare(server: Child) -> int:
    """The experiment that all belongs to."""
    async with AsyncClient(base_url=server.ready["url"], api_key=server.ready["api_key"]) as client:
        template, _ = await client.prompt_templates.get_or_create("About {{word}}", name="Kill")
        await client.criteria.add_many(["Is it right?"], prompt_template=template)
        collection, _ = await client.collections.get_or_create("Kill")
        experiment = await client.experiments.create(
            "Kill", prompt_template=template, collection=collection
        )
    return experiment.id


async def measure(
    task: dict[str, Any], server: Child, arguments: argparse.Namespace
) -> tuple[int, int]:
    """One operation with its fault, told as a line.

    Returns:
        How much of it is not as it must be, and the most MB of an actor.
    """
    before = await server.ask()
    began, watch = time.perf_counter(), Watch(secrets.token_hex(8))
    killed = await run_job(task, server, watch, arguments, fault=arguments.kill)
    if killed and arguments.kill == "driver":
        task["rows_per_task"] = arguments.resume_batch or arguments.batch
        await run_job(task, server, watch, arguments, fault=None)
    seconds, after = time.perf_counter() - began, await server.ask()
    paid = sum(after[name] - before[name] for name in ("generated_twice", "rated_twice"))
    found = await asyncio.to_thread(check, Path(task["output"]), task["operation"], arguments.rows)
    problems = problems_in(
        found, killed if arguments.kill else None, paid, watch.actor_mb,
        item_keys=arguments.item_keys,
    )  # fmt: skip
    emit(
        benchmark="ray_kill", operation=task["operation"], rows=arguments.rows, kill=arguments.kill,
        item_keys=arguments.item_keys, killed_at=killed, **found, paid_twice=paid,
        actor_mb=watch.actor_mb, driver_mb=watch.driver_mb, seconds=seconds,
        rows_per_second=arguments.rows / seconds, holds=not problems,
    )  # fmt: skip
    for problem in problems:
        print(problem, file=sys.stderr)
    return len(problems), watch.actor_mb


def problems_in(
    found: dict[str, int],
    killed: int | None,
    paid_twice: int,
    actor_mb: int,
    *,
    item_keys: bool,
) -> list[str]:
    """What is not as it must be, in words; ``killed`` is None where nothing was to be."""
    bad = ("lost", "duplicate", "wrong", "failures_unlike_planted")
    problems = [f"{found[name]} {name}" for name in bad if found[name]]
    if killed == 0:
        problems.append("the job ended before anything was killed: nothing is proven")
    elif killed and not item_keys and not paid_twice:
        problems.append("nothing was paid twice: the fault did not bite, and nothing is proven")
    if item_keys and paid_twice:
        problems.append(f"{paid_twice} paid twice")
    if actor_mb > ACTOR_MB:
        problems.append(f"an actor had {actor_mb} MB, of {ACTOR_MB}")
    return problems


async def heartbeat(task: dict[str, Any], server: Child, arguments: argparse.Namespace) -> int:
    """How late the clock of a worker that is held back was; 1 where that was too late."""
    watch = Watch(secrets.token_hex(8))
    task |= {"seconds": arguments.pause}
    told = json.loads((await (await begun(task, server, watch)).communicate())[0])
    late, own = told["late_ms"], told["own_ms"]
    figures = {"late_ms": max(late), "own_ms": max(own), "median_late_ms": statistics.median(late)}
    holds = figures["late_ms"] <= LATE_MS
    emit(benchmark="ray_kill", operation="heartbeat", blocks=len(late), **figures, holds=holds)
    return int(not holds)


async def begun(task: dict[str, Any], server: Child, watch: Watch) -> asyncio.subprocess.Process:
    """A job that has just begun."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.ray_jobs.job", json.dumps(task),
        env=environment(server, watch), stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


async def run_job(
    task: dict[str, Any],
    server: Child,
    watch: Watch,
    arguments: argparse.Namespace,
    fault: str | None,
) -> int:
    """Run a job to its end, or to that of its driver; how many calls there were at the fault."""
    counted = "verdicts" if task["operation"] == "rate" else "generations"
    # Half a task more: at the end of one a worker has nothing that could be lost.
    rows = arguments.at * arguments.rows + arguments.batch / 2
    least = (await server.ask())[counted] + rows
    job = await begun(task, server, watch)
    killed = 0
    ended = asyncio.create_task(job.communicate())
    try:
        while not (await asyncio.wait({ended}, timeout=_LOOK_SECONDS))[0]:
            actors = watch.look(job.pid)
            if fault is None or killed or not actors:
                continue
            if (calls := (await server.ask())[counted]) >= least:
                os.kill(actors[0] if fault == "worker" else job.pid, signal.SIGKILL)
                killed = calls
        if job.returncode and not (killed and fault == "driver"):
            raise RuntimeError(f"the job ended with {job.returncode}")
    finally:
        await cleaned(watch, job)
    return killed


async def cleaned(watch: Watch, job: asyncio.subprocess.Process) -> None:
    """Wait for the cluster to end, which does so with its driver, and see that it has."""
    if job.returncode is None:
        job.kill()
    for _ in range(100):
        if not watch.processes():
            return
        await asyncio.sleep(_LOOK_SECONDS)
    watch.end_all()


def environment(server: Child, watch: Watch) -> dict[str, str]:
    """The mark, the key, and nothing that tells anybody of the run."""
    own = {
        "ELLUMINATE_BASE_URL": server.ready["url"],
        "ELLUMINATE_API_KEY": server.ready["api_key"],
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        MARK: watch.mark,
    }
    return {**os.environ, **own}


def check(folder: Path, operation: str, rows: int) -> dict[str, int]:
    """The output against what it must be."""
    seen = Counter[int]()
    wrong = failed = planned = 0
    for row in rows_in(folder):
        number = row["id"]
        seen[number] += 1
        has_failed, must_fail, is_right = judged(operation, row, number)
        failed += has_failed
        planned += must_fail
        wrong += not is_right
    return {
        "lost": rows - len(seen),
        "duplicate": seen.total() - len(seen),
        "wrong": wrong,
        "failed": failed,
        "failures_unlike_planted": abs(failed - planned),
    }


def judged(operation: str, row: dict[str, Any], number: int) -> tuple[bool, bool, bool]:
    """Whether a row has failed, whether it had to, and whether it is as it must be."""
    fails, code = generation_fails(number), row["error_code"]
    wanted = ("generation_failed", None) if fails else (None, answer(number))
    if (code, row["response"]) != wanted or operation == "generate":
        return code is not None, fails, (code, row["response"]) == wanted
    code = row["rating_error_code"]
    if generation_fails(number):
        return code is not None, True, code == "generation_failed" and row["ratings"] is None
    if rating_fails(number):
        return code is not None, True, code == "rating_failed" and row["ratings"] is None
    verdicts = [rating["rating"] for rating in row["ratings"] or ()]
    return code is not None, False, code is None and verdicts == [verdict(number)]


def rows_in(folder: Path) -> Iterable[dict[str, Any]]:
    """The rows of all files, some at a time."""
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(5_000):
            yield from batch.to_pylist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kill", choices=["worker", "driver"], default="worker")
    parser.add_argument("--at", type=float, default=0.3, help="share of the rows that is done then")
    parser.add_argument("--batch", type=int, default=1_000, help="rows of a task")
    parser.add_argument("--resume-batch", type=int, help="rows of a task after the driver's end")
    parser.add_argument("--no-item-keys", dest="item_keys", action="store_false")
    parser.add_argument("--operations", nargs="+", default=["generate", "rate"])
    parser.add_argument(
        "--against", type=int, help="so many rows first, without a fault, to compare the memory"
    )
    parser.add_argument("--heartbeat", action="store_true", help="how late clocks are, instead")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between blocks then")
    sys.exit(asyncio.run(main(parser.parse_args())))
