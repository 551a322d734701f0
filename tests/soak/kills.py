"""A journalled run is killed with SIGKILL at seeded points, and made again until it ends.

``python -m tests.soak.kills --points 500`` prints a table; it fails when an item was lost,
swapped, foreign or done twice, or when what the journal had as done was requested again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from elluminate_async import AsyncClient, Batch, BatchOptions
from elluminate_async.engine.records import JournalState, read_records
from elluminate_async.errors import ItemError
from elluminate_async.testing import (
    Exchange,
    Process,
    Reply,
    Report,
    ScriptedService,
    check_batch,
    check_ratings,
)
from elluminate_async.testing.pytest_plugin import HostedService

ITEMS = 40
OPTIONS = BatchOptions(chunk_size=8, max_concurrency=3, settle=0.3, deadline=30)
MOMENTS = ("received", "processed", "answered", "any time")
"""Of an exchange, when it ends: before it was processed, before its answer, just after it."""

_RUNS = 4  # the last of them is never killed
_FORK = get_context("forkserver")
_FORK.set_forkserver_preload(["tests.soak.kills"])


@dataclass(frozen=True, slots=True)
class Job:
    """What the killed process is to do."""

    url: str
    api_key: str
    experiment_id: int
    ids: range
    folder: Path


def work(job: Job) -> None:
    """Generate and rate, each with a journal, and leave the two batches in a file."""
    asyncio.run(_work(job))


async def _work(job: Job) -> None:
    async with AsyncClient(base_url=job.url, api_key=job.api_key, options=OPTIONS) as client:
        responses = await client.responses.generate_many(
            template_variables=list(job.ids),
            experiment=job.experiment_id,
            journal=job.folder / "generate",
        )
        ratings = await client.ratings.rate_many(responses, journal=job.folder / "rate")
    data = pickle.dumps((responses, ratings))
    (job.folder / "partial").write_bytes(data)
    (job.folder / "partial").rename(job.folder / "batches")


@dataclass(slots=True)
class Killer:
    """Watches the exchanges of one process, and kills it at one of them.

    Attributes:
        seen: Exchanges so far.
        posted: What was posted, by route: ids of variables and of responses.
    """

    at: int | None
    moment: str
    seen: int = 0
    fired: bool = False
    pid: threading.Event = field(default_factory=threading.Event)
    process: ForkServerProcess | None = None
    posted: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    def take(self, exchange: Exchange) -> Any:
        """What a scripted service asks a fault."""
        self.seen += 1
        if exchange.route == "POST responses/batches":
            items = json.loads(exchange.body)["prompt_response_ins"]
            self._note(exchange, (item["template_variables_id"] for item in items))
        elif exchange.route == "POST ratings/batches":
            self._note(exchange, json.loads(exchange.body)["prompt_response_ids"])
        return self._behave if self.at == self.seen else None

    def _note(self, exchange: Exchange, ids: Iterable[int]) -> None:
        self.posted.setdefault(exchange.route, set()).update(ids)

    async def _behave(self, exchange: Exchange, process: Process) -> Reply:
        if self.moment == "received":
            self.kill()
        reply = await process()
        if self.moment == "processed":
            self.kill()
        elif self.moment == "answered":
            asyncio.get_running_loop().call_later(random.uniform(0, 0.01), self.kill)
        return reply

    def kill(self) -> None:
        """SIGKILL, once."""
        if not self.fired and self.pid.wait(5) and self.process is not None:
            self.fired = True
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGKILL)


@dataclass(slots=True)
class Point:
    """What became of one seeded point."""

    kills: int
    generated: Report
    rated: Report
    repeated: int
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return self.generated.clean and self.rated.clean and not self.repeated


class Range:
    """A service that processes are killed on."""

    def __init__(self, service: HostedService) -> None:
        self._hosted = service
        self._service = service.service
        self._next = 1
        self.exchanges = 0
        self.seconds = 0.0

    def point(self, seed: int) -> Point:
        """Run the work of a seed, killed up to three times, to its end."""
        chosen = random.Random(seed)
        ids = range(self._next, self._next + ITEMS)
        self._next += ITEMS
        kills = repeated = 0
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            experiment = asyncio.run(experiment_of(self._hosted, f"run {seed} {ids.start}"))
            url, key = self._hosted.url, self._hosted.api_key
            job = Job(url, key, experiment, ids, Path(folder))
            done: dict[str, set[int]] = {}
            for run in range(_RUNS):
                kill = run == 0 or (run < _RUNS - 1 and chosen.random() < 0.3)
                killer = self._run(job, chosen if kill else None)
                repeated += sum(
                    len(ids & killer.posted.get(route, set())) for route, ids in done.items()
                )
                kills += killer.fired
                if (job.folder / "batches").exists():
                    break
                done = finished_in(job)
            responses, ratings = pickle.loads((job.folder / "batches").read_bytes())
        seconds = time.monotonic() - begun
        generated, rated = self._check(ids, responses, ratings)
        return Point(kills, generated, rated, repeated, seconds)

    def measure(self) -> None:
        """One run that is not killed, to know how many exchanges and seconds it takes."""
        seed = self._next
        job_ids = range(seed, seed + ITEMS)
        self._next += ITEMS
        with tempfile.TemporaryDirectory() as folder:
            experiment = asyncio.run(experiment_of(self._hosted, f"measure {seed}"))
            job = Job(self._hosted.url, self._hosted.api_key, experiment, job_ids, Path(folder))
            begun = time.monotonic()
            self.exchanges = self._run(job, None).seen
            self.seconds = time.monotonic() - begun

    def _run(self, job: Job, chosen: random.Random | None) -> Killer:
        moment = chosen.choice(MOMENTS) if chosen is not None else ""
        by_time = moment == MOMENTS[-1]
        at = chosen.randint(1, self.exchanges) if chosen is not None and not by_time else None
        killer = Killer(at, moment)
        self._service.faults = [killer]
        process = _FORK.Process(target=work, args=(job,))
        killer.process = process
        process.start()
        killer.pid.set()
        if by_time and chosen is not None:
            process.join(chosen.uniform(0, self.seconds))
            if process.is_alive():
                killer.kill()
        process.join()
        self._service.faults = []
        if not killer.fired and process.exitcode != 0:
            raise AssertionError(f"the run ended with {process.exitcode}")
        return killer

    def _check(
        self, ids: range, responses: Batch[Any], ratings: Batch[Any]
    ) -> tuple[Report, Report]:
        ledger, inputs = self._service.ledger, [values_of(id) for id in ids]
        rated = [None if isinstance(row, ItemError) else row.id for row in responses.outcomes]
        return check_batch(responses, inputs, ledger), check_ratings(ratings, rated, ledger)


def finished_in(job: Job) -> dict[str, set[int]]:
    """What the journals have as done: ids of variables and of responses, by route."""
    generated = state_of(job.folder / "generate").done
    rated = state_of(job.folder / "rate").done
    return {
        "POST responses/batches": {job.ids[position] for position in generated},
        "POST ratings/batches": {generated[position] for position in rated},
    }


def state_of(path: Path) -> JournalState:
    """What a journal holds; nothing when it was never begun."""
    if not path.exists():
        return JournalState()
    with path.open("rb") as file:
        return JournalState.of(path, read_records(path, file.fileno())[0])


def values_of(id: int) -> dict[str, str]:
    """The values of an entry that nobody uploaded."""
    return {"x": f"item {id}"}


async def experiment_of(service: HostedService, name: str) -> int:
    """A new experiment on the service's one template."""
    async with AsyncClient(base_url=service.url, api_key=service.api_key) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            name, prompt_template=template, collection=collection
        )
        return experiment.id


