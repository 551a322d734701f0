"""How much of a limit is used, and how many requests does any window see?

    python -m benchmarks.limits

This client under `RateLimit` of 10, 100 and 1,000 requests a second, and under an `item_limit` of
1,000 a second in chunks of 50, beside aiohttp with a default aiolimiter (`AsyncLimiter(n, 1)`).
A scripted service in a process of its own, on the other core, notes when each request arrived:
the figures are its, not the client's. Share of the limit: arrivals over what the limit allows in
the time from the first to the last. Every answer is compared with its input. The two low limits
leave both cores idle, so those runs go side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter

from benchmarks.common.children import SERVER_CORE, Child
from benchmarks.common.report import emit, number, write_table
from elluminate_async import AsyncClient, BatchOptions, RateLimit
from elluminate_async.testing import ScriptedService
from elluminate_async.testing.exchange import Exchange

PERIOD = 1.0
CONCURRENCY = 64
CHUNK = 50  # items, under the limit on items
OURS, BARE = "elluminate-async", "aiolimiter's default"
LIMITS = (10, 100, 1_000)
ITEM_LIMIT = 1_000


@dataclass
class Arrivals:
    """Notes when requests came, and how many items each brought."""

    times: list[float] = field(default_factory=list[float])
    weights: list[int] = field(default_factory=list[int])

    def take(self, exchange: Exchange) -> None:
        """Note one, and leave it to the service."""
        self.times.append(time.monotonic())
        brings = exchange.route == "POST responses/batches"
        self.weights.append(len(json.loads(exchange.body)["prompt_response_ins"]) if brings else 0)

    def figures(self, limit: int, *, of_items: bool) -> dict[str, float]:
        """Share of the limit, and the most in any window."""
        pairs = zip(self.times, self.weights, strict=True)
        seen = [(at, weight if of_items else 1) for at, weight in pairs if weight or not of_items]
        times = [at for at, _ in seen]
        before = [0, *itertools.accumulate(weight for _, weight in seen)]
        # What came last used the time after it, which is not seen.
        allowed = limit * (times[-1] - times[0]) / PERIOD
        windows = [
            before[bisect_left(times, start + PERIOD)] - before[i] for i, start in enumerate(times)
        ]
        return {
            "counted": before[-1],
            "share": before[-2] / allowed,
            "most_in_a_window": max(windows),
        }


async def serve() -> None:
    """Serve until the input ends; each line is answered with the figures since the last."""
    arrivals = Arrivals()
    service = ScriptedService(retain=False, variables=lambda id: {"n": id}, faults=[arrivals])
    async with service:
        async with AsyncClient(base_url=service.url, api_key=service.api_key) as client:
            template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
            collection, _ = await client.collections.get_or_create("values")
            experiment, _ = await client.experiments.get_or_create(
                "run", prompt_template=template, collection=collection
            )
        ready = {"url": service.url, "api_key": service.api_key, "experiment": experiment.id}
        print(json.dumps(ready), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            found = arrivals.figures(**asked) if asked else {}
            arrivals.times.clear()
            arrivals.weights.clear()
            print(json.dumps(found), flush=True)


async def client(task: dict[str, Any]) -> None:
    """Generate so many items under the limit, one a request or in chunks."""
    limit = RateLimit(task["limit"], PERIOD)
    options = (
        BatchOptions(item_limit=limit, chunk_size=CHUNK)
        if task["of_items"]
        else BatchOptions(rate_limit=limit, chunk_size=1)
    ).replace(max_concurrency=CONCURRENCY)
    ids = range(1, task["items"] + 1)
    async with AsyncClient(
        base_url=task["url"], api_key=task["api_key"], options=options
    ) as client:
        batch = await client.responses.generate_many(
            template_variables=ids, experiment=task["experiment"]
        )
    assert [response.response_str for response in batch] == [f'{{"n": {id}}}' for id in ids]


async def bare(task: dict[str, Any]) -> None:
    """The same exchanges by aiohttp, each after one permit of a default limiter."""
    limiter = AsyncLimiter(task["limit"], PERIOD)
    headers = {"X-API-Key": task["api_key"], "Content-Type": "application/json"}
    async with aiohttp.ClientSession(task["url"], headers=headers) as session:

        async def ask(method: str, path: str, body: Any = None) -> bytes:
            async with limiter, session.request(method, path, json=body) as answer:
                return await answer.read()

        base = "/api/v0/projects/1/responses/batches"
        ids = iter(range(1, task["items"] + 1))

        async def work() -> None:
            for id in ids:
                entry = {
                    "template_variables_id": id,
                    "experiment_id": task["experiment"],
                    "epoch": 1,
                }
                entry |= {"llm_config_id": None, "messages": [], "metadata": None}
                job = json.loads(await ask("POST", base, {"prompt_response_ins": [entry]}))
                answer = await ask("GET", f"{base}/{job}/stream")
                assert f'{{\\"n\\": {id}}}'.encode() in answer, answer

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def contend(name: str) -> None:
    """Do what each line says."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asyncio.run((client if name == OURS else bare)(json.loads(line)))
        print(json.dumps("done"), flush=True)


async def run(name: str, limit: int, seconds: float, *, of_items: bool = False) -> dict[str, Any]:
    """One client under one limit."""
    # A chunk takes two requests: it is posted, and its job is followed.
    items = round(limit * seconds / (1 if of_items else 2))
    this = Path(__file__)
    async with (
        Child(this, "--role", "serve", core=SERVER_CORE) as server,
        Child(this, "--role", name) as contender,
    ):
        warm_up = {"limit": 1_000, "of_items": of_items, "items": 2 * CHUNK}
        await contender.ask(**server.ready, **warm_up)
        await server.ask()
        await contender.ask(**server.ready, limit=limit, of_items=of_items, items=items)
        found = await server.ask(limit=limit, of_items=of_items)
    counted = "items" if of_items else "requests"
    return emit(benchmark="limits", client=name, limit_per_second=limit, counts=counted, **found)


async def main(seconds: float, *, table: bool) -> None:
    """All limits."""
    *low, high = LIMITS
    found = await asyncio.gather(
        *(run(name, limit, seconds) for limit in low for name in (OURS, BARE))
    )
    for name in (OURS, BARE):
        found.append(await run(name, high, seconds))
    found.append(await run(OURS, ITEM_LIMIT, seconds, of_items=True))
    if table:
        write_table(
            "limits",
            ["limit a second", "client", "share used, %", "most in any second", "over by"],
            [
                [
                    f"{one['limit_per_second']:,} {one['counts']}",
                    one["client"],
                    number(100 * one["share"]),
                    f"{one['most_in_a_window']:,}",
                    max(0, one["most_in_a_window"] - one["limit_per_second"]),
                ]
                for one in found
            ],
        )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each limit's run")
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    return parser.parse_args(given)


if __name__ == "__main__":
    asked = arguments()
    if asked.role == "serve":
        asyncio.run(serve())
    elif asked.role:
        contend(asked.role)
    else:
        asyncio.run(main(asked.seconds, table=asked.table))
