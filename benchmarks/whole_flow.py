"""How long does it take to generate and rate n items, and what does it cost the client?

    python -m benchmarks.whole_flow --items 10 1000 --rounds 2

Each client opens, generates n responses, rates them by one criterion and closes, with its own
defaults. The embedded server runs durably with a model that takes up to 200 answers at once, at
0 ms or a seeded log-normal of 200 ms each; the link has 0 or 30 ms round trip. Server and link
have one core, the client the other, every client its own process and environment; all take turns,
each after one warm-up, and every answer and rating is compared with what the model says. Each
round has a draw of latencies of its own, the same for all.

The ideal is what the model alone needs with 200 answers at once, and four round trips. Not
measured: TLS, bandwidth, and what a template, a collection or an experiment takes to make.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.answers import ideal_seconds
from benchmarks.common.children import ROOT, Child
from benchmarks.common.report import emit, number, spread, write_table
from benchmarks.common.stage import Stage, stage

HERE = Path(__file__).parent
LATENCIES = (0.0, 0.2)
ROUND_TRIPS = (0.0, 0.03)
ITEMS = (10, 100, 1_000, 10_000)
ROUNDS = {10: 3, 100: 2, 1_000: 2, 10_000: 1}
IN_ONE_CALL = "official 1.5.2, run_experiment"
OURS, FLOOR, NEW, OLD = "elluminate-async", "floor", "official 1.5.2", "official 0.7.3"

Figures = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class Contender:
    """A program, and the environment that it runs in."""

    name: str
    script: str
    python: str
    extra: tuple[tuple[str, Any], ...] = ()


CONTENDERS = (
    Contender(OURS, "ours.py", ".venv"),
    Contender(FLOOR, "floor.py", ".venv-peers/floor"),
    Contender(NEW, "official_1_5_2.py", ".venv-official/1.5.2"),
    Contender(IN_ONE_CALL, "official_1_5_2.py", ".venv-official/1.5.2", (("in_one_call", True),)),
    Contender(OLD, "official_0_7_3.py", ".venv-peers/official-0.7.3"),
)


@contextlib.asynccontextmanager
async def contending(
    stage: Stage, items: int, latency: float
) -> AsyncGenerator[dict[Contender, Child]]:
    """The contenders that take part, each in a process of its own and warm."""
    contenders = [
        one for one in CONTENDERS if one.name != IN_ONE_CALL or (latency and items <= 1_000)
    ]
    async with contextlib.AsyncExitStack() as running:
        children = {
            one: await running.enter_async_context(
                Child(HERE / "contenders" / one.script, python=ROOT / one.python / "bin/python")
            )
            for one in contenders
        }
        for one, child in children.items():
            if not one.extra:
                await stage.run(child, 10, 0.0, draw=1, polling=0.02)
        yield children


async def cell(
    stage: Stage,
    children: Mapping[Contender, Child],
    items: int,
    latency: float,
    round_trip: float,
    rounds: int,
) -> Figures:
    """All contenders in turn, some rounds of it."""
    figures: Figures = {}
    for draw in range(1, rounds + 1):
        for one, child in children.items():
            found = await stage.run(child, items, round_trip, draw, **dict(one.extra))
            if latency:
                found["ideal_s"] = ideal_seconds(items, latency, round_trip, draw)
            figures.setdefault(one.name, []).append(found)
            emit(
                benchmark="whole_flow",
                items=items,
                model_ms=latency * 1000,
                link_ms=round_trip * 1000,
                client=one.name,
                **found,
            )
    tell(figures, items, latency, round_trip)
    return figures


def ratios(figures: Figures, name: str, field: str) -> list[float]:
    """Another client's figures over this one's, round by round."""
    ours = figures[OURS]
    pairs = zip(figures[name], ours, strict=True) if name in figures else ()
    return [theirs[field] / own[field] for theirs, own in pairs]


def tell(figures: Figures, items: int, latency: float, round_trip: float) -> None:
    """The ratios of a cell."""
    record: dict[str, Any] = {}
    for name in figures:
        if name != OURS:
            for field in ("seconds", "cpu_s"):
                values = sorted(ratios(figures, name, field))
                record[f"{name} / ours, {field}"] = [float(f"{value:.3g}") for value in values]
    if latency:
        values = [run["seconds"] / run["ideal_s"] for run in figures[OURS]]
        record["ours / ideal"] = [float(f"{value:.3g}") for value in sorted(values)]
    emit(
        benchmark="whole_flow",
        items=items,
        model_ms=latency * 1000,
        link_ms=round_trip * 1000,
        **record,
    )


def median(figures: Figures, name: str, field: str) -> float:
    """Of one client's rounds."""
    return statistics.median(run[field] for run in figures[name])


def write(results: dict[tuple[int, float, float], Figures]) -> None:
    """The two tables: time, and what it costs."""
    times: list[list[str]] = []
    costs: list[list[str]] = []
    for (items, latency, round_trip), figures in sorted(results.items()):
        place = [f"{items:,}", f"{latency * 1000:.0f}", f"{round_trip * 1000:.0f}"]
        near = [run["seconds"] / run["ideal_s"] for run in figures[OURS] if latency]
        in_one = ratios(figures, IN_ONE_CALL, "seconds")
        times.append(
            [
                *place,
                number(median(figures, OURS, "seconds")),
                spread(near) if near else "",
                spread(ratios(figures, NEW, "seconds")),
                spread(in_one) if in_one else "",
                spread(ratios(figures, OLD, "seconds")),
                spread(ratios(figures, FLOOR, "seconds")),
            ]
        )
        for name in (OURS, FLOOR, NEW, OLD):
            costs.append(
                [
                    *place,
                    name,
                    number(median(figures, name, "seconds")),
                    number(median(figures, name, "cpu_s") * 1000),
                    number(median(figures, name, "requests")),
                    number(
                        (median(figures, name, "bytes_up") + median(figures, name, "bytes_down"))
                        / 1024
                    ),
                    number(median(figures, name, "peak_mib")),
                ]
            )
    place = ["items", "model, ms", "link, ms"]
    write_table(
        "whole_flow times",
        [
            *place,
            "this client, s",
            "/ ideal",
            "1.5.2 / this",
            "1.5.2 run_experiment / this",
            "0.7.3 / this",
            "floor / this",
        ],
        times,
    )
    write_table(
        "whole_flow costs",
        [*place, "client", "s", "CPU, ms", "requests", "KiB", "peak RSS, MiB"],
        costs,
    )


async def main(sizes: Sequence[int], rounds: int | None, *, table: bool) -> None:
    """All cells."""
    results: dict[tuple[int, float, float], Figures] = {}
    for latency in LATENCIES:
        async with stage(latency, sorted({10, *sizes})) as made:
            for items in sizes:
                async with contending(made, items, latency) as children:
                    for link in ROUND_TRIPS:
                        count = rounds or ROUNDS.get(items, 1)
                        results[items, latency, link] = await cell(
                            made, children, items, latency, link, count
                        )
    if table:
        write(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--rounds", type=int, help="as many for each size")
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    arguments = parser.parse_args()
    started = time.perf_counter()
    asyncio.run(main(arguments.items, arguments.rounds, table=arguments.table))
    emit(benchmark="whole_flow", took_s=time.perf_counter() - started, cores=os.cpu_count())
