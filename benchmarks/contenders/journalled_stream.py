"""Streams with a journal, killed or resumed, their service, and the reading of a journal alone."""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import sys
import time
import tracemalloc
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from benchmarks.contenders.meter import forget_peak, memory_mib
from elluminate_async import (
    AsyncClient,
    BatchOptions,
    GenerationError,
    PromptResponse,
    PromptTemplate,
    RatingMode,
)
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
    async with ScriptedService(answer=model, variables=lambda id: {"n": id}, criteria=1) as service:
        print(json.dumps({"url": service.url, "api_key": service.api_key}), flush=True)
        ledger = service.ledger
        while await asyncio.to_thread(sys.stdin.readline):
            paid = ledger.generations + ledger.verdicts
            once = len(ledger.generated) + len(ledger.rated)
            print(json.dumps({"paid": paid, "paid_twice": paid - once}), flush=True)


async def responses(
    client: AsyncClient, template: PromptTemplate, items: int, journal: str
) -> AsyncGenerator[int]:
    """The positions of `stream_generate_many` over an iterable, whose outcomes are right."""
    collection, _ = await client.collections.get_or_create("values")
    experiment, _ = await client.experiments.get_or_create(
        "run", prompt_template=template, collection=collection
    )
    rows = iter(range(1, items + 1))
    async with client.responses.stream_generate_many(
        template_variables=rows, experiment=experiment, journal=journal
    ) as outcomes:
        async for position, outcome in outcomes:
            if (position + 1) % FAILS_EVERY:
                assert isinstance(outcome, PromptResponse), outcome
                assert outcome.response_str == f"answer {position + 1}"
            else:
                assert isinstance(outcome, GenerationError), outcome
            yield position


async def records(
    client: AsyncClient, template: PromptTemplate, items: int, journal: str
) -> AsyncGenerator[int]:
    """The positions of `stream_evaluate` over an iterable, whose records are right."""
    rows = ({"n": n} for n in range(1, items + 1))
    async with client.stream_evaluate(
        rows, prompt=template, rating_mode=RatingMode.FAST, journal=journal
    ) as found:
        async for record in found:
            if (record.row + 1) % FAILS_EVERY:
                assert record.response_str == f"answer {record.row + 1}", record
                assert record.ratings is not None, record
                assert [str(one.rating) for one in record.ratings] == ["YES"]
            else:
                assert isinstance(record.outcome, GenerationError), record
            yield record.position


CALLS = {"generate": responses, "evaluate": records}


async def stream(
    url: str, api_key: str, call: str, items: int, journal: str, kill_at: int
) -> dict[str, Any]:
    """Stream so many items, and measure; at ``kill_at`` outcomes wait to be killed."""
    options = BatchOptions(chunk_size=CHUNK_SIZE, max_concurrency=CONCURRENCY, deadline=DAY)
    seen = bytearray(items)
    done = cost = 0
    first = 0.0
    async with AsyncClient(base_url=url, api_key=api_key, options=options) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        forget_peak()
        before = memory_mib("VmRSS")
        cpu, wall = time.process_time(), time.perf_counter()

        def figures() -> dict[str, Any]:
            return {
                "done": done,
                "cost": cost,
                "lost": 0 if kill_at else seen.count(0),
                "twice": done - seen.count(1),
                "seconds": time.perf_counter() - wall,
                "first_outcome_s": first,
                "cpu_us_per_item": (time.process_time() - cpu) / done * 1e6,
                "peak_rss_mib": memory_mib("VmHWM"),
                "growth_mib": memory_mib("VmHWM") - before,
            }

        async with aclosing(CALLS[call](client, template, items, journal)) as positions:
            async for position in positions:
                first = first or time.perf_counter() - wall
                seen[position] += 1
                done += 1
                # Of the model, and of the judge where there is what it can rate.
                cost += 1 + (call == "evaluate" and (position + 1) % FAILS_EVERY > 0)
                if done == kill_at:
                    print(json.dumps(figures()), flush=True)
                    await asyncio.Event().wait()  # to be killed, with chunks in flight
        return figures()


def read(journals: Sequence[str]) -> dict[str, float]:
    """Read journals as a call does that takes them up, and measure; once more for the memory."""

    def states() -> list[JournalState]:
        return [JournalState.read(Path(one), io.FileIO(one)) for one in journals]

    gc.collect()
    forget_peak()
    before = memory_mib("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    found = states()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    growth = memory_mib("VmHWM") - before
    items = sum(len(state.done) + len(state.failed) for state in found)
    tracemalloc.start()
    again = states()
    kept, peak = tracemalloc.get_traced_memory()
    return {
        "items": items,
        "file_bytes_per_item": sum(state.end for state in again) / items,
        "seconds": wall,
        "cpu_s": cpu,
        "growth_mib": growth,
        "kept_bytes_per_item": kept / items,
        "peak_bytes_per_item": peak / items,
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
