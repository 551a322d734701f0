"""`stream_evaluate` over generated rows to a file of JSON lines, and the service for it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.contenders.meter import forget_peak, memory_mib
from elluminate_async import AsyncClient, BatchOptions, RatingMode
from elluminate_async.testing import ScriptedService

DAY = 24 * 3600.0
WARM_UP = 0.05
WARM_UP_ROWS = 2_000
LOOK_EVERY = 500


async def serve() -> None:
    """Serve until the standard input ends; rows are kept, as they are uploaded once."""
    async with ScriptedService(retain=False, criteria=2) as service:
        print(json.dumps({"url": service.url, "api_key": service.api_key}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def stream(url: str, api_key: str, rows: int) -> dict[str, float]:
    """Evaluate so many rows, and measure.

    Returns:
        Seconds and CPU in all and by row, and resident memory in MiB: after the first 5 % of
        the rows, and its highest from there on.
    """
    read = done = ahead = 0
    warm = 0.0
    warm_from = min(max(WARM_UP * rows, WARM_UP_ROWS), rows)

    def generated() -> Iterator[dict[str, int]]:
        nonlocal read
        for n in range(rows):
            read = n
            yield {"n": n}

    options = BatchOptions(deadline=DAY)
    async with AsyncClient(base_url=url, api_key=api_key, options=options) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        cpu, wall = time.process_time(), time.perf_counter()
        with tempfile.TemporaryFile("w") as file:
            async with client.stream_evaluate(
                generated(), prompt=template, rating_mode=RatingMode.FAST
            ) as records:
                async for record in records:
                    assert record.response_str == f'{{"n": {record.row}}}', record
                    assert record.ratings is not None, record.rated
                    assert [str(one.rating) for one in record.ratings] == ["YES", "YES"]
                    file.write(json.dumps(record.to_dict()) + "\n")
                    done += 1
                    if done % LOOK_EVERY == 0:
                        ahead = max(ahead, read - done)
                        if not warm and done >= warm_from:
                            warm = memory_mib("VmRSS")
                            forget_peak()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert done == rows
    peak = memory_mib("VmHWM")
    return {
        "seconds": wall,
        "rows_per_second": rows / wall,
        "cpu_us_per_row": cpu / rows * 1e6,
        "warm_rss_mib": warm,
        "peak_rss_mib": peak,
        "growth_mib": peak - warm,
        "most_rows_ahead": ahead,
    }


def main() -> None:
    """Serve, or take one task and answer with what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true")
    if parser.parse_args().serve:
        return asyncio.run(serve())
    print(json.dumps("ready"), flush=True)
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(stream(**task))), flush=True)


if __name__ == "__main__":
    main()
