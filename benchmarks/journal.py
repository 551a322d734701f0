"""What does a journal of 10^6 items take to be resumed, and is anything paid for twice?

    python -m benchmarks.journal --items 1000000

Streams a generator of n rows through `stream_generate_many` with a journal, in chunks of 100,
eight in flight, against a scripted service that keeps all rows, in a process of its own on the
other core. The model fails for each 50th row. The process is killed with SIGKILL when it has half
of the outcomes, and another one makes the same call. Every outcome is compared with its input as
it comes: none may be lost, and by the service's ledger none may be paid for twice.

One JSON line for each of: the first process, the second, the reading of the whole journal, and
what came of it all. Memory is the highest that is resident; of the reading also what the journal's
state holds, by `tracemalloc`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.children import SERVER_CORE, Child
from benchmarks.common.report import emit, number, write_table

ITEMS = 1_000_000
MOST_BYTES = 100
"""Of memory that an item of a journal may take."""

PARTS = ("killed at half", "resumed")


async def run(items: int, journal: Path) -> list[dict[str, Any]]:
    """The parts, measured."""
    script = Path(__file__).parent / "contenders/journalled_stream.py"
    found: list[dict[str, Any]] = []
    async with Child(script, "--role", "serve", core=SERVER_CORE) as server:
        for part, kill_at in zip(PARTS, (items // 2, 0), strict=True):
            async with Child(script, "--role", "stream") as client:
                figures = await client.ask(
                    **server.ready, items=items, journal=str(journal), kill_at=kill_at
                )
            found.append(emit(benchmark="journal", part=part, **figures, **await server.ask()))
    reading: dict[str, Any] = {}
    for traced in (False, True):
        async with Child(script, "--role", "read") as client:
            reading |= await client.ask(journal=str(journal), traced=traced)
    found.append(emit(benchmark="journal", part="reading", **reading))
    return found


async def main(items: int, *, table: bool) -> None:
    """Run, and hold it to what is promised."""
    with tempfile.TemporaryDirectory() as folder:
        killed, resumed, reading = await run(items, Path(folder) / "journal")
    assert killed["paid"] > killed["done"], "no chunk was in flight: the kill did not bite"
    assert killed["paid"] < items, "nothing was left: the kill did not bite"
    assert (resumed["lost"], resumed["twice"], resumed["paid_twice"]) == (0, 0, 0), resumed
    assert (resumed["done"], resumed["paid"], reading["items"]) == (items, items, items)
    assert reading["kept_bytes_per_item"] <= MOST_BYTES, reading
    emit(
        benchmark="journal",
        items=items,
        lost=0,
        paid_twice=0,
        in_flight_at_the_kill=killed["paid"] - killed["done"],
        bytes_per_item=reading["kept_bytes_per_item"],
        reading_s=reading["seconds"],
    )
    if table:
        write(items, killed, resumed, reading)


def write(
    items: int, killed: dict[str, Any], resumed: dict[str, Any], reading: dict[str, Any]
) -> None:
    """The tables of the README."""
    rows = [
        [
            f"{part}, {one['done']:,} outcomes",
            number(one["seconds"]),
            number(one["first_outcome_s"]),
            number(one["cpu_us_per_item"]),
            number(one["peak_rss_mib"]),
            number(one["growth_mib"]),
        ]
        for part, one in zip(PARTS, (killed, resumed), strict=True)
    ]
    head = ["part", "s", "first outcome, s", "client CPU, us an item", "peak RSS, MiB"]
    write_table("journal", [*head, "growth, MiB"], rows)
    fields = ("seconds", "kept_bytes_per_item", "peak_bytes_per_item", "file_bytes_per_item")
    head = ["items", "reading, s", "memory, bytes an item", "at most", "file, bytes an item"]
    write_table(
        "journal reading", head, [[f"{items:,}", *(number(reading[name]) for name in fields)]]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.items, table=arguments.table))
