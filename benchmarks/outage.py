"""What does an outage cost a batch: items, time, requests?

    python -m benchmarks.outage

The service is away while a batch is generated: it answers 503, resets every connection, or is
not there (refused), for 0.2 to 20 s, at the batch's start or in its midst; for all requests or
only for those that send items. With idempotency keys and without, 10 to 10,000 items in chunks
of 100, ten at once, a job takes 0.5 s. Client and scripted service speak over loopback; time is
virtual, so that the minutes cost seconds.

One JSON line a cell. ``unknown`` and ``failed`` are items; ``sent_per_accepted`` counts all
requests but the probes of the outage, which are one a second; ``lost``, ``foreign`` and
``twice`` are by the service's own ledger; ``peak_after`` is the most requests at once in the
two seconds after the service is back. Each line was checked:

* with keys every item has its answer, well within `retry_for`;
* without them at most the chunks in flight and one per back-off are unknown;
* no item is lost, generated twice, or has the answer of another;
* what the service sees in vain is at most 10 % of what it accepts, or the chunks in flight and
  one per back-off, where that is more;
* it is not overrun when it is back.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

from benchmarks.common.report import emit, write_table
from elluminate_async import AsyncClient, BatchOptions, Experiment, ItemError, OutcomeUnknownError
from elluminate_async.limits.backoff import BACKOFF_BASE, BACKOFF_CAP
from elluminate_async.testing import ScriptedService, run_virtually
from elluminate_async.testing.exchange import ConnectionCut, Exchange, Process, Reply

CONCURRENCY = 10
CHUNK = 100
JOB_SECONDS = 0.5
CHUNKS = "POST responses/batches"
PROBE = "GET projects"

Kind = Literal["503", "refused", "reset"]
Scope = Literal["all", "chunks"]


@dataclass(frozen=True)
class Cell:
    """One outage of one batch.

    Attributes:
        seconds: How long the service is away.
        scope: All requests, or only those that send a chunk.
        begins: Seconds after the batch's start.
        keys: Whether the service honours idempotency keys.
    """

    kind: Kind
    scope: Scope
    begins: float
    seconds: float
    items: int
    keys: bool
    chunk: int = CHUNK

    @property
    def back_offs(self) -> int:
        """How many back-offs fit into the outage at most: each may be half of its length."""
        count, end = 1, 0.0
        while (
            end := end + min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** (count - 1)) / 2
        ) <= self.seconds:
            count += 1
        return count


@dataclass
class Found:
    """What came of it."""

    answered: int
    unknown: int
    failed: int
    lost: int
    foreign: int
    twice: int
    seconds: float
    sent: int
    accepted: int
    probes: int
    peak_after: int

    @property
    def in_vain(self) -> int:
        """Requests that were not accepted, probes aside."""
        return self.sent - self.probes - self.accepted

    def check(self, cell: Cell) -> None:
        """Fail where a promise does not hold."""
        chunks = min(CONCURRENCY, -(-cell.items // cell.chunk))
        assert (self.lost, self.foreign, self.twice) == (0, 0, 0), self
        if cell.keys:
            assert self.answered == cell.items, self
        else:
            assert self.failed == 0, self
            assert self.unknown <= (chunks + cell.back_offs) * cell.chunk, self
        usual = -(-cell.items // (cell.chunk * CONCURRENCY)) * JOB_SECONDS
        # Ten let in one by one, and a last back-off that began just before the end.
        assert self.seconds <= cell.begins + cell.seconds + BACKOFF_CAP + 3 * usual + 10, self
        # Of what is in flight also its job's stream and the question after it may fail.
        most = max(0.1 * self.accepted, 3 * chunks + cell.back_offs)
        assert self.in_vain <= most, self
        assert self.peak_after <= 2 * CONCURRENCY + 2, self


class Outage:
    """Answers nothing for a while."""

    def __init__(self, cell: Cell) -> None:
        self.away = False
        self.probes = 0
        self._cell = cell

    def take(self, exchange: Exchange) -> Outage | None:
        """This, for what the outage concerns."""
        if exchange.route == PROBE:
            self.probes += self.away
        concerned = self._cell.scope == "all" or exchange.route == CHUNKS
        return self if self.away and concerned else None

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        """Do nothing, and fail."""
        if self._cell.kind == "503":
            return Reply(503, b'{"detail": "away"}')
        raise ConnectionCut

    async def happen(self, service: ScriptedService) -> None:
        """Begin and end it."""
        await asyncio.sleep(self._cell.begins)
        self.away = True
        if self._cell.kind == "refused":
            await service.go_away()
        await asyncio.sleep(self._cell.seconds)
        self.away = False
        if self._cell.kind == "refused":
            await service.come_back()
        service.traffic.peak = 0
        await asyncio.sleep(2.0)


async def experiment_of(client: AsyncClient) -> Experiment:
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
    collection, _ = await client.collections.get_or_create("values")
    experiment, _ = await client.experiments.get_or_create(
        "run", prompt_template=template, collection=collection
    )
    return experiment


async def measure(cell: Cell) -> Found:
    """One batch with the outage."""
    outage = Outage(cell)
    options = BatchOptions(chunk_size=cell.chunk, max_concurrency=CONCURRENCY)
    peaks: list[int] = []
    async with (
        ScriptedService(
            keys=cell.keys, job_seconds=JOB_SECONDS, variables=lambda id: {"x": str(id)}
        ) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
    ):
        experiment = await experiment_of(client)
        service.faults = [outage]
        before = service.traffic.total
        accepted_before = accepted(service)
        ids = list(range(1, cell.items + 1))
        began = time.monotonic()

        async def happen() -> None:
            await outage.happen(service)
            peaks.append(service.traffic.peak)

        happening = asyncio.create_task(happen())
        batch = await client.responses.generate_many(template_variables=ids, experiment=experiment)
        seconds = time.monotonic() - began
        await happening
        made = dict(service.ledger.generated)
    texts = [json.dumps({"x": str(id)}) for id in ids]
    outcomes = list(zip(texts, batch.outcomes, strict=True))
    unknown = sum(isinstance(outcome, OutcomeUnknownError) for _, outcome in outcomes)
    errors = sum(isinstance(outcome, ItemError) for _, outcome in outcomes)
    return Found(
        answered=len(batch.succeeded),
        unknown=unknown,
        failed=errors - unknown,
        lost=sum(text not in made for text, o in outcomes if not isinstance(o, ItemError)),
        foreign=sum(o.response_str != text for text, o in outcomes if not isinstance(o, ItemError)),
        twice=sum(times > 1 for times in made.values()),
        seconds=seconds,
        sent=service.traffic.total - before,
        # Where only chunks fail, the probes are accepted.
        accepted=accepted(service) - accepted_before - outage.probes * (cell.scope == "chunks"),
        probes=outage.probes,
        peak_after=peaks[0],
    )


def accepted(service: ScriptedService) -> int:
    """Requests that were answered with 2xx."""
    return sum(n for status, n in service.traffic.statuses.items() if 200 <= status < 300)


def run(cell: Cell) -> Found:
    """One cell, in virtual time, checked."""
    random.seed(repr(cell))
    found = run_virtually(lambda: measure(cell))
    found.check(cell)
    return found


def cells(items: list[int]) -> Iterator[Cell]:
    """All cells, the cheap ones first."""
    kinds: list[tuple[Kind, Scope]] = [
        ("503", "all"), ("refused", "all"), ("reset", "all"), ("503", "chunks"), ("reset", "chunks")
    ]  # fmt: skip
    for count in items:
        for keys, (kind, scope), begins, seconds in itertools.product(
            (True, False), kinds, (0.0, 0.3), (0.2, 1.0, 3.0, 20.0)
        ):
            yield Cell(kind, scope, begins, seconds, count, keys)


def main(items: list[int], *, table: bool) -> None:
    """All cells, each in a process that has the machine's second core at most."""
    lines: list[dict[str, object]] = []
    with ProcessPoolExecutor(2) as processes:
        todo = list(cells(items))
        for cell, found in zip(todo, processes.map(run, todo), strict=True):
            lines.append(emit(benchmark="outage", **line_of(cell, found)))
    if table:
        write_table("outage", *summary(lines))


