"""A journalled run is killed with SIGKILL at seeded points, and made again until it ends.

``python -m tests.soak.kills --points 500`` prints a table; it fails when an item was lost,
swapped, foreign or done twice, or when what the journal had as done was requested again.
"""

from __future__ import annotations

import argparse
import asyncio
import io
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from elluminate_async import AsyncClient, Batch
from elluminate_async.engine.journal_state import JournalState
from elluminate_async.engine.records import Record, read_records
from elluminate_async.errors import ItemError
from elluminate_async.testing import Report, ScriptedService, check_batch, check_ratings
from elluminate_async.testing.exchange import Exchange, Process, Reply
from elluminate_async.testing.pytest_plugin import ThreadedService
from tests.soak.journalled import Job, work

ITEMS = 40
MOMENTS = ("received", "processed", "answered", "any time")
"""Of an exchange, when it ends: before it was processed, before its answer, just after it."""

_GENERATE = "POST responses/batches"
_RUNS = 4  # the last of them is never killed
_FORK = get_context("forkserver")
_FORK.set_forkserver_preload(["tests.soak.journalled"])


@dataclass(slots=True)
class Killer:
    """Watches the exchanges of one process, and kills it at one of them.

    Attributes:
        at: At which exchange, from 1; None for none.
        moment: Of `MOMENTS`.
        route: Count the exchanges of this route alone.
        after: Kill after so many seconds instead.
        forget: Remove the journal then, as a test of the check itself.
        room: Give its files no more than so many bytes.
        seen: Exchanges so far.
        posted: What was posted, by route: ids of variables and of responses.
    """

    at: int | None
    moment: str
    route: str = ""
    after: float | None = None
    forget: bool = False
    room: int | None = None
    seen: int = 0
    fired: bool = False
    pid: threading.Event = field(default_factory=threading.Event)
    process: ForkServerProcess | None = None
    posted: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    def take(self, exchange: Exchange) -> Any:
        """What a scripted service asks a fault."""
        self.seen += self.route in exchange.route
        if exchange.route == _GENERATE:
            items = json.loads(exchange.body)["prompt_response_ins"]
            self._note(exchange, (item["template_variables_id"] for item in items))
        elif exchange.route == "POST ratings/batches":
            self._note(exchange, json.loads(exchange.body)["prompt_response_ids"])
        at = self.at == self.seen and self.route in exchange.route
        return self._behave if at and not self.fired else None

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
            with suppress(ProcessLookupError):  # it has ended by itself meanwhile
                os.kill(self.process.pid, signal.SIGKILL)


@dataclass(slots=True)
class Point:
    """What became of one seeded point.

    Attributes:
        repeated: Items that were posted although the journal had them as done.
        error: What ended a run by itself.
        unjournalled: Items that were posted without an intent in the journal.
    """

    kills: int
    generated: Report
    rated: Report
    repeated: int
    seconds: float
    error: str
    unjournalled: int

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        clean = self.generated.clean and self.rated.clean
        return clean and not self.repeated and not self.unjournalled


class Range:
    """A service that processes are killed on."""

    def __init__(self, service: ThreadedService) -> None:
        self._hosted = service
        self._service = service.service
        self._next = 1
        self.exchanges = 0
        self.seconds = 0.0

    def point(self, seed: int, first: Killer | None = None) -> Point:
        """Run the work of a seed, killed up to three times, to its end.

        Args:
            seed: Of the points.
            first: Kills the first run; None for a point that the seed chooses.
        """
        chosen = random.Random(seed)
        ids = range(self._next, self._next + ITEMS)
        self._next += ITEMS
        kills = repeated = unjournalled = 0
        error = ""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            experiment = asyncio.run(experiment_of(self._hosted, f"run {seed} {ids.start}"))
            url, key = self._hosted.url, self._hosted.api_key
            job = Job(url, key, experiment, ids, Path(folder))
            done: dict[str, set[int]] = {}
            for run in range(_RUNS):
                kill = run == 0 or (run < _RUNS - 1 and chosen.random() < 0.3)
                killer = self._killer(chosen) if kill else Killer(None, "")
                killer = self._run(job, first if first is not None and run == 0 else killer)
                repeated += sum(
                    len(ids & killer.posted.get(route, set())) for route, ids in done.items()
                )
                kills += killer.fired
                unjournalled += len(killer.posted.get(_GENERATE, set()) - intended_in(job))
                if (job.folder / "error").exists():
                    error = (job.folder / "error").read_text()
                if (job.folder / "batches").exists():
                    break
                done = finished_in(job)
                if killer.forget:
                    (job.folder / "generate").unlink()
            responses, ratings = pickle.loads((job.folder / "batches").read_bytes())
        seconds = time.monotonic() - begun
        generated, rated = self._check(ids, responses, ratings)
        return Point(kills, generated, rated, repeated, seconds, error, unjournalled)

    def measure(self) -> None:
        """One run that is not killed, to know how many exchanges and seconds it takes."""
        seed = self._next
        job_ids = range(seed, seed + ITEMS)
        self._next += ITEMS
        with tempfile.TemporaryDirectory() as folder:
            experiment = asyncio.run(experiment_of(self._hosted, f"measure {seed}"))
            job = Job(self._hosted.url, self._hosted.api_key, experiment, job_ids, Path(folder))
            begun = time.monotonic()
            self.exchanges = self._run(job, Killer(None, "")).seen
            self.seconds = time.monotonic() - begun

    def _killer(self, chosen: random.Random) -> Killer:
        moment = chosen.choice(MOMENTS)
        if moment == MOMENTS[-1]:
            return Killer(None, moment, after=chosen.uniform(0, self.seconds))
        return Killer(chosen.randint(1, self.exchanges), moment)

    def _run(self, job: Job, killer: Killer) -> Killer:
        self._service.faults = [killer]
        process = _FORK.Process(target=work, args=(job, killer.room))
        killer.process = process
        process.start()
        killer.pid.set()
        process.join(killer.after)
        if killer.after is not None and process.is_alive():
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
        _GENERATE: {job.ids[position] for position in generated},
        "POST ratings/batches": {generated[position][0] for position in rated},
    }


def intended_in(job: Job) -> set[int]:
    """The ids of variables that were ever about to be sent."""
    records = records_of(job.folder / "generate")
    intents = [record["positions"] for record in records if record["kind"] == "INTENT"]
    return {job.ids[position] for positions in intents for position in positions}


def state_of(path: Path) -> JournalState:
    """What a journal holds; nothing when it was never begun."""
    return JournalState.read(path, io.BytesIO(path.read_bytes() if path.exists() else b""))


def records_of(path: Path) -> list[Record]:
    """The records of a journal; none when it was never begun."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [record for _, _, record in read_records(path, file)]


def values_of(id: int) -> dict[str, str]:
    """The values of an entry that nobody uploaded."""
    return {"x": f"item {id}"}


async def experiment_of(service: ThreadedService, name: str) -> int:
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
    with ThreadedService(service) as hosted:
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
