"""Locked databases and full disks, seeded: accepted jobs end by themselves, paid answers are kept.

``python -m tests.soak.trouble --seeds 20`` prints a line of JSON for each kind of trouble. The
clock is virtual, the database, its lock and its limit of pages are real.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from elluminate_async.server.store import database
from elluminate_async.testing.clock import VirtualLoop
from tests.server.machine import Trouble, run


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds: int = parser.parse_args(arguments).seeds
    database.BUSY_TIMEOUT_MS = 10  # in real time, which this clock does not count
    for kind in get_args(Trouble):
        sys.stdout.write(json.dumps(figures(kind, seeds)) + "\n")


def figures(kind: Trouble, seeds: int) -> dict[str, Any]:
    """Totals over the seeds; fails when a job did not end well or an answer was lost."""
    total = Counter[str]()
    for seed in range(seeds):
        seconds = random.Random(seed).uniform(5, 40)
        with (
            tempfile.TemporaryDirectory() as folder,
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            outcome = runner.run(run(Path(folder) / "s.db", kind, seconds=seconds, seed=seed))
        outcome.check()
        total["jobs"] += len(outcome.statuses)
        total["asked"] += outcome.asked.total()
        total["kept"] += outcome.kept.total()
        total["refused"] += sum(one.status in (503, 507) for one in outcome.refusals)
        total["events"] += outcome.events
        total["seconds"] += round(outcome.seconds)
    return {"trouble": kind, "seeds": seeds, **total}


if __name__ == "__main__":
    main()