@contextmanager
def ranges(*, keys: bool) -> Generator[Range]:
    """A service with keys and results, or with neither."""
    service = ScriptedService(
        keys=keys,
        results=keys,
        page_size=17,
        order="created" if keys else "shuffled",
        job_seconds=0.02,
        variables=values_of,
    )
    with HostedService(service) as hosted:
        kills = Range(hosted)
        kills.measure()
        yield kills


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500, help="half with keys, half without")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("keys   points   kills       ok  failed  unknown  lost  swapped  foreign  dup  repeated")  # noqa: T201
    clean = True
    for keys in (True, False):
        counts = Counter[str]()
        with ranges(keys=keys) as kills:
            for seed in range(options.seed, options.seed + options.points // 2):
                point = kills.point(seed)
                counts.update(points=1, kills=point.kills, repeated=point.repeated)
                counts.update(point.generated.counts())
                counts.update(point.rated.counts())
                if not point.clean:
                    clean = False
                    print(f"seed {seed}: {point}")  # noqa: T201
        print(  # noqa: T201
            f"{'yes' if keys else 'no ':5} {counts['points']:7} {counts['kills']:7} "
            f"{counts['ok']:8} {counts['failed']:7} {counts['unknown']:8} {counts['lost']:5} "
            f"{counts['swapped']:8} {counts['foreign']:8} {counts['duplicated']:4} "
            f"{counts['repeated']:9}"
        )
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
