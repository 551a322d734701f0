"""The names of the tests: alike in every process, or no worker can share them with another."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import anyio

ROOT = Path(__file__).parents[1]

# Collects the suite as if it were some seconds later, or another year.
COLLECT = """
import sys, time
import pytest

real, later = time.time, float(sys.argv[1])
time.time = lambda: real() + later
sys.exit(pytest.main(["--collect-only", "-q", "--assert=plain", "-p", "no:cacheprovider", "tests"]))
"""


async def collected(hash_seed: int, later: float) -> list[str]:
    """The ids of all tests, in order, as a process of its own finds them."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = await anyio.run_process(
        [sys.executable, "-c", COLLECT, str(later)],
        cwd=ROOT,
        env={**kept, "PYTHONHASHSEED": str(hash_seed)},
    )
    return [line for line in done.stdout.decode().splitlines() if "::" in line]


async def test_all_processes_find_the_same_tests() -> None:
    """At another time and with another order of sets: the same ids in the same order."""
    first, second = await asyncio.gather(collected(1, 0), collected(2, 40_000_000.5))

    assert any("::test_all_processes_find_the_same_tests" in id for id in first)
    assert len(set(first)) == len(first)
    assert first == second
