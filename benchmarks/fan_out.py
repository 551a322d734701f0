"""What does it cost to await 100,000 items, ten at a time, when each item does nothing?

    python -m benchmarks.fan_out --items 10000

The engine beside `asyncio.gather` with a semaphore, aiometer's `run_all`, the `abatch` of
LangChain's `RunnableLambda` and the `process_prompts` of async-batch-llm, the nearest asyncio
toolkit for calls of models, whose prompts are texts. All await the same coroutine once per item,
which returns at once (or, with ``--waiting``, gives way to the event loop once), and give back
the results in input order, which are compared with the inputs. The engine sends items in chunks:
of one item, as the others do, and of its default size, where the chunk awaits its items one after
the other. No network and no service: what is measured is starting, bounding and collecting.

Each run is a process of its own, so that its highest memory is its own too; the contenders
take turns. A run first awaits a few hundred items, which is warm-up, then notes CPU time and
resident memory and awaits all. Memory is the highest resident memory above that note, so
the inputs are not counted, and the results, which are the inputs, only as references.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from benchmarks.common.children import CLIENT_CORE, ROOT, pin
from benchmarks.common.report import emit, spread, write_table
from benchmarks.contenders.meter import memory_mib

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from elluminate_async.engine.operation import Operation

CONCURRENCY = 10
WARM_UP_ITEMS = 500
ENGINE = ("engine, chunks of 1", "engine, chunks of 100")
PEERS = ("gather", "aiometer", "langchain", "async-batch-llm")

NoOp = Callable[[int], Awaitable[int]]
Contender = Callable[[NoOp, Sequence[int]], Awaitable[Sequence[int]]]


async def at_once(value: int) -> int:
    """Return without giving way."""
    return value


async def one_step(value: int) -> int:
    """Return in the event loop's next step, as soon as whatever really waits could."""
    await asyncio.sleep(0)
    return value


NO_OPS: dict[str, NoOp] = {"returns at once": at_once, "gives way once": one_step}


async def engine(chunk_size: int, no_op: NoOp, values: Sequence[int]) -> Sequence[int]:
    from elluminate_async import BatchOptions
    from elluminate_async.engine.call import Call
    from elluminate_async.engine.chunks import Item
    from elluminate_async.engine.run import run_batch
    from elluminate_async.limits.limits import Limits

    # Of an operation the engine uses no more than this here.
    class NoOperation:
        name = "generate"

        async def send(self, items: Sequence[Item[int]]) -> AsyncIterator[tuple[int, int]]:
            for item in items:
                yield item.position, await no_op(item.value)

        async def reconcile(self) -> tuple[dict[int, int], Sequence[int]]:
            return {}, ()

    options = BatchOptions(max_concurrency=CONCURRENCY, chunk_size=chunk_size)
    call = Call(
        cast("Operation[int, int]", NoOperation()),
        options=options,
        limits=Limits(CONCURRENCY, None),
        deadline_at=time.monotonic() + options.deadline,
        total=len(values),
    )
    batch = await run_batch(call, (Item(i, value) for i, value in enumerate(values)))
    return batch.raise_for_failed()


async def gather(no_op: NoOp, values: Sequence[int]) -> Sequence[int]:
    permits = asyncio.Semaphore(CONCURRENCY)

    async def bounded(value: int) -> int:
        async with permits:
            return await no_op(value)

    return await asyncio.gather(*map(bounded, values))


async def aiometer(no_op: NoOp, values: Sequence[int]) -> Sequence[int]:
    run_all = importlib.import_module("aiometer").run_all
    return await run_all([partial(no_op, value) for value in values], max_at_once=CONCURRENCY)


async def langchain(no_op: NoOp, values: Sequence[int]) -> Sequence[int]:
    runnable = importlib.import_module("langchain_core.runnables").RunnableLambda(no_op)
    return await runnable.abatch(list(values), config={"max_concurrency": CONCURRENCY})


async def async_batch_llm(no_op: NoOp, values: Sequence[int]) -> Sequence[int]:
    toolkit = importlib.import_module("async_batch_llm")

    async def invoke(prompt: str, *, attempt: int, timeout: float, state: object) -> Any:
        return toolkit.CallOutcome(await no_op(int(prompt)))

    batch = await toolkit.process_prompts(
        toolkit.CallableStrategy(invoke),
        list(map(str, values)),
        # It counts up what it has done every ten items for its log, unless it is told otherwise.
        config=toolkit.ProcessorConfig(
            concurrency=CONCURRENCY, progress_interval=max(1, len(values))
        ),
        preserve_order=True,
    )
    return [result.output for result in batch.results]


