"""How long does a one-row call take beside a run of 3,000 rows?

    python -m benchmarks.interactive --rounds 1

One client with its defaults, and an embedded server with its default of 64 model calls, each a
seeded log-normal of 200 ms (sigma 0.3). 100 callers send one row each, with the priority
``"interactive"``: all at once, or a few of them one after another. That alone, and while the same
client generates 3,000 rows by one call that has its permits already, of priority ``"bulk"``; those
at once also beside one of ``"normal"``, which leaves no permit free.
The latencies are the same each time, so that ratios compare like with like. Every answer is
compared with what the model says.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.common.answers import answer, word
from benchmarks.common.children import CLIENT_CORE, SERVER_CORE, Child, pin
from benchmarks.common.report import emit, number, spread, write_table
from elluminate_async import (
    AsyncClient,
    Batch,
    Experiment,
    Priority,
    PromptResponse,
    TemplateVariables,
)

LATENCY = 0.2
MODEL_CALLS = 64  # the default of `LocalServer`
CALLERS = 100
IN_TURN = 15
ROWS = 3_000
UNDER_WAY = 1.0  # seconds after which the run has all the permits that it gets
BESIDE: dict[str, tuple[Priority | None, ...]] = {
    "at once": (None, "bulk", "normal"),
    "in turn": (None, "bulk"),
}

Seconds = list[float]


class Bench:
    """One client at one experiment of one server."""

    def __init__(
        self,
        client: AsyncClient,
        experiment: Experiment,
        rows: Batch[TemplateVariables],
        callers: int,
    ) -> None:
        self._client = client
        self._experiment = experiment
        self._rows = rows
        self._callers = callers

    @classmethod
    async def make(cls, client: AsyncClient, callers: int, rows: int) -> Bench:
        """With all rows at the service."""
        template, _ = await client.prompt_templates.get_or_create("{{word}}", name="Word")
        collection, _ = await client.collections.get_or_create("words")
        variables = await client.template_variables.add_many(
            [{"word": word(n)} for n in range(callers + rows)], collection=collection
        )
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        return cls(client, experiment, variables, callers)

    async def generate(self, numbers: Sequence[int], priority: Priority) -> Batch[PromptResponse]:
        """Generate some rows by one call, and check what comes."""
        batch = await self._client.responses.generate_many(
            template_variables=[self._rows[n] for n in numbers],
            experiment=self._experiment,
            options=self._client.options.replace(priority=priority),
        )
        assert [response.response_str for response in batch] == [answer(n) for n in numbers]
        return batch

    async def one(self, row: int) -> float:
        """Seconds of one call of one row."""
        started = time.perf_counter()
        await self.generate([row], "interactive")
        return time.perf_counter() - started

    async def at_once(self) -> Seconds:
        """Those of all callers together."""
        return await asyncio.gather(*map(self.one, range(self._callers)))

    async def in_turn(self) -> Seconds:
        """Those of one caller after another."""
        return [await self.one(row) for row in range(IN_TURN)]

    async def beside(
        self, priority: Priority | None, load: Callable[[], Awaitable[Seconds]]
    ) -> Seconds:
        """The same while a long run is under way; None for alone."""
        if priority is None:
            return await load()
        rows = range(self._callers, len(self._rows))
        run = asyncio.create_task(self.generate(rows, priority))
        await asyncio.sleep(UNDER_WAY)
        seconds = await load()
        if run.done():
            emit(benchmark="interactive", warning="the run was over before what was measured")
        await run
        return seconds


async def measure(
    rounds: int, callers: int, rows: int
) -> dict[tuple[str, Priority | None], list[dict[str, float]]]:
    """All loads, alone and beside a run, in turn."""
    found: dict[tuple[str, Priority | None], list[dict[str, float]]] = {}
    service = Path(__file__).parent / "common/service.py"
    options = ("--latency", LATENCY, "--calls", MODEL_CALLS)
    async with Child(service, *options, core=SERVER_CORE) as server:
        pin(CLIENT_CORE)
        async with AsyncClient(
            base_url=server.ready["url"], api_key=server.ready["api_key"]
        ) as client:
            bench = await Bench.make(client, callers, rows)
            await bench.at_once()
            for _ in range(rounds):
                for name, priorities in BESIDE.items():
                    load = bench.at_once if name == "at once" else bench.in_turn
                    for priority in priorities:
                        seconds = await bench.beside(priority, load)
                        figures = told(seconds)
                        found.setdefault((name, priority), []).append(figures)
                        emit(benchmark="interactive", load=name, beside=priority, **figures)
    return found


def told(seconds: Seconds) -> dict[str, float]:
    """The middle and the 95th percentile."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"p50_s": cuts[9], "p95_s": cuts[18]}


def ratios(
    found: dict[tuple[str, Priority | None], list[dict[str, float]]], load: str, beside: Priority
) -> list[float]:
    """The p95 beside a run, over that alone, round by round."""
    pairs = zip(found[load, beside], found[load, None], strict=True)
    return [own["p95_s"] / alone["p95_s"] for own, alone in pairs]


async def main(rounds: int, callers: int, rows: int, *, table: bool) -> None:
    """Measure, and tell the ratios."""
    found = await measure(rounds, callers, rows)
    table_rows: list[list[str]] = []
    for load, beside in found:
        figures = found[load, beside]
        cells = [number(statistics.median(one[name] for one in figures)) for name in figures[0]]
        over = ""
        if beside is not None:
            shares = ratios(found, load, beside)
            over = spread(shares)
            emit(benchmark="interactive", load=load, beside=beside, **{"p95 / alone": shares})
        table_rows.append([load, beside or "nothing", *cells, over])
    if table:
        head = ["100 callers", "beside a run of priority", "p50, s", "p95, s", "p95 / alone"]
        write_table("interactive", head, table_rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=CALLERS, help="of one row each")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the run beside them")
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    options = parser.parse_args()
    started = time.perf_counter()
    asyncio.run(main(options.rounds, options.callers, options.rows, table=options.table))
    emit(benchmark="interactive", took_s=time.perf_counter() - started)
