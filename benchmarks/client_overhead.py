"""How much CPU does the client take per item, and where does it go?

    python -m benchmarks.client_overhead --profile

`generate_many` and `rate_many` in chunks of 10, 50 and 200, ten chunks in flight, against the
embedded server, whose offline model answers at once. Beside them "the floor": the least
aiohttp program that makes the same exchanges (post a chunk, read its job's event stream to
the end, `json.loads` the last document, keep its rows) with no checks at all.

The server runs in a process of its own, on another core where there is one, and its time is
not counted. Counted is the CPU time of the client's process, all threads. The contenders take
turns, each turn on an experiment of its own; the first is warm-up and not printed. Every
response is compared with its input, and every rating with its criterion.

With ``--profile`` one more turn of each runs under `cProfile`, and the time inside functions is
summed up by layer. A profiler makes Python code look dearer than C code, so read the order and
not the shares.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from benchmarks.common.children import CLIENT_CORE, SERVER_CORE, Child, pin
from benchmarks.common.report import emit, spread, write_table
from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Collection,
    Experiment,
    RatingMode,
    TemplateVariables,
)

CONCURRENCY = 10
CHUNK_SIZES = (10, 50, 200)
OURS, FLOOR = "this client", "floor"
FIGURES = ("generate", "rate", "flow")
MAX_RATED_AT_ONCE = 100  # what `rate_many` puts into one request at most
TEMPLATE = "Explain why {{language}}'s {{quirk}} surprises people, in two sentences."
CRITERIA = (
    "Does the response explain why it surprises?",
    "Is the response correct?",
    "Is the response at most two sentences long?",
)


class Contender(Protocol):
    """A client that has the responses of an experiment made and then rated."""

    async def generate(self, experiment: Experiment, ids: list[int], chunk: int) -> list[int]:
        """Have one response made per row; their ids, in the rows' order."""
        ...

    async def rate(self, ids: list[int], chunk: int) -> list[list[int]]:
        """Have the responses rated; the criteria's ids by which each was."""
        ...


class ThisClient:
    """`AsyncClient`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def generate(self, experiment: Experiment, ids: list[int], chunk: int) -> list[int]:
        """As of `Contender`."""
        batch = await self._client.responses.generate_many(
            template_variables=ids,
            experiment=experiment,
            options=BatchOptions(chunk_size=chunk, max_concurrency=CONCURRENCY),
        )
        assert [response.prompt.template_variables.id for response in batch] == ids
        return [response.id for response in batch]

    async def rate(self, ids: list[int], chunk: int) -> list[list[int]]:
        """As of `Contender`."""
        batch = await self._client.ratings.rate_many(
            ids,
            rating_mode=RatingMode.FAST,
            options=BatchOptions(chunk_size=chunk, max_concurrency=CONCURRENCY),
        )
        return [[rating.criterion.id for rating in ratings] for ratings in batch]


class Floor:
    """The same exchanges over aiohttp, and nothing else."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def _run(
        self, noun: str, chunks: Sequence[Sequence[int]], body: Callable[[Sequence[int]], object]
    ) -> list[Any]:
        permits = asyncio.Semaphore(CONCURRENCY)
        url = f"{self._url}/{noun}/batches"

        async def one(chunk: Sequence[int]) -> list[Any]:
            async with permits:
                async with self._session.post(url, data=json.dumps(body(chunk))) as answer:
                    job = json.loads(await answer.read())
                async with self._session.get(f"{url}/{job}/stream") as stream:
                    events = await stream.read()
                return json.loads(events[events.rindex(b"data: ") + 6 :])["result"]

        return [row for rows in await asyncio.gather(*map(one, chunks)) for row in rows]

    async def generate(self, experiment: Experiment, ids: list[int], chunk: int) -> list[int]:
        """As of `Contender`."""

        def body(ids: Sequence[int]) -> object:
            return {
                "prompt_response_ins": [
                    {"template_variables_id": id, "experiment_id": experiment.id} for id in ids
                ]
            }

        rows = await self._run("responses", chunks_of(ids, chunk), body)
        assert [row["prompt"]["template_variables"]["id"] for row in rows] == ids
        return [row["id"] for row in rows]

    async def rate(self, ids: list[int], chunk: int) -> list[list[int]]:
        """As of `Contender`."""

        def body(ids: Sequence[int]) -> object:
            return {"prompt_response_ids": ids, "rating_mode": "fast"}

        rows = await self._run("ratings", chunks_of(ids, min(chunk, MAX_RATED_AT_ONCE)), body)
        return [[rating["criterion"]["id"] for rating in ratings] for ratings in rows]


