"""Do several processes keep one limit together, whatever happens to them and to what they share?

    python -m benchmarks.shared_limits
    python -m benchmarks.shared_limits --pace

Four processes, each with a client of its own, ask as fast as one `BatchOptions(share=...)` lets
them; one server on loopback notes when each request arrived, and its figures count. Limits of 20
in 2 s, 100 and 1,000 a second, and 1,000 items a second, shared by Redis, by a file and by an
actor of Ray. Items come in chunks of 4, and in the largest that there are, 50: what the others
send must fit beside the largest, so that such leave a twentieth of the limit unused.

Share of the limit: arrivals over what the limit allows in the time from the first to the last.
Spread: of what the processes sent, the most less the least over the mean. CPU: of the four
processes for each admission, in a run that sends nothing.

Then the faults, of which each tells that it happened. Redis is started and ended here. With
``--pace``: 16 clients that share the pace of a service with a limit that it does not tell.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.children import SERVER_CORE, Child
from benchmarks.common.report import emit, number, write_table
from benchmarks.shared_limits import pace
from benchmarks.shared_limits.faults import OF_BACKENDS, OF_PROCESSES, Kind, Scene
from benchmarks.shared_limits.shares import BACKENDS, Backend, available

HERE = Path(__file__).parent
PROCESSES = 4
LEAST_USED = 0.97
CHUNKS = (4, 50)  # items in one
LEAST_USED_BY_CHUNKS = 0.9  # of a twentieth of the limit each
MOST_OVER = 1.02  # at 1,000 a second; at fewer none
MOST_SPREAD = 0.05  # at 1,000 a second
PATIENCE = 60.0  # seconds
AFTER = 2.0  # seconds of a run before a fault, and after it
LAST = 0.5  # seconds at the end of a run in which something is sent


@dataclass(frozen=True)
class Limit:
    """A limit on requests, or on items."""

    requests: int
    period: float
    chunk: int = 0  # items in one; 0 where the limit is on requests

    @property
    def of_items(self) -> bool:
        """Whether it is on items."""
        return self.chunk > 0

    @property
    def least_used(self) -> float:
        """Share of it that is to be used."""
        return LEAST_USED_BY_CHUNKS if self.chunk == CHUNKS[-1] else LEAST_USED

    def __str__(self) -> str:
        per = "s" if self.period == 1 else f"{self.period:g} s"
        of = f" items, {self.chunk} a chunk" if self.of_items else ""
        return f"{self.requests:,}/{per}{of}"

    @property
    def most(self) -> float:
        """So many may be in a window."""
        return self.requests * (1 if self.requests <= 100 else MOST_OVER)


LIMITS = (Limit(20, 2.0), Limit(100, 1.0), Limit(1000, 1.0))
ITEMS = tuple(Limit(1000, 1.0, chunk) for chunk in CHUNKS)


def figures(seen: Sequence[tuple[float, int, int]], limit: Limit) -> dict[str, float]:
    """What the server saw of one run."""
    times = [at for at, _, _ in seen]
    before = [0, *itertools.accumulate(weight for _, _, weight in seen)]
    most = max(
        before[bisect_left(times, start + limit.period)] - before[i]
        for i, start in enumerate(times)
    )
    by = Counter(dict.fromkeys(range(PROCESSES), 0))
    for _, worker, weight in seen:
        by[worker] += weight
    counts = sorted(by.values())
    return {
        "counted": before[-1],
        "most_in_a_window": most,
        # What came last used the time after it, which is not seen.
        "used": before[-2] / (limit.requests * (times[-1] - times[0]) / limit.period),
        "spread": (counts[-1] - counts[0]) / (sum(counts) / len(counts)),
        "longest_quiet_s": max(b - a for a, b in itertools.pairwise(times)),
    }


class Crew:
    """The processes that share a backend, and the server that they ask."""

    def __init__(self, backend: Backend, server: Child) -> None:
        self.backend = backend
        self.server = server
        self.workers: list[Child] = []
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """End the processes."""
        await self._stack.aclose()

    async def run(self, limit: Limit, seconds: float, fault: Kind | None = None) -> dict[str, Any]:
        """The figures of one run, and whether the fault happened in it."""
        begin, running = await self._begin("generate" if limit.of_items else "ask", limit, seconds)
        fired = None
        if fault is not None:
            await asyncio.sleep(begin + AFTER - time.monotonic())
            scene = Scene(self.server, self.workers, self.backend, fault.seconds)
            fired = await fault.happen(scene)
        answers = await running
        lost = [one for one in answers if isinstance(one, BaseException)]
        assert len(lost) == (fault is not None and fault.name == "a process killed"), lost
        found = await self.server.ask(all=True)
        # To the last moment at which all of them were at it; what has no key is of the opening.
        seen = [one for one in found["seen"] if begin <= one[0] <= begin + seconds and one[1] >= 0]
        again = sum(
            one.get("cancelled_again", 0) for one in answers if not isinstance(one, BaseException)
        )
        # Else nothing is known of what comes after the fault.
        went_on = seen[-1][0] > begin + seconds - LAST
        return {
            **figures(seen, limit), "cancelled_again": again, "fired": fired, "went_on": went_on,
        }  # fmt: skip

    async def cpu(self, limit: Limit, seconds: float) -> float:
        """Microseconds of CPU for each admission."""
        _, running = await self._begin("admit", limit, seconds)
        answers: list[Any] = await running
        return (
            1e6 * sum(one["cpu_seconds"] for one in answers) / sum(one["count"] for one in answers)
        )

    async def _begin(
        self, mode: str, limit: Limit, seconds: float
    ) -> tuple[float, asyncio.Future[list[Any]]]:
        """Let all begin at the same moment; that, and their answers."""
        await self._complete()
        task = {
            **self.server.ready, "mode": mode, "share": self.backend.fresh(),
            "requests": limit.requests, "period": limit.period, "chunk": limit.chunk,
        }  # fmt: skip
        opened = [one.ask(worker=i, **task) for i, one in enumerate(self.workers)]
        assert await asyncio.gather(*opened) == ["open"] * PROCESSES
        # What was sent to open is out of every window by then.
        begin = time.monotonic() + 0.1 + limit.period
        running = asyncio.gather(
            *(one.ask(begin=begin, end=begin + seconds) for one in self.workers),
            return_exceptions=True,
        )
        return begin, running

    async def _complete(self) -> None:
        for worker in self.workers:
            if worker.process.returncode is not None:
                self.workers.remove(worker)
                break
        while len(self.workers) < PROCESSES:
            environment = self.backend.environment
            worker = Child(HERE / "worker.py", core=None, environment=environment)
            self.workers.append(await self._stack.enter_async_context(worker))


@asynccontextmanager
async def crew(kind: str) -> AsyncGenerator[Crew]:
    """A backend with its processes and a server."""
    with BACKENDS[kind]() as backend:
        async with Child(HERE / "server.py", core=SERVER_CORE) as server:
            made = Crew(backend, server)
            try:
                yield made
            finally:
                await made.aclose()


def missed(limit: Limit, found: dict[str, Any], *, short: bool) -> list[str]:
    """The goals that a run missed."""
    most = max(1.1 * limit.requests, limit.requests + 2) if short else limit.most
    checks = {"over the limit": found["most_in_a_window"] > most}
    if found["fired"] is None and not short:
        checks["used"] = found["used"] < limit.least_used
        checks["spread"] = (
            limit.requests > 100 and not limit.of_items and found["spread"] > MOST_SPREAD
        )
    elif found["fired"] is not None:
        checks["did not happen"] = not found["fired"]
        checks["did not go on"] = not (found["went_on"] or short)
    return [name for name, is_so in checks.items() if is_so]


async def measure(kind: str, limits: Sequence[Limit], seconds: float, *, short: bool) -> list[Any]:
    """All runs with one backend."""
    lines: list[Any] = []
    async with crew(kind) as made:

        async def one(limit: Limit, seconds: float, fault: Kind | None = None) -> None:
            async with asyncio.timeout(seconds + PATIENCE):
                found = await made.run(limit, seconds, fault)
            cpu = None if fault or limit.of_items else await made.cpu(limit, seconds / 2)
            name = fault.name if fault else ""
            if fault and fault.seconds:
                name += f", {fault.seconds:g} s"
            lines.append(
                emit(benchmark="shared_limits", backend=kind, limit=str(limit), fault=name,
                     **found, cpu_us=cpu, missed=missed(limit, found, short=short))
            )  # fmt: skip

        for limit in limits:
            await one(limit, seconds)
        for fault in faults_of(kind, short=short):
            for limit in (Limit(100, 1.0),) if short else (LIMITS[0], LIMITS[-1]):
                await one(limit, 2 * AFTER + fault.seconds + limit.period, fault)
    return lines


def faults_of(kind: str, *, short: bool) -> list[Kind]:
    """Those of the processes, and those of what is shared."""
    all_of_it = OF_PROCESSES + OF_BACKENDS[kind]
    if not short:
        return all_of_it
    # Those of the processes once.
    some = all_of_it if kind == "redis" else OF_BACKENDS[kind]
    return [Kind(one.name, one.happen, min(one.seconds, 1.0)) for one in some]


async def main(kinds: Sequence[str], seconds: float, *, short: bool, table: bool) -> bool:
    """All backends; whether all goals were met."""
    lines: list[Any] = []
    limits = LIMITS[1:2] if short else (*LIMITS, *ITEMS)
    for kind in kinds:
        if available(kind):
            lines += await measure(kind, limits, seconds, short=short)
        else:
            print(f"{kind} is not installed: left out", file=sys.stderr)
    if table:
        write(lines)
    return not any(line["missed"] for line in lines)


def write(lines: Sequence[Any]) -> None:
    """The two tables."""
    write_table(
        "shared_limits",
        ["shared by", "limit", "most in a window", "used, %", "spread, %", "CPU, µs an admission"],
        [
            [
                line["backend"], line["limit"], f"{line['most_in_a_window']:,}",
                number(100 * line["used"]), number(100 * line["spread"]),
                "" if line["cpu_us"] is None else number(line["cpu_us"]),
            ]
            for line in lines
            if not line["fault"]
        ],
    )  # fmt: skip
    write_table(
        "shared_limits faults",
        ["shared by", "what happens", "limit", "most in a window", "nothing sent for, s"],
        [
            [
                line["backend"], line["fault"], line["limit"], f"{line['most_in_a_window']:,}",
                number(line["longest_quiet_s"]),
            ]
            for line in lines
            if line["fault"]
        ],
    )  # fmt: skip


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", nargs="*", choices=sorted(BACKENDS), default=[*BACKENDS])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run without a fault")
    parser.add_argument("--short", action="store_true", help="one limit, and no goals of speed")
    parser.add_argument("--pace", action="store_true", help="the pace of 16 clients instead")
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    return parser.parse_args(given)


if __name__ == "__main__":
    asked = arguments()
    if asked.pace:
        met = pace.main(short=asked.short, table=asked.table)
    else:
        seconds = min(asked.seconds, 1.5) if asked.short else asked.seconds
        met = asyncio.run(main(asked.backends, seconds, short=asked.short, table=asked.table))
    # On a busy machine a short run shows that it runs, and what happens.
    sys.exit(0 if met else "a goal was missed, see `missed` in the lines")
