"""What does `evaluate` cost beside its ideal, the official client, and its own two steps?

    python -m benchmarks.evaluate --rows 10 100 --rounds 1 --overhead-rows 2000
    python -m benchmarks.evaluate --stream-rows 100000 1000000

**Time.** From n rows that no service knows to their ratings by one criterion, opening and closing
included: `evaluate` beside what official 1.5.2 needs for it, a template, a collection with its
rows and `run_experiment`, which is also measured alone. The embedded server runs durably with its
default bound of model calls; its model takes a seeded log-normal of 200 ms (sigma 0.3) for each
row and purpose, the same for all, another draw each round. The ideal is a simulation of these
latencies, with each response rated as soon as it is there, and the round trips that every client
of this service needs: one for each of `ROUND_TRIPS`.

**Overhead.** Rows × 2 configurations × 2 criteria with the offline model, beside the least
program: `generate_many`, then `rate_many`, for one configuration after the other. That has its
rows at the service already, and the upload is told apart.

**Stream.** `stream_evaluate` over generated rows to a file of JSON lines, against a scripted
service that keeps no responses, each size in a process of its own.

Server and link have one core, the client the other. All records are compared with what the model
says, those of the overhead with the ones of the least program, those of the stream as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common.answers import pipelined_seconds, word
from benchmarks.common.children import ROOT, SERVER_CORE, Child
from benchmarks.common.report import emit, number, spread, write_table

HERE = Path(__file__).parent
LATENCY = 0.2
MODEL_CALLS = 64  # the default of `LocalServer`
LINKS = (0.0, 0.03)
ROWS = (10, 100, 1_000)
ROUNDS = 3
ROUND_TRIPS = (
    "the connection",
    "the project's number",
    "template, criteria and collection, which need nothing of each other",
    "the experiment and the rows, which need these",
    "the responses, which need both",
    "the ratings, which need a response",
)
OVERHEAD_ROWS = 20_000
OVERHEAD_ROUNDS = 2
STREAM_ROWS = (100_000, 1_000_000)
OURS, OFFICIAL = "elluminate-async", "official 1.5.2"
CONTENDERS = {
    OURS: ("evaluate_ours.py", ".venv"),
    OFFICIAL: ("official_1_5_2_evaluate.py", ".venv-official/1.5.2"),
}

Figures = dict[str, list[dict[str, float]]]


@contextlib.asynccontextmanager
async def serving(*options: object) -> AsyncGenerator[tuple[Child, Child]]:
    """A fresh server, and the link before it."""
    common = HERE / "common"
    async with Child(
        common / "service.py", "--calls", MODEL_CALLS, *options, core=SERVER_CORE
    ) as server:
        port = urlsplit(str(server.ready["url"])).port
        async with Child(common / "link.py", port, core=SERVER_CORE) as link:
            yield server, link


async def run(
    server: Child,
    link: Child,
    client: Child,
    *,
    round_trip: float = 0.0,
    draw: int = 1,
    **task: Any,
) -> dict[str, float]:
    """One task of one client."""
    await link.ask(round_trip=round_trip)
    server_cpu = (await server.ask(draw=draw))["cpu_s"]
    figures = await client.ask(
        url=f"http://127.0.0.1:{link.ready}",
        api_key=server.ready["api_key"],
        name=uuid.uuid4().hex,
        **task,
    )
    figures["server_cpu_s"] = (await server.ask())["cpu_s"] - server_cpu
    return figures | await link.ask(round_trip=0.0)


def work(rows: int) -> dict[str, Any]:
    """What is evaluated."""
    return {
        "rows": [{"word": word(n)} for n in range(rows)],
        # A prompt of its own, so that its template is new.
        "prompt": f"Explain {{{{word}}}} in one paragraph, {uuid.uuid4().hex}.",
        "criteria": ["Is it right?"],
    }


async def times(sizes: Sequence[int], rounds: int) -> dict[tuple[int, float], Figures]:
    """All cells, the clients in turn."""
    results: dict[tuple[int, float], Figures] = {}
    async with contextlib.AsyncExitStack() as stack:
        server, link = await stack.enter_async_context(serving("--latency", LATENCY))
        clients = {
            name: await stack.enter_async_context(
                Child(HERE / "contenders" / script, python=ROOT / python / "bin/python")
            )
            for name, (script, python) in CONTENDERS.items()
        }
        for client in clients.values():
            await run(server, link, client, round_trip=0.0, draw=rounds + 1, **work(10))
        for rows in sizes:
            for round_trip in LINKS:
                figures = results[rows, round_trip] = {}
                for draw in range(1, rounds + 1):
                    for name, client in clients.items():
                        found = await run(
                            server, link, client, round_trip=round_trip, draw=draw, **work(rows)
                        )
                        figures.setdefault(name, []).append(
                            emit(
                                benchmark="evaluate",
                                rows=rows,
                                link_ms=round_trip * 1000,
                                client=name,
                                **found,
                                **ideals(rows, round_trip, draw),
                            )
                        )
                emit(benchmark="evaluate", rows=rows, link_ms=round_trip * 1000, **told(figures))
    return results


def ideals(rows: int, round_trip: float, draw: int) -> dict[str, float]:
    """Seconds that the cell needs at least, by two orders of the model's calls."""
    trips = len(ROUND_TRIPS) * round_trip
    return {
        f"{name}_s": trips
        + pipelined_seconds(rows, LATENCY, MODEL_CALLS, draw, ratings_first=first)
        for name, first in (("ideal", True), ("shortest", False))
    }


