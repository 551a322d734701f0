"""`stream_generate_many` with a journal, its service, and the reading of the journal alone."""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import os
import signal
import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders.meter import forget_peak, memory_mib
from elluminate_async import AsyncClient, BatchOptions, GenerationError, PromptResponse
from elluminate_async.engine.journal_state import JournalState
from elluminate_async.testing import ScriptedService

CHUNK_SIZE = 100
CONCURRENCY = 8
DAY = 24 * 3600.0
FAILS_EVERY = 50


def model(values: Mapping[str, Any]) -> str:
    """The answer; of each 50th an error.

    Raises:
        ValueError: The error of the model.
    """
    if values["n"] % FAILS_EVERY == 0:
        raise ValueError("planted")
    return f"answer {values['n']}"


async def serve() -> None:
    """Serve, and answer each line with what the ledger has, until the standard input ends."""
    # What is kept is kept to the end, and is not to be looked through again and again.
    gc.disable()
    async with ScriptedService(answer=model, variables=lambda id: {"n": id}) as service:
        print(json.dumps({"url": service.url, "api_key": service.api_key}), flush=True)
        ledger = service.ledger
        while await asyncio.to_thread(sys.stdin.readline):
            figures = {
                "paid": ledger.generations,
                "paid_twice": ledger.generations - len(ledger.generated),
            }
            print(json.dumps(figures), flush=True)


async def stream(url: str, api_key: str, items: int, journal: str, kill_at: int) -> dict[str, Any]:
    """Stream so many items, and measure; from ``kill_at`` outcomes on be killed."""
    options = BatchOptions(chunk_size=CHUNK_SIZE, max_concurrency=CONCURRENCY, deadline=DAY)
    seen = bytearray(items)
    done = failed = 0
    first = 0.0
    async with AsyncClient(base_url=url, api_key=api_key, options=options) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        forget_peak()
        before = memory_mib("VmRSS")
        cpu, wall = time.process_time(), time.perf_counter()
        async with client.responses.stream_generate_many(
            template_variables=ids(items), experiment=experiment, journal=journal
        ) as outcomes:
            async for position, outcome in outcomes:
                first = first or time.perf_counter() - wall
                is_planted = (position + 1) % FAILS_EVERY == 0
                if is_planted:
                    assert isinstance(outcome, GenerationError), outcome
                else:
                    assert isinstance(outcome, PromptResponse), outcome
                    assert outcome.response_str == f"answer {position + 1}"
                failed += is_planted
                seen[position] += 1
                done += 1
                if done == kill_at:
                    break
            figures = {
                "done": done,
                "failed_as_planted": failed,
                "lost": 0 if kill_at else seen.count(0),
                "twice": done - seen.count(1),
                "seconds": time.perf_counter() - wall,
                "first_outcome_s": first,
                "cpu_us_per_item": (time.process_time() - cpu) / done * 1e6,
                "peak_rss_mib": memory_mib("VmHWM"),
                "growth_mib": memory_mib("VmHWM") - before,
            }
            if kill_at:
                # With chunks in flight, and no word to anybody.
                print(json.dumps(figures), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    return figures


def ids(items: int) -> Iterator[int]:
    """The rows, of unknown length."""
    yield from range(1, items + 1)


def read(journal: str, *, traced: bool) -> dict[str, float]:
    """Read a journal as a call does that takes it up, and measure."""
    gc.collect()
    forget_peak()
    before = memory_mib("VmRSS")
    if traced:
        tracemalloc.start()
    started = time.perf_counter()
    state = JournalState.read(Path(journal), io.FileIO(journal))
    seconds = time.perf_counter() - started
    items = len(state.done) + len(state.failed)
    if traced:
        kept, peak = tracemalloc.get_traced_memory()
        return {"kept_bytes_per_item": kept / items, "peak_bytes_per_item": peak / items}
    return {
        "items": items,
        "file_bytes_per_item": state.end / items,
        "seconds": seconds,
        "growth_mib": memory_mib("VmHWM") - before,
    }


def main() -> None:
    """Serve, or take one task and answer with what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("serve", "stream", "read"), required=True)
    role = parser.parse_args().role
    if role == "serve":
        return asyncio.run(serve())
    print(json.dumps("ready"), flush=True)
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    found = asyncio.run(stream(**task)) if role == "stream" else read(**task)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
