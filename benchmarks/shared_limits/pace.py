"""How many requests are sent for each that is taken, by 16 clients that share their pace?

The service takes 20 requests a second and does not say so; in a second run 10 from 30 s on. Redis
and a file have clocks of their own, so all is in real time, and all runs are at the same time: each
takes little. The same by a virtual clock is a test.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.common.redis_server import FOUND, RedisServer
from benchmarks.common.report import emit, write_table
from benchmarks.hidden_limit import CONCURRENCY, RATE, HiddenLimit
from elluminate_async import AsyncClient, BatchOptions, Experiment, FileShare
from elluminate_async.batch.share import LimitShare
from elluminate_async.testing import Fault, ScriptedService

CLIENTS = 16
ITEMS = 2000
MOST_SENT = 1.1  # for each that is accepted


@asynccontextmanager
async def share_of(kind: str) -> AsyncGenerator[LimitShare | None]:
    """A share of that kind; None for clients that share nothing."""
    match kind:
        case "redis":
            # Imported where it is wanted: it is an extra's.
            from elluminate_async.integrations.redis import RedisShare

            with RedisServer() as redis:
                yield RedisShare(redis.url, name="pace")
        case "file":
            with tempfile.TemporaryDirectory() as folder:
                yield FileShare(Path(folder) / "limits", name="pace")
        case _:
            yield None


async def measure(kind: str, items: int, *, halves: bool) -> dict[str, object]:
    """One run of all clients."""
    hidden = HiddenLimit(halves)
    async with AsyncExitStack() as stack:
        share = await stack.enter_async_context(share_of(kind))
        service = await stack.enter_async_context(
            ScriptedService(retain=False, variables=lambda id: {"x": str(id)})
        )
        options = BatchOptions(chunk_size=1, max_concurrency=CONCURRENCY // CLIENTS, share=share)
        clients = [
            await stack.enter_async_context(
                AsyncClient(base_url=service.url, api_key=service.api_key, options=options)
            )
            for _ in range(CLIENTS)
        ]
        template, _ = await clients[0].prompt_templates.get_or_create("say {{x}}", name="Echo")
        collection, _ = await clients[0].collections.get_or_create("values")
        experiment, _ = await clients[0].experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        service.faults = [Fault(hidden, on="POST responses/batches")]
        hidden.began = time.monotonic()
        await asyncio.gather(
            *(one(client, experiment, items, i) for i, client in enumerate(clients))
        )
        seconds = time.monotonic() - hidden.began
    # Each item once: fast and wrong is not a result.
    assert sorted(hidden.ids) == list(range(1, len(hidden.ids) + 1))
    sent = hidden.limit.admitted + hidden.limit.refused
    ratio = sent / hidden.limit.admitted
    return {
        "shared_by": kind,
        "capacity": "halves at 30 s" if halves else "constant",
        "items": len(hidden.ids),
        "seconds": seconds,
        "share_of_ideal": hidden.ideal_seconds() / seconds,
        "sent_per_accepted": ratio,
        "missed": ["sent"] if kind != "nothing" and ratio > MOST_SENT else [],
    }


async def one(client: AsyncClient, experiment: Experiment, items: int, number: int) -> None:
    """The part of one client."""
    part = items // CLIENTS
    ids = list(range(number * part + 1, (number + 1) * part + 1))
    batch = await client.responses.generate_many(template_variables=ids, experiment=experiment)
    assert [r.prompt.template_variables.id for r in batch] == ids


def run(kind: str, items: int, halves: bool) -> dict[str, object]:
    """One run, in a process of its own."""
    random.seed(1)
    return asyncio.run(measure(kind, items, halves=halves))


def main(*, short: bool, table: bool) -> bool:
    """All runs; whether the goal was met."""
    kinds = ["nothing", "redis", "file"] if FOUND else ["nothing", "file"]
    with ProcessPoolExecutor(6) as processes:
        runs = [
            processes.submit(run, kind, 480 if short else ITEMS, halves)
            for halves in (False, True)
            for kind in kinds
        ]
        lines = [emit(benchmark="shared_limits", **one.result()) for one in as_completed(runs)]
    lines.sort(key=lambda line: (line["capacity"], kinds.index(str(line["shared_by"]))))
    if table:
        head = ["shared by", "capacity", "items", "s", "share", "sent / accepted"]
        write_table("shared_limits pace", head, [[*list(line.values())[1:-1]] for line in lines])
    assert RATE == 20.0  # as the first line of this says
    return not any(line["missed"] for line in lines)


if __name__ == "__main__":
    print(json.dumps(main(short=False, table=False)))
