"""What does a journal of 10^6 items take to be resumed, and is anything paid for twice?

    python -m benchmarks.journal --items 1000000 --rows 100000

Streams a generator of n rows with a journal, in chunks of 100, eight in flight, against a scripted
service that keeps all rows, in a process of its own on the other core: items through
`stream_generate_many`, rows through `stream_evaluate`, which rates by one criterion. The model
fails for each 50th row. The process is killed with SIGKILL when it has half of the outcomes, and
another one makes the same call. Every outcome is compared with its input as it comes: none may be
lost, and by the service's ledger no call of the model or the judge may be made twice.

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
from benchmarks.contenders.journalled_stream import CHUNK_SIZE, CONCURRENCY, FAILS_EVERY

ITEMS, ROWS = 1_000_000, 100_000
FEWEST = 2 * (CONCURRENCY + 1) * CHUNK_SIZE
"""So many at least: on a busy machine all that is in flight may be done before the kill."""

MOST_BYTES = 100
"""Of memory that an item of a journal may take."""

PARTS = ("killed at half", "resumed")
SCRIPT = Path(__file__).parent / "contenders/journalled_stream.py"


async def run(call: str, items: int, journal: Path) -> list[dict[str, Any]]:
    """The parts of one call, measured."""
    found: list[dict[str, Any]] = []
    async with Child(SCRIPT, "--role", "serve", core=SERVER_CORE) as server:
        for part, kill_at in zip(PARTS, (items // 2, 0), strict=True):
            async with Child(SCRIPT, "--role", "stream") as client:
                figures = await client.ask(
                    **server.ready, call=call, items=items, journal=str(journal), kill_at=kill_at
                )
                if kill_at:
                    await paid_for(server, more_than=figures["cost"])
                    client.process.kill()
            figures |= await settled(server)
            found.append(emit(benchmark="journal", call=call, part=part, **figures))
    journals = sorted(journal.glob("*.journal")) if journal.is_dir() else [journal]  # noqa: ASYNC240
    async with Child(SCRIPT, "--role", "read") as client:
        reading = await client.ask(journals=[*map(str, journals)])
    found.append(emit(benchmark="journal", call=call, part="reading", **reading))
    return found


async def paid_for(server: Child, *, more_than: int) -> None:
    """Return once so many are, at the latest in a minute."""
    async with asyncio.timeout(60):
        while (await server.ask())["paid"] <= more_than:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def settled(server: Child) -> dict[str, int]:
    """What its ledger has once it no longer grows: what a killed process sent is read after it."""
    before, now = None, await server.ask()
    while before != now:
        await asyncio.sleep(0.2)
        before, now = now, await server.ask()
    return now


async def measure(call: str, items: int) -> list[dict[str, Any]]:
    """One call, held to what is promised."""
    with tempfile.TemporaryDirectory() as folder:
        killed, resumed, reading = await run(call, items, Path(folder) / "journal")
    rated = items - items // FAILS_EVERY if call == "evaluate" else 0
    assert killed["cost"] < killed["paid"], "no chunk was in flight: the kill did not bite"
    assert killed["paid"] < items + rated, "nothing was left: the kill did not bite"
    assert (resumed["lost"], resumed["twice"], resumed["paid_twice"]) == (0, 0, 0), resumed
    assert (resumed["done"], resumed["paid"]) == (items, items + rated), resumed
    assert reading["kept_bytes_per_item"] <= MOST_BYTES, reading
    emit(
        benchmark="journal",
        call=call,
        items=items,
        lost=0,
        paid_twice=0,
        bytes_per_item=reading["kept_bytes_per_item"],
        reading_s=reading["seconds"],
    )
    return [killed, resumed, reading]


async def main(sizes: dict[str, int], *, table: bool) -> None:
    """Both calls."""
    found = {call: await measure(call, items) for call, items in sizes.items() if items}
    if table:
        write(found)


def write(found: dict[str, list[dict[str, Any]]]) -> None:
    """The tables of the README."""
    rows = [
        [
            f"{call}, {part}",
            f"{one['done']:,}",
            number(one["seconds"]),
            number(one["first_outcome_s"]),
            number(one["cpu_us_per_item"]),
            number(one["peak_rss_mib"]),
            number(one["growth_mib"]),
        ]
        for call, figures in found.items()
        for part, one in zip(PARTS, figures, strict=False)
    ]
    head = ["part", "outcomes", "s", "first outcome, s", "client CPU, us an outcome"]
    write_table("journal", [*head, "peak RSS, MiB", "growth, MiB"], rows)
    fields = {
        "seconds": "s",
        "cpu_s": "CPU, s",
        "kept_bytes_per_item": "memory, bytes an item",
        "peak_bytes_per_item": "at most",
        "file_bytes_per_item": "file, bytes an item",
    }
    readings = [
        [call, f"{reading['items']:,}", *(number(reading[name]) for name in fields)]
        for call, (_, _, reading) in found.items()
    ]
    write_table("journal reading", ["journal of", "items", *fields.values()], readings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=ITEMS, help="that are generated; 0 for none")
    parser.add_argument("--rows", type=int, default=ROWS, help="that are evaluated; 0 for none")
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    arguments = parser.parse_args()
    sizes = {"generate": arguments.items, "evaluate": arguments.rows}
    if any(0 < size < FEWEST for size in sizes.values()):
        parser.error(f"give at least {FEWEST}, or 0: a kill at half must leave something to do")
    asyncio.run(main(sizes, table=arguments.table))
