"""What does it cost to send 100 rows as 100 calls at once, and what do they save by coalescing?

    python -m benchmarks.coalesce
    python -m benchmarks.coalesce --rows 100 --rounds 3

The same rows as one batch, as single calls that begin together on a client with a window of 5 ms,
and as single calls on one without. Each way has a client of its own, open before: the start-up is
in none of the figures. The embedded server is durable; its model takes a seeded log-normal of
200 ms (sigma 0.3) for each row, the same for all ways, another draw each round, all rows at once.

Of a batch each row waits for the slowest, so a call's time is that of the batch; so it is with
calls that share a chunk. A single call waits for its own row alone, and costs a request.

Server and link have one core, the client the other. All answers are compared with what the model
says. The first round is warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common.children import SERVER_CORE, Child
from benchmarks.common.report import emit, spread, write_table
from benchmarks.contenders.calls import WAYS

HERE = Path(__file__).parent
LATENCY = 0.2
ROWS, ROUNDS = 100, 5
OPERATIONS = ("generate", "rate")

Figures = dict[tuple[str, str], list[dict[str, float]]]


def port_of(server: Child) -> int | None:
    """Where it listens."""
    return urlsplit(str(server.ready["url"])).port


async def measure(rows: int, rounds: int) -> Figures:
    """Each operation each way, in turn."""
    figures: Figures = {}
    common = HERE / "common"
    async with (
        Child(
            common / "service.py", "--latency", LATENCY, "--calls", rows, core=SERVER_CORE
        ) as server,
        Child(
            common / "link.py", urlsplit(str(server.ready["url"])).port, core=SERVER_CORE
        ) as link,
        Child(HERE / "contenders/calls.py") as client,
    ):
        url = f"http://127.0.0.1:{link.ready}"
        await client.ask(url=url, api_key=server.ready["api_key"], rows=rows)
        for draw in range(rounds + 1):
            await server.ask(draw=draw + 1)
            for operation in OPERATIONS:
                for way in WAYS:
                    await link.ask(round_trip=0.0)
                    found = await client.ask(way=way, operation=operation)
                    found["requests"] = (await link.ask(round_trip=0.0))["requests"]
                    record = emit(
                        benchmark="coalesce",
                        operation=operation,
                        way=way,
                        rows=rows,
                        warm_up=draw == 0,
                        **found,
                    )
                    if draw > 0:
                        figures.setdefault((operation, way), []).append(record)
    return figures


def ratios(figures: Figures, operation: str, way: str) -> list[float]:
    """Of the p50 of a call to the time of the batch, round by round."""
    pairs = zip(figures[operation, way], figures[operation, "batch"], strict=True)
    return [own["p50_ms"] / batch["p50_ms"] for own, batch in pairs]


def write(figures: Figures) -> None:
    """The table of the README."""
    rows: list[list[str]] = []
    for (operation, way), found in figures.items():
        rows.append(
            [
                operation,
                way,
                spread([one["requests"] for one in found]),
                spread([one["p50_ms"] for one in found]),
                spread([one["worst_ms"] for one in found]),
                spread(ratios(figures, operation, way)),
                spread([one["cpu_ms"] for one in found]),
            ]
        )
    head = ["operation", "way", "requests", "p50, ms", "worst, ms", "p50 / batch", "client CPU, ms"]
    write_table("coalesce", head, rows)


async def main(arguments: argparse.Namespace) -> None:
    """Measure, and tell the ratios."""
    figures = await measure(arguments.rows, arguments.rounds)
    for operation, way in figures:
        emit(
            benchmark="coalesce",
            operation=operation,
            way=way,
            **{"p50 / batch": ratios(figures, operation, way)},
        )
    if arguments.table:
        write(figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="calls that begin together")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="after the one of warm-up")
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    options = parser.parse_args()
    started = time.perf_counter()
    asyncio.run(main(options))
    emit(benchmark="coalesce", took_s=time.perf_counter() - started, cores=os.cpu_count())
