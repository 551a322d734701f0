"""What does a service cost that tells no results with a job's status, and honours no keys?

    python -m benchmarks.hosted --items 1000 --rounds 3

As the hosted one is: every client has to find the responses of its jobs in listings. Two cells,
each with a model of 200 ms an answer, 200 answers at once, and a link of 30 ms: n items in an
experiment of their own, beside the official client's batch calls and its ``run_experiment``; and
one row in an experiment that has 5,000 responses already, beside its batch calls. Server and link
have one core, the client the other; all take turns, each after one warm-up, and every answer and
rating is compared with what the model says. The link counts requests and bytes.

The goals, which the last line of each cell tells: bytes at most 1.2 of the batch calls', CPU no
more than theirs, time at most that of ``run_experiment``, at most 100 requests for 1,000 items.
Not measured: compression, which the embedded server does not do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.children import ROOT, Child
from benchmarks.common.report import emit, number, spread, write_table
from benchmarks.common.stage import Stage, stage

CONTENDERS = Path(__file__).parent / "contenders"
OURS, BATCHES, IN_ONE_CALL = (
    "elluminate-async",
    "official 1.5.2",
    "official 1.5.2, run_experiment",
)
ITEMS, LATENCY, ROUND_TRIP, ROUNDS = 1_000, 0.2, 0.03, 3
STORED = 5_000
GOALS = {"bytes": 1.2, "cpu_s": 1.0, "seconds": 1.0, "requests": 100}

Figures = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class Contender:
    """A client, and its way of doing the flow."""

    name: str
    child: Child
    extra: Mapping[str, Any]


@contextlib.asynccontextmanager
async def contending(stage: Stage) -> AsyncGenerator[dict[str, Contender]]:
    """The contenders, each client in a process and environment of its own, and warm."""
    official = ROOT / ".venv-official/1.5.2/bin/python"
    async with (
        Child(CONTENDERS / "ours.py") as ours,
        Child(CONTENDERS / "official_1_5_2.py", python=official) as theirs,
    ):
        for child in (ours, theirs):
            await stage.run(child, 10, 0.0, draw=1, polling=0.02)
        yield {
            OURS: Contender(OURS, ours, {}),
            BATCHES: Contender(BATCHES, theirs, {}),
            IN_ONE_CALL: Contender(IN_ONE_CALL, theirs, {"in_one_call": True}),
        }


async def cell(
    what: str,
    contenders: Mapping[str, Contender],
    rounds: int,
    run: Callable[[Contender, int], Awaitable[dict[str, float]]],
) -> Figures:
    """The contenders in turn, some rounds of it, and what they came to."""
    figures: Figures = {}
    for draw in range(1, rounds + 1):
        for name, contender in contenders.items():
            found = await run(contender, draw)
            found["bytes"] = found["bytes_up"] + found["bytes_down"]
            figures.setdefault(name, []).append(found)
            emit(benchmark="hosted", cell=what, client=name, round=draw, **found)
    emit(benchmark="hosted", cell=what, **summary(figures))
    return figures


def summary(figures: Figures) -> dict[str, Any]:
    """This client's figures over those of the goals, and which goals are missed."""
    ours, batches = figures[OURS], figures[BATCHES]
    by_time = figures.get(IN_ONE_CALL, batches)
    found = {
        "bytes": _ratio(ours, batches, "bytes"),
        "cpu_s": _ratio(ours, batches, "cpu_s"),
        "seconds": _ratio(ours, by_time, "seconds"),
        "requests": statistics.median(run["requests"] for run in ours),
    }
    missed = [name for name, goal in GOALS.items() if found[name] > goal]
    return {"ratios": found, "goals": GOALS, "missed": missed}


def _ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], field: str) -> float:
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(own[field] / other[field] for own, other in pairs)


def rows_of(figures: Figures, first: str) -> list[list[str]]:
    """The lines of the README's table for one cell."""
    ours = [run["seconds"] for run in figures[OURS]]
    return [
        [
            first,
            name,
            spread([run["seconds"] for run in runs]),
            spread([run["seconds"] / own for run, own in zip(runs, ours, strict=True)]),
            number(statistics.median(run["cpu_s"] for run in runs) * 1000),
            number(statistics.median(run["requests"] for run in runs)),
            number(statistics.median(run["bytes"] for run in runs) / 1024),
        ]
        for name, runs in figures.items()
    ]


async def main(items: int, stored: int, rounds: int, *, table: bool) -> None:
    """Both cells."""
    sizes = sorted({10, items, stored})
    async with stage(LATENCY, sizes, hosted=True) as made, contending(made) as contenders:

        async def whole(one: Contender, draw: int) -> dict[str, float]:
            return await made.run(one.child, items, ROUND_TRIP, draw, **one.extra)

        batch = await cell(f"{items:,} items", contenders, rounds, whole)
        # Each call leaves a response there, which the later rounds find.
        full = await made.experiment(stored, stored=stored)

        async def single(one: Contender, draw: int) -> dict[str, float]:
            return await made.run_in(full, one.child, stored, ROUND_TRIP, draw, rows=1)

        by_batches = {name: contenders[name] for name in (OURS, BATCHES)}
        one = await cell(f"1 row beside {stored:,}", by_batches, rounds, single)
    if table:
        head = ["items", "client", "s", "/ this client", "CPU, ms", "requests", "KiB"]
        lines = rows_of(batch, f"{items:,}") + rows_of(one, f"1, beside {stored:,} responses")
        write_table("hosted", head, lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--stored", type=int, default=STORED, help="beside which one row is asked")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    started = time.perf_counter()
    asyncio.run(main(arguments.items, arguments.stored, arguments.rounds, table=arguments.table))
    emit(benchmark="hosted", took_s=time.perf_counter() - started)
