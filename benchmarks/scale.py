"""Do the time and the memory of an item stay flat from 10^3 to 10^6 streamed items?

    python -m benchmarks.scale --items 1000 100000

Streams a generator of n rows through `stream_generate_many`, in chunks of 100, eight in flight,
against a scripted service that keeps nothing, in a process of its own on the other core. Every
answer is compared with its input as it comes. One JSON line a run, each in a process of its own:
CPU and wall time per item, highest resident memory and its growth after warm-up (the first 5 % of
the items, 1,000 at least), the most tasks, and the most items read ahead of the consumer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.children import SERVER_CORE, Child
from benchmarks.common.report import emit, number, write_table
from benchmarks.contenders.meter import forget_peak, memory_mib
from elluminate_async import AsyncClient, BatchOptions, PromptResponse
from elluminate_async.testing import ScriptedService

ITEMS = (1_000, 10_000, 100_000, 1_000_000)
CHUNK_SIZE = 100
CONCURRENCY = 8
WARM_UP = 0.05
WARM_UP_ITEMS = 1_000
LOOK_EVERY = 500
LIMIT_MIB = 64.0


async def serve() -> None:
    """Serve until the standard input ends."""
    async with ScriptedService(retain=False, variables=lambda id: {"n": id}) as service:
        print(json.dumps({"url": service.url, "api_key": service.api_key}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def stream(task: dict[str, Any]) -> dict[str, float]:
    """Stream so many items, and measure."""
    items = task["items"]
    options = BatchOptions(chunk_size=CHUNK_SIZE, max_concurrency=CONCURRENCY, deadline=24 * 3600.0)
    read = done = tasks = ahead = 0

    def rows() -> Iterator[int]:
        nonlocal read
        for id in range(1, items + 1):
            read = id
            yield id

    async with AsyncClient(
        base_url=task["url"], api_key=task["api_key"], options=options
    ) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        warm_from = min(max(WARM_UP * items, WARM_UP_ITEMS), items)
        warm = 0.0
        cpu, wall = time.process_time(), time.perf_counter()
        async with client.responses.stream_generate_many(
            template_variables=rows(), experiment=experiment
        ) as outcomes:
            async for position, outcome in outcomes:
                assert isinstance(outcome, PromptResponse)
                assert outcome.response_str == f'{{"n": {position + 1}}}'
                done += 1
                if done % LOOK_EVERY == 0:
                    ahead = max(ahead, read - done)
                    tasks = max(tasks, len(asyncio.all_tasks()))
                    if not warm and done >= warm_from:
                        warm = memory_mib("VmRSS")
                        forget_peak()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert done == items
    return {
        "seconds": wall,
        "items_per_second": items / wall,
        "cpu_us_per_item": cpu / items * 1e6,
        "warm_rss_mib": warm,
        "peak_rss_mib": memory_mib("VmHWM"),
        "growth_mib": memory_mib("VmHWM") - warm,
        "most_tasks": tasks,
        "most_items_ahead": ahead,
    }


async def run(items: int) -> dict[str, Any]:
    """One run: a process that serves, and one that streams."""
    this = Path(__file__)
    async with (
        Child(this, "--role", "serve", core=SERVER_CORE) as server,
        Child(this, "--role", "stream") as client,
    ):
        found = await client.ask(**server.ready, items=items)
    return emit(benchmark="scale", items=items, **found)


async def main(sizes: Sequence[int], *, table: bool) -> None:
    """All sizes."""
    found = [await run(items) for items in sizes]
    base = next((one for one in found if one["items"] >= 100_000), found[-1])
    for one in found:
        assert one["growth_mib"] <= LIMIT_MIB, one
        for field in ("cpu_us_per_item", "peak_rss_mib"):
            one[f"{field}, ratio"] = one[field] / base[field]
    emit(
        benchmark="scale",
        base=base["items"],
        **{
            f"{field} / that of the base": {one["items"]: one[f"{field}, ratio"] for one in found}
            for field in ("cpu_us_per_item", "peak_rss_mib")
        },
    )
    if table:
        write_table(
            "scale",
            [
                "items",
                "items a second",
                "client CPU, us an item",
                "peak RSS, MiB",
                f"/ that of {base['items']:,}",
                "growth, MiB",
                "most tasks",
                "most items ahead",
            ],
            [
                [
                    f"{one['items']:,}",
                    number(one["items_per_second"]),
                    number(one["cpu_us_per_item"]),
                    number(one["peak_rss_mib"]),
                    f"{one['peak_rss_mib, ratio']:.2f}",
                    number(one["growth_mib"]),
                    one["most_tasks"],
                    one["most_items_ahead"],
                ]
                for one in found
            ],
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    parser.add_argument("--role", choices=("serve", "stream"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "serve":
        asyncio.run(serve())
    elif arguments.role == "stream":
        print(json.dumps("ready"), flush=True)
        print(json.dumps(asyncio.run(stream(json.loads(sys.stdin.readline())))), flush=True)
    else:
        asyncio.run(main(arguments.items, table=arguments.table))
