"""Does the memory of `stream_generate_many` grow with the input?

    python benchmarks/stream_memory.py --items 50000 200000 1000000

Streams a generator of n rows through a client against a scripted service in a process of its
own, which keeps nothing. Every answer is compared with its input. One JSON line a run, each
in a process of its own too: resident memory after 5 % of the items, which is warm-up, its
highest and its growth from there, and the most chunks that were in flight at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions, PromptResponse
from elluminate_async.testing import ScriptedService

CHUNK_SIZE = 100
CONCURRENCY = 8
WARM_UP = 0.05
LIMIT_MIB = 64.0


def resident_mib() -> float:
    """Resident memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status: this needs Linux")


async def serve() -> None:
    """Serve until the standard input ends."""
    async with ScriptedService(retain=False, variables=lambda id: {"n": id}) as service:
        print(json.dumps([service.url, service.api_key]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def stream(url: str, api_key: str, items: int) -> dict[str, object]:
    options = BatchOptions(chunk_size=CHUNK_SIZE, max_concurrency=CONCURRENCY, deadline=24 * 3600.0)
    read = done = tasks = ahead = 0

    def rows() -> Iterator[int]:
        nonlocal read
        for id in range(1, items + 1):
            read = id
            yield id

    warm = highest = 0.0
    async with AsyncClient(base_url=url, api_key=api_key, options=options) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        started = time.perf_counter()
        async with client.responses.stream_generate_many(
            template_variables=rows(), experiment=experiment
        ) as outcomes:
            async for position, outcome in outcomes:
                assert isinstance(outcome, PromptResponse)
                assert outcome.response_str == f'{{"n": {position + 1}}}'
                done += 1
                ahead = max(ahead, read - done)
                if done % 1000 == 0:
                    tasks = max(tasks, len(asyncio.all_tasks()))
                    if done >= WARM_UP * items:
                        now = resident_mib()
                        warm, highest = warm or now, max(highest, now)
        seconds = time.perf_counter() - started
    assert done == items
    return {
        "benchmark": "stream_memory",
        "items": items,
        "seconds": round(seconds, 1),
        "items_per_second": round(items / seconds),
        "warm_rss_mib": round(warm, 1),
        "highest_rss_mib": round(highest, 1),
        "growth_mib": round(highest - warm, 1),
        "most_tasks": tasks,
        "most_items_ahead": ahead,
    }


def run(items: int) -> dict[str, object]:
    """One run: a process that serves, and one that streams."""
    this = [sys.executable, __file__]
    with subprocess.Popen(
        [*this, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        url, api_key = json.loads(server.stdout.readline())
        done = subprocess.run(
            [*this, "--stream", url, api_key, str(items)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        server.stdin.close()
    print(done.stdout, end="", flush=True)
    return json.loads(done.stdout)


def main(sizes: list[int]) -> None:
    for items in sizes:
        growth = run(items)["growth_mib"]
        assert isinstance(growth, float)
        assert growth <= LIMIT_MIB, f"{growth} MiB for {items} items"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--stream", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    elif arguments.stream:
        url, api_key, items = arguments.stream
        print(json.dumps(asyncio.run(stream(url, api_key, int(items)))))
    else:
        main(arguments.items)