def chunks_of(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


@dataclass
class Bench:
    """What all turns share.

    Attributes:
        rows: Of a collection, one per item.
        criteria: Ids of what every response is rated by.
    """

    client: AsyncClient
    contenders: Mapping[str, Contender]
    collection: Collection
    rows: list[TemplateVariables]
    criteria: list[int]
    turns: int = 0

    async def turn(self, name: str, chunk: int, profile: cProfile.Profile | None = None) -> Turn:
        """Generate and rate once, on an experiment of its own."""
        contender = self.contenders[name]
        self.turns += 1
        template = (await self.client.prompt_templates.get_or_create(TEMPLATE, name="Bench"))[0]
        experiment, _ = await self.client.experiments.get_or_create(
            f"Bench {self.turns}", prompt_template=template, collection=self.collection
        )
        ids = [row.id for row in self.rows]
        # A collection of what came before this turn would be counted as this one's.
        gc.collect()
        gc.freeze()
        with counted(profile) as generate:
            responses = await contender.generate(experiment, ids, chunk)
        with counted(profile) as rate:
            rated_by = await contender.rate(responses, chunk)
        # Fast and wrong is not a result.
        assert len(set(responses)) == len(ids)
        assert [sorted(criteria) for criteria in rated_by] == [self.criteria] * len(ids)
        return Turn(generate(), rate())


@dataclass
class Turn:
    """CPU seconds of both calls."""

    generate: float
    rate: float


@contextmanager
def counted(profile: cProfile.Profile | None) -> Generator[Callable[[], float]]:
    """Count the CPU time of the block; what it yields tells it afterwards."""
    seconds = 0.0
    started = time.process_time()
    if profile is not None:
        profile.enable()
    try:
        yield lambda: seconds
    finally:
        if profile is not None:
            profile.disable()
        seconds = time.process_time() - started


async def with_bench(
    url: str, api_key: str, items: int, use: Callable[[Bench], Awaitable[None]]
) -> None:
    async with AsyncClient(base_url=url, api_key=api_key) as client:
        template, _ = await client.prompt_templates.get_or_create(TEMPLATE, name="Bench")
        criteria = await client.criteria.add_many(list(CRITERIA), prompt_template=template)
        collection, _ = await client.collections.get_or_create("Bench")
        rows = await client.template_variables.add_many(
            ({"language": f"Language {n}", "quirk": f"quirk no. {n}"} for n in range(items)),
            collection=collection,
        )
        project = await client.projects.current()
        headers = {"X-API-Key": api_key, "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            floor = Floor(session, f"{url}/api/v0/projects/{project.id}")
            contenders = {OURS: ThisClient(client), FLOOR: floor}
            known = sorted(criterion.id for criterion in criteria)
            await use(Bench(client, contenders, collection, list(rows), known))


async def measure(
    url: str, api_key: str, items: int, repeats: int, *, profile: bool, table: bool
) -> None:
    async def turns(bench: Bench) -> None:
        lines: list[dict[str, Any]] = []
        for repeat in range(repeats + 1):
            for chunk in CHUNK_SIZES:
                for name in bench.contenders:
                    turn = await bench.turn(name, chunk)
                    if repeat > 0:
                        lines.append(line_of(name, chunk, repeat, items, turn))
                        emit(**lines[-1])
        for chunk in CHUNK_SIZES:
            emit(**ratio(lines, chunk))
        layers: dict[str, dict[str, float]] = {}
        for name in bench.contenders if profile else ():
            # CPU time, as waiting for the server is none.
            profiler = cProfile.Profile(time.process_time)
            await bench.turn(name, 50, profiler)
            layers[name] = by_layer(profiler, items)
            emit(benchmark="client_overhead", profile=name, chunk_size=50, us=layers[name])
        if table:
            write(lines, layers)

    await with_bench(url, api_key, items, turns)


def line_of(name: str, chunk: int, repeat: int, items: int, turn: Turn) -> dict[str, Any]:
    return {
        "benchmark": "client_overhead",
        "contender": name,
        "chunk_size": chunk,
        "repeat": repeat,
        "items": items,
        "generate_cpu_us_per_item": round(1e6 * turn.generate / items, 1),
        "rate_cpu_us_per_item": round(1e6 * turn.rate / items, 1),
        "flow_cpu_us_per_item": round(1e6 * (turn.generate + turn.rate) / items, 1),
    }


def figures_of(lines: Sequence[dict[str, Any]], chunk: int, figure: str) -> list[list[float]]:
    """This client's figures and the floor's, repeat by repeat."""
    return [
        [
            line[f"{figure}_cpu_us_per_item"]
            for line in lines
            if (line["contender"], line["chunk_size"]) == (name, chunk)
        ]
        for name in (OURS, FLOOR)
    ]


def ratio(lines: Sequence[dict[str, Any]], chunk: int) -> dict[str, Any]:
    """This client's CPU time over the floor's, repeat by repeat."""
    found: dict[str, Any] = {"benchmark": "client_overhead", "ratio": "this client / floor"}
    found["chunk_size"] = chunk
    for figure in FIGURES:
        ours, floors = figures_of(lines, chunk, figure)
        shares = [one / floor for one, floor in zip(ours, floors, strict=True)]
        found[figure] = {
            "min": round(min(shares), 2),
            "median": round(statistics.median(shares), 2),
            "max": round(max(shares), 2),
        }
    return found


LAYERS = (
    ("elluminate_async/engine", "engine"),
    ("elluminate_async/transport", "transport"),
    ("elluminate_async", "resources"),
    ("aiohttp", "aiohttp"),
    ("yarl", "aiohttp"),
    ("multidict", "aiohttp"),
    ("pydantic", "pydantic"),
    ("anyio", "anyio"),
    ("sniffio", "anyio"),
    ("asyncio", "asyncio"),
    ("selectors", "asyncio"),
    ("epoll", "asyncio"),
    ("_socket", "sockets"),
    ("json", "json"),
    ("client_overhead", "this script"),
)


def by_layer(profile: cProfile.Profile, items: int) -> dict[str, float]:
    """Seconds inside functions, by the layer that they are of, per item."""
    totals: defaultdict[str, float] = defaultdict(float)
    statistics_of: Any = pstats.Stats(profile)
    for (path, _, function), (_, _, inside, _, _) in statistics_of.stats.items():
        where = f"{path} {function}"
        totals[next((layer for mark, layer in LAYERS if mark in where), "other")] += inside
    return {
        layer: round(1e6 * seconds / items, 1)
        for layer, seconds in sorted(totals.items(), key=lambda pair: -pair[1])
    }


def write(lines: Sequence[dict[str, Any]], layers: Mapping[str, Mapping[str, float]]) -> None:
    """The tables: by chunk size, and by layer."""
    rows: list[list[object]] = []
    for chunk in CHUNK_SIZES:
        for figure in FIGURES:
            ours, floors = figures_of(lines, chunk, figure)
            shares = [one / floor for one, floor in zip(ours, floors, strict=True)]
            rows.append([chunk, figure, spread(ours), spread(floors), spread(shares)])
    head = ["items a chunk", "call", "this client, us an item", "floor, us an item", "ratio"]
    write_table("client_overhead", head, rows)
    if layers:
        names = sorted({layer for found in layers.values() for layer in found})
        ours, floor = (layers[name] for name in (OURS, FLOOR))
        names.sort(key=lambda layer: -ours.get(layer, 0.0))
        cells = [[name, ours.get(name, ""), floor.get(name, "")] for name in names]
        write_table("client_overhead profile", ["layer", "this client", "floor"], cells)


async def serve() -> None:
    """Serve until the standard input ends."""
    # Here, as what only the server imports is no memory of the client's.
    from elluminate_async.server import LocalServer

    async with LocalServer() as server:
        print(json.dumps([server.url, server.api_key]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def main(items: int, repeats: int, *, profile: bool, table: bool) -> None:
    async with Child(Path(__file__), "--serve", core=SERVER_CORE) as server:
        pin(CLIENT_CORE)
        url, api_key = server.ready
        await measure(url, api_key, items, repeats, profile=profile, table=table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--table", action="store_true", help="profile, and write the tables")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    else:
        profile = arguments.profile or arguments.table
        asyncio.run(
            main(arguments.items, arguments.repeats, profile=profile, table=arguments.table)
        )
