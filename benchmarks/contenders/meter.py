"""The frame of every contender: wait for a line, do what it says, answer with what it took.

Only the standard library, as each contender runs in an environment of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.common import answers as known

Checks = Callable[[], None]
Flow = Callable[[dict[str, Any]], Awaitable[Checks]]


def memory_mib(field: str) -> float:
    """Of this process, in MiB: ``VmRSS`` is resident memory, ``VmHWM`` its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this needs Linux")


def forget_peak() -> None:
    """Let ``VmHWM`` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


async def measured(flow: Flow, task: dict[str, Any]) -> dict[str, float]:
    """Do ``task`` and check its answers once the clocks have stopped.

    What the flow puts into ``task["figures"]`` is reported beside the rest.

    Returns:
        Seconds on the wall, seconds of CPU, and the highest resident memory in MiB, in all
        and above what was there before.
    """
    gc.collect()  # what an earlier run left is not this one's
    forget_peak()
    before = memory_mib("VmRSS")
    figures: dict[str, float] = task.setdefault("figures", {})
    cpu, wall = time.process_time(), time.perf_counter()
    check = await flow(task)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = memory_mib("VmHWM")
    check()
    return figures | {
        "seconds": wall,
        "cpu_s": cpu,
        "peak_mib": peak,
        "growth_mib": peak - before,
    }


def serve_lines(flow: Flow) -> None:
    """Answer lines until the input ends. Each is done in an event loop of its own."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(measured(flow, json.loads(line)))), flush=True)


def checker(
    task: dict[str, Any],
    answers: Callable[[], list[tuple[int, str]]],
    verdicts: Callable[[], list[list[str]]],
) -> Checks:
    """Compares all answers, in input order, with what the model is known to say."""

    def check() -> None:
        numbers = range(len(task["variables"]))
        expected = list(zip(task["variables"], map(known.answer, numbers), strict=True))
        assert answers() == expected, "an answer is wrong or in a wrong position"
        assert verdicts() == [[known.verdict(n)] for n in numbers], "a rating is wrong"

    return check


def row_checker(
    task: dict[str, Any], records: Callable[[], list[tuple[Any, str, list[str]]]]
) -> Checks:
    """Compares input, answer and verdicts of each row, in order, with what is known of them."""

    def check() -> None:
        verdicts = len(task["criteria"])
        expected = [
            (row, known.answer(n), [known.verdict(n)] * verdicts)
            for n, row in enumerate(task["rows"])
        ]
        assert [(dict(row), *rest) for row, *rest in records()] == expected, "a record is wrong"

    return check
