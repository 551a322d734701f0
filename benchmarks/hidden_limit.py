"""How well is a limit used that the service does not tell, and that halves midway?

    python -m benchmarks.hidden_limit

Two thousand items, one a request, against a service that takes 20 of those requests a second
(a bucket of 20), and from 30 s on 10 a second. Beside this client, one that keeps its
concurrency and sends again after a fixed wait, as a loop over aiohttp does. Both speak to the
same scripted service over loopback; time is virtual, so that the minutes cost seconds, and a
request takes 0.2 s there and back.

One JSON line a run: seconds, the seconds of a client that knows the limit, their ratio, sent
per accepted, and how many seconds after the halving five seconds began in which at least 90 %
of the new rate was used and at most 10 % of the requests were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import aiohttp

from benchmarks.common.report import emit, write_table
from elluminate_async import AsyncClient, BatchOptions, Experiment
from elluminate_async.testing import Fault, ScriptedService, run_virtually
from elluminate_async.testing.exchange import Exchange, Process, Reply, ServerLimit

RATE = 20.0
HALVES_AT = 30.0
LATENCY = 0.2
CONCURRENCY = 64
FIXED_WAIT = 0.2
SETTLED_SECONDS = 5.0
SETTLED_SHARE = 0.9


@dataclass
class HiddenLimit:
    """Answers 429 to chunks over the limit, and says no more about it."""

    halves: bool
    limit: ServerLimit = field(default_factory=lambda: ServerLimit(RATE, burst=int(RATE)))
    began: float = 0.0
    accepted: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])
    ids: list[int] = field(default_factory=list[int])

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        """Take the chunk, or refuse it."""
        await asyncio.sleep(LATENCY)
        now = time.monotonic() - self.began
        self.limit.rate = RATE / 2 if self.halves and now >= HALVES_AT else RATE
        if refusal := self.limit.admit():
            self.refused.append(now)
            return refusal
        self.accepted.append(now)
        items = json.loads(exchange.body)["prompt_response_ins"]
        self.ids += [item["template_variables_id"] for item in items]
        return await process()

    def ideal_seconds(self) -> float:
        """What a client takes that sends at the limit from the beginning."""
        left = len(self.accepted) - RATE
        if not self.halves or left <= HALVES_AT * RATE:
            return left / RATE
        return HALVES_AT + (left - HALVES_AT * RATE) / (RATE / 2)

    def settled_after(self) -> float | None:
        """Seconds from the halving until the new rate is kept; None when it never is."""
        wanted = SETTLED_SHARE * SETTLED_SECONDS * RATE / 2
        left = self.accepted[-1] - HALVES_AT - SETTLED_SECONDS
        for step in range(int(left * 2)):
            begin = HALVES_AT + step / 2
            taken = count_between(self.accepted, begin, begin + SETTLED_SECONDS)
            refused = count_between(self.refused, begin, begin + SETTLED_SECONDS)
            if taken >= wanted and refused <= (1 - SETTLED_SHARE) * (taken + refused):
                return begin - HALVES_AT
        return None


def count_between(times: list[float], begin: float, end: float) -> int:
    """How many of the times, which are in order, lie between."""
    return bisect_left(times, end) - bisect_left(times, begin)


Contender: TypeAlias = Callable[
    [ScriptedService, AsyncClient, Experiment, list[int]], Awaitable[None]
]


async def this_client(
    service: ScriptedService, client: AsyncClient, experiment: Experiment, ids: list[int]
) -> None:
    batch = await client.responses.generate_many(template_variables=ids, experiment=experiment)
    assert [r.prompt.template_variables.id for r in batch] == ids


async def fixed_concurrency(
    service: ScriptedService, client: AsyncClient, experiment: Experiment, ids: list[int]
) -> None:
    permits = asyncio.Semaphore(CONCURRENCY)
    url = f"{service.url}/api/v0/projects/1/responses/batches"
    headers = {"X-API-Key": service.api_key}

    async def one(id: int) -> None:
        item = {"template_variables_id": id, "experiment_id": experiment.id}
        async with permits:
            while True:
                async with session.post(url, json={"prompt_response_ins": [item]}) as answer:
                    if answer.status != 429:
                        job = await answer.json()
                        break
                await asyncio.sleep(FIXED_WAIT)
            async with session.get(f"{url}/{job}/stream") as stream:
                assert b'"SUCCESS"' in await stream.read()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*map(one, ids))


NAMES: dict[Contender, str] = {
    this_client: "elluminate-async",
    fixed_concurrency: "aiohttp and a semaphore, fixed wait",
}


async def measure(contender: Contender, items: int, halves: bool) -> dict[str, object]:
    hidden = HiddenLimit(halves)
    options = BatchOptions(chunk_size=1, max_concurrency=CONCURRENCY)
    async with (
        ScriptedService(retain=False, variables=lambda id: {"x": str(id)}) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        service.faults = [Fault(hidden, on="POST responses/batches")]
        ids = list(range(1, items + 1))
        hidden.began = time.monotonic()
        await contender(service, client, experiment, ids)
        seconds = time.monotonic() - hidden.began
    # Each item once: fast and wrong is not a result.
    assert sorted(hidden.ids) == ids
    sent = hidden.limit.admitted + hidden.limit.refused
    return {
        "client": NAMES[contender],
        "capacity": "halves at 30 s" if halves else "constant",
        "items": items,
        "seconds": round(seconds, 1),
        "ideal_seconds": round(hidden.ideal_seconds(), 1),
        "share_of_ideal": round(hidden.ideal_seconds() / seconds, 3),
        "sent_per_accepted": round(sent / hidden.limit.admitted, 3),
        "settled_after_seconds": hidden.settled_after() if halves else None,
    }


def run(contender: str, items: int, halves: bool) -> dict[str, object]:
    """One run, in the virtual time of a process of its own."""
    random.seed(1)
    chosen = next(one for one, name in NAMES.items() if name == contender)
    return run_virtually(lambda: measure(chosen, items, halves))


def main(items: int, *, table: bool) -> None:
    lines: list[dict[str, object]] = []
    # Most of what a run takes is waiting to be sure that nothing is left to do at its time.
    with ProcessPoolExecutor(4) as processes:
        runs = [
            processes.submit(run, name, items, halves)
            for halves in (False, True)
            for name in NAMES.values()
        ]
        lines += [emit(benchmark="hidden_limit", **one.result()) for one in runs]
    if table:
        head = ["client", "capacity", "s", "ideal, s", "share", "sent / accepted", "settled after"]
        rows = [
            [*list(line.values())[1:3], *list(line.values())[4:-1], _settled(line)]
            for line in lines
        ]
        write_table("hidden_limit", head, rows)


def _settled(line: dict[str, object]) -> str:
    seconds = line["settled_after_seconds"]
    if seconds is None:
        return "never" if "halves" in str(line["capacity"]) else ""
    return f"{seconds} s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    main(arguments.items, table=arguments.table)