def told(figures: Figures) -> dict[str, list[float]]:
    """The ratios of a cell, round by round."""
    ours, theirs = figures[OURS], figures[OFFICIAL]
    pairs = list(zip(theirs, ours, strict=True))
    return {
        "ours / ideal": [own["seconds"] / own["ideal_s"] for own in ours],
        "ours / shortest": [own["seconds"] / own["shortest_s"] for own in ours],
        "run_experiment / ours": [
            other["run_experiment_s"] / own["seconds"] for other, own in pairs
        ],
        "official / ours": [other["seconds"] / own["seconds"] for other, own in pairs],
        "CPU, official / ours": [other["cpu_s"] / own["cpu_s"] for other, own in pairs],
    }


async def overhead(rows: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """`evaluate` and the least program in turn, in one process."""
    figures: dict[str, list[dict[str, float]]] = {"evaluate": [], "the two steps": []}
    script, digests = HERE / "contenders/evaluate_steps.py", set[object]()
    async with serving("--offline") as (server, link), Child(script) as client:
        for call in figures:
            await run(server, link, client, call=call, rows=200)
        for _ in range(rounds):
            for call, runs in figures.items():
                found = await run(server, link, client, call=call, rows=rows)
                digests.add(found.pop("digest"))
                runs.append(emit(benchmark="evaluate", overhead_of=call, rows=rows, **found))
    assert len(digests) == 1, "the two gave other records"
    for field in ("steps_s", "steps_cpu_s"):
        pairs = zip(*figures.values(), strict=True)
        shares = [own[field] / least[field] for own, least in pairs]
        emit(benchmark="evaluate", rows=rows, **{f"evaluate / the two steps, {field}": shares})
    return figures


async def stream(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Each size, with the memory beside that of 100,000 rows, or of the first size."""
    script = HERE / "contenders/evaluate_stream.py"
    found: list[dict[str, Any]] = []
    for rows in sizes:
        async with (
            Child(script, "--serve", core=SERVER_CORE) as server,
            Child(script) as client,
        ):
            figures = await client.ask(**server.ready, rows=rows)
        found.append(emit(benchmark="evaluate", stream_rows=rows, **figures))
    base = next((one for one in found if one["stream_rows"] == STREAM_ROWS[0]), found[0])
    for one in found:
        one["ratio"] = one["peak_rss_mib"] / base["peak_rss_mib"]
    ratios = {one["stream_rows"]: round(one["ratio"], 3) for one in found}
    emit(benchmark="evaluate", stream_peak_rss_ratio=ratios)
    return found


def write_times(results: dict[tuple[int, float], Figures]) -> None:
    """The table of the cells."""
    rows: list[list[str]] = []
    for (count, round_trip), figures in sorted(results.items()):
        ratios = told(figures)
        own = figures[OURS]
        rows.append(
            [
                f"{count:,}",
                f"{round_trip * 1000:.0f}",
                number(statistics.median(one["seconds"] for one in own)),
                number(statistics.median(one["requests"] for one in own)),
                *map(spread, ratios.values()),
            ]
        )
    head = [
        "rows",
        "link, ms",
        "s",
        "requests",
        "/ ideal",
        "/ shortest order",
        "run_experiment alone / this",
        "1.5.2 from rows / this",
        "CPU, 1.5.2 / this",
    ]
    write_table("evaluate times", head, rows)


def write_overhead(figures: dict[str, list[dict[str, float]]]) -> None:
    """The table of the overhead."""
    least = figures["the two steps"]
    rows = [
        [
            call,
            spread([run["steps_s"] for run in runs]),
            spread([run["steps_cpu_s"] for run in runs]),
            *(
                spread([run[field] / one[field] for run, one in zip(runs, least, strict=True)])
                for field in ("steps_s", "steps_cpu_s")
            ),
            number(statistics.median(run["requests"] for run in runs)),
            number(statistics.median(run["peak_mib"] for run in runs)),
        ]
        for call, runs in figures.items()
    ]
    head = ["call", "s", "client CPU, s", "s, ratio", "CPU, ratio", "requests", "peak RSS, MiB"]
    write_table("evaluate overhead", head, rows)


def write_stream(found: Sequence[dict[str, Any]]) -> None:
    """The table of the stream."""
    rows = [
        [
            f"{one['stream_rows']:,}",
            number(one["rows_per_second"]),
            number(one["cpu_us_per_row"]),
            number(one["peak_rss_mib"]),
            f"{one['ratio']:.2f}",
            number(one["growth_mib"]),
        ]
        for one in found
    ]
    head = [
        "rows",
        "rows a second",
        "client CPU, us a row",
        "peak RSS, MiB",
        "ratio",
        "growth, MiB",
    ]
    write_table("evaluate stream", head, rows)


async def main(arguments: argparse.Namespace) -> None:
    """The parts that were asked for, or all."""
    chosen = arguments.rows, arguments.overhead_rows, arguments.stream_rows
    everything = all(one is None for one in chosen)
    rows, overhead_rows, stream_rows = (ROWS, OVERHEAD_ROWS, STREAM_ROWS) if everything else chosen
    if rows:
        results = await times(rows, arguments.rounds or ROUNDS)
        if arguments.table:
            write_times(results)
    if overhead_rows:
        figures = await overhead(overhead_rows, arguments.rounds or OVERHEAD_ROUNDS)
        if arguments.table:
            write_overhead(figures)
    if stream_rows:
        found = await stream(stream_rows)
        if arguments.table:
            write_stream(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", help="only the times, of so many rows")
    parser.add_argument("--overhead-rows", type=int, help="only the overhead, of so many rows")
    parser.add_argument("--stream-rows", type=int, nargs="+", help="only the stream")
    parser.add_argument("--rounds", type=int, help="of each cell")
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    options = parser.parse_args()
    started = time.perf_counter()
    asyncio.run(main(options))
    emit(benchmark="evaluate", took_s=time.perf_counter() - started, cores=os.cpu_count())