CONTENDERS: dict[str, Contender] = {
    ENGINE[0]: partial(engine, 1),
    ENGINE[1]: partial(engine, 100),
    "gather": gather,
    "aiometer": aiometer,
    "langchain": langchain,
    "async-batch-llm": async_batch_llm,
}


def cpu_seconds() -> float:
    """CPU time of this process, of all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(contender: str, no_op: str, items: int) -> dict[str, object]:
    """One run; in the process that it is run in."""
    run = partial(CONTENDERS[contender], NO_OPS[no_op])
    # Not of the small integers that Python shares: a wrong one could pass for a right one.
    values = [1_000_000 + n for n in range(items)]
    await run(values[:WARM_UP_ITEMS])
    gc.collect()
    resident, cpu, wall = memory_mib("VmRSS"), cpu_seconds(), time.perf_counter()
    results = await run(values)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    highest = memory_mib("VmHWM")
    # Fast and wrong is not a result.
    assert list(results) == values
    return {
        "contender": contender,
        "item": no_op,
        "items": items,
        "concurrency": CONCURRENCY,
        "cpu_us_per_item": round(1e6 * cpu / items, 2),
        "wall_us_per_item": round(1e6 * wall / items, 2),
        "peak_bytes_per_item": round((highest - resident) * 2**20 / items, 1),
    }


def measure_apart(python: str, contender: str, no_op: str, items: int) -> dict[str, Any]:
    """One run in a fresh process of that interpreter."""
    # Nothing that a peer reports elsewhere, and no setting of the caller's that slows one.
    quiet = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}
    done = subprocess.run(
        [python, __file__, "--measure", contender, no_op, str(items)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **quiet, "PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


def ratios(lines: Sequence[dict[str, Any]], no_op: str, figure: str) -> list[dict[str, object]]:
    """Each peer's figure over that of each way of the engine, repeat by repeat."""
    found: list[dict[str, object]] = []
    for ours in ENGINE:
        for peer in PEERS:
            pairs = [
                [
                    line[figure]
                    for line in lines
                    if (line["contender"], line["item"]) == (who, no_op)
                ]
                for who in (peer, ours)
            ]
            shares = [theirs / ours for theirs, ours in zip(*pairs, strict=True)]
            found.append(
                {
                    "ratio": f"{peer} / {ours}",
                    "figure": figure,
                    "item": no_op,
                    "min": round(min(shares), 2),
                    "median": round(statistics.median(shares), 2),
                    "max": round(max(shares), 2),
                }
            )
    return found


def run(items: int, repeats: int, peers_python: str, no_ops: Sequence[str]) -> list[dict[str, Any]]:
    """All runs, the contenders in turn; one line each."""
    lines: list[dict[str, Any]] = []
    for repeat in range(repeats):
        for no_op in no_ops:
            for contender in CONTENDERS:
                python = sys.executable if contender in ENGINE else peers_python
                line = measure_apart(python, contender, no_op, items)
                lines.append({"benchmark": "fan_out", "repeat": repeat, **line})
                emit(**lines[-1])
    return lines


def write(lines: Sequence[dict[str, Any]]) -> None:
    """The table."""
    figures = ("cpu_us_per_item", "wall_us_per_item", "peak_bytes_per_item")
    rows = [
        [
            contender,
            no_op,
            *(
                spread(
                    [
                        line[figure]
                        for line in lines
                        if (line["contender"], line["item"]) == (contender, no_op)
                    ]
                )
                for figure in figures
            ),
        ]
        for no_op in dict.fromkeys(line["item"] for line in lines)
        for contender in CONTENDERS
    ]
    head = ["contender", "an item", "CPU, us an item", "wall, us an item", "peak, bytes an item"]
    write_table("fan_out", head, rows)


def main(items: int, repeats: int, peers_python: str, *, waiting: bool, table: bool) -> None:
    pin(CLIENT_CORE)
    no_ops = list(NO_OPS) if waiting else list(NO_OPS)[:1]
    lines = run(items, repeats, peers_python, no_ops)
    for no_op in no_ops:
        for figure in ("cpu_us_per_item", "wall_us_per_item", "peak_bytes_per_item"):
            for line in ratios(lines, no_op, figure):
                emit(benchmark="fan_out", **line)
    if table:
        write(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--peers-python",
        default=str(ROOT / ".venv-peers/fanout/bin/python"),
        help="of an environment with requirements/fanout.txt; `make bench` makes one",
    )
    parser.add_argument("--waiting", action="store_true", help="items that give way, too")
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        contender, no_op, items = arguments.measure
        print(json.dumps(asyncio.run(measure(contender, no_op, int(items)))))
    else:
        main(
            arguments.items,
            arguments.repeats,
            arguments.peers_python,
            waiting=arguments.waiting,
            table=arguments.table,
        )