def line_of(cell: Cell, found: Found) -> dict[str, object]:
    """The figures of one cell."""
    described = asdict(cell)
    away = described.pop("seconds")
    return {
        **described,
        "seconds_away": away,
        **asdict(found),
        "late": max(0.0, found.seconds - cell.begins - cell.seconds),
        "in_vain": found.in_vain,
        "sent_per_accepted": (found.sent - found.probes) / max(1, found.accepted),
    }


def summary(lines: list[dict[str, object]]) -> tuple[list[str], list[list[object]]]:
    """The worst of each kind, keys, duration and size."""
    head = [
        "items", "away, s", "keys", "answered", "unknown", "s after it is back",
        "in vain", "sent / accepted", "probes",
    ]  # fmt: skip
    groups: dict[tuple[int, float, bool], list[dict[str, object]]] = {}
    for line in lines:
        key = int(str(line["items"])), float(str(line["seconds_away"])), line["keys"] is True
        groups.setdefault(key, []).append(line)
    return head, [
        [f"{items:,}", away, "yes" if keys else "no", *_worst(groups[items, away, keys])]
        for items, away, keys in sorted(groups, key=lambda key: (key[0], key[1], not key[2]))
    ]


def _worst(group: list[dict[str, object]]) -> list[object]:
    def most(name: str) -> float:
        return max(float(str(line[name])) for line in group)

    return [
        f"{min(int(str(line['answered'])) for line in group):,}",
        f"{most('unknown'):,.0f}",
        f"{most('late'):.1f}",
        f"{most('in_vain'):.0f}",
        f"{most('sent_per_accepted'):.2f}",
        f"{most('probes'):.0f}",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    main(arguments.items, table=arguments.table)
