"""How much CPU does telemetry take of the client's?

    python -m benchmarks.telemetry --items 1000 --rounds 20

`generate_many` and `rate_many`, chunks of the default size, ten in flight, as in
`benchmarks.client_overhead`: the server has a process and a core of its own, and what is counted
is the CPU time of the client's process. The contenders are one client, whose observers are
changed before each turn:

* ``without``: no event is told to anybody, not even to the log. The measure of the others.
* ``off``: as a program has it that asks for nothing: the log at WARNING, no observer.
* ``log``: the log at INFO, into a handler that drops it.
* ``otel``: spans and metrics, recorded by the SDK; a processor of spans keeps them, so that no
  exporter is counted.
* ``otel, events``: an event for each rating besides.

They take turns in an order that rotates, each turn on an experiment of its own; the first round
is warm-up and not printed. Every response is compared with its input, every rating with its
criterion, and the spans of a turn are counted. A ratio is that of two turns of one round; how far
that of ``off`` is from 1 shows the noise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from benchmarks.client_overhead import OURS, Bench, Turn, serve, with_bench
from benchmarks.common.children import CLIENT_CORE, SERVER_CORE, Child, pin
from benchmarks.common.report import emit, spread, write_table
from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.integrations.opentelemetry import instrument, uninstrument
from elluminate_async.telemetry import ObservedAttempt, ObservedCall, Telemetry

CHUNK = BatchOptions().chunk_size
FIGURES = ("generate", "rate", "flow")
WITHOUT = "without"


class Silent(Telemetry):
    """Tells nobody anything, at the least cost that its callers allow."""

    _call: ClassVar = nullcontext(ObservedCall(operation="none"))
    _chunk: ClassVar = nullcontext()
    _attempt: ClassVar = nullcontext(
        ObservedAttempt(within=None, method="", path=(), is_observed=False)
    )

    def call(self, *_: Any, **__: Any) -> Any:
        """As of `Telemetry`."""
        return self._call

    def chunk(self, *_: Any, **__: Any) -> Any:
        """As of `Telemetry`."""
        return self._chunk

    def attempt(self, *_: Any, **__: Any) -> Any:
        """As of `Telemetry`."""
        return self._attempt

    def job(self, job_id: str) -> None:
        """As of `Telemetry`."""


class Spans(SpanProcessor):
    """Keeps the spans that ended."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """As of `SpanProcessor`."""
        self.ended.append(span)


class Records(LogRecordProcessor):
    """Keeps the events."""

    def __init__(self) -> None:
        self.kept: list[ReadWriteLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """As of `LogRecordProcessor`."""
        self.kept.append(log_record)

    def shutdown(self) -> None:
        """As of `LogRecordProcessor`."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """As of `LogRecordProcessor`."""
        return True


class Contenders:
    """Ways to observe one client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._logger = logging.getLogger("elluminate_async")
        self.spans, self.records = Spans(), Records()
        self._tracers, self._loggers = TracerProvider(), LoggerProvider()
        self._tracers.add_span_processor(self.spans)
        self._loggers.add_log_record_processor(self.records)
        self._meters = MeterProvider([InMemoryMetricReader()])
        self.all: dict[str, Callable[[], None]] = {
            WITHOUT: self._without,
            "off": lambda: None,
            "log": lambda: self._logger.setLevel(logging.INFO),
            "otel": self._instrument,
            "otel, events": lambda: self._instrument(evaluation_events=True),
        }

    def choose(self, name: str) -> None:
        """Observe the client in that way from now on."""
        uninstrument(self._client)
        self._client.telemetry.__class__ = Telemetry
        self._logger.setLevel(logging.NOTSET)
        self.spans.ended.clear()
        self.records.kept.clear()
        self.all[name]()

    def _without(self) -> None:
        self._client.telemetry.__class__ = Silent

    def _instrument(self, *, evaluation_events: bool = False) -> None:
        instrument(
            self._client,
            tracer_provider=self._tracers,
            meter_provider=self._meters,
            logger_provider=self._loggers,
            evaluation_events=evaluation_events,
        )

    def check(self, name: str, items: int, criteria: int) -> None:
        """Hold the spans and events of a turn against what was sent."""
        chunks = 2 * -(-items // CHUNK)
        # Beside the call and the two requests of a chunk, those that make the experiment.
        traced = [span for span in self.spans.ended if span.name.startswith("elluminate.")]
        assert len(traced) == (2 + chunks if name.startswith("otel") else 0)
        assert len(self.records.kept) == (items * criteria if name == "otel, events" else 0)


async def measure(url: str, api_key: str, items: int, rounds: int, *, table: bool) -> None:
    async def turns(bench: Bench) -> None:
        contenders = Contenders(bench.client)
        names = [*contenders.all]
        found: dict[str, list[Turn]] = {name: [] for name in names}
        for number in range(rounds + 1):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                contenders.choose(name)
                turn = await bench.turn(OURS, CHUNK)
                contenders.check(name, items, len(bench.criteria))
                if number > 0:
                    found[name].append(turn)
                    emit(**line_of(name, number, items, turn))
        for name in names[1:]:
            emit(**ratio(found, name))
        if table:
            write(found, items)

    await with_bench(url, api_key, items, turns)


def seconds_of(turn: Turn, figure: str) -> float:
    return turn.generate + turn.rate if figure == "flow" else float(getattr(turn, figure))


def line_of(name: str, number: int, items: int, turn: Turn) -> dict[str, Any]:
    figures = {
        f"{figure}_cpu_us_per_item": round(1e6 * seconds_of(turn, figure) / items, 2)
        for figure in FIGURES
    }
    return {
        "benchmark": "telemetry", "contender": name, "chunk_size": CHUNK, "round": number,
        "items": items, **figures,
    }  # fmt: skip


def ratios(found: dict[str, list[Turn]], name: str, figure: str) -> list[float]:
    """CPU time over that without any telemetry, round by round."""
    return [
        seconds_of(one, figure) / seconds_of(without, figure)
        for one, without in zip(found[name], found[WITHOUT], strict=True)
    ]


def middle_half(values: Sequence[float]) -> list[float]:
    """Those between the quartiles: a machine that has other work makes some turns slow."""
    quarter = len(values) // 4
    return sorted(values)[quarter : len(values) - quarter]


def ratio(found: dict[str, list[Turn]], name: str) -> dict[str, Any]:
    line: dict[str, Any] = {"benchmark": "telemetry", "ratio": f"{name} / {WITHOUT}"}
    for figure in FIGURES:
        shares = middle_half(ratios(found, name, figure))
        line[figure] = {
            "quartile": round(shares[0], 3),
            "median": round(statistics.median(shares), 3),
            "third_quartile": round(shares[-1], 3),
        }
    return line


def write(found: dict[str, list[Turn]], items: int) -> None:
    rows: list[Sequence[object]] = []
    for name, turns in found.items():
        cells: list[object] = [name]
        for figure in FIGURES:
            seconds = [1e6 * seconds_of(turn, figure) / items for turn in turns]
            cells.append(spread(middle_half(seconds)))
            shares = ratios(found, name, figure)
            cells.append("" if name == WITHOUT else spread(middle_half(shares)))
        rows.append(cells)
    head = ["telemetry"]
    for figure in FIGURES:
        head += [f"{figure}, us an item", "/ without"]
    write_table("telemetry", head, rows)


async def main(items: int, rounds: int, *, table: bool) -> None:
    async with Child(Path(__file__), "--serve", core=SERVER_CORE) as server:
        pin(CLIENT_CORE)
        url, api_key = server.ready
        await measure(url, api_key, items, rounds, table=table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="write the table")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    else:
        asyncio.run(main(arguments.items, arguments.rounds, table=arguments.table))
