"""An evaluation is killed with SIGKILL at seeded model calls, and made again until it ends.

``python -m tests.soak.evaluations --points 20`` prints a table; it fails when a record differs
from that of the undisturbed evaluation, or when the server counted a model call twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.evaluation.killing import kill_and_resume


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20, help="evaluations, killed once or twice")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts, clean = Counter[str](), True
    for seed in range(options.seed, options.seed + options.points):
        with tempfile.TemporaryDirectory() as folder:
            taken = asyncio.run(kill_and_resume(Path(folder), seed))
        counts.update(
            points=1, kills=taken.kills, records=len(taken.table),
            calls=sum(taken.calls.values()), differing=taken.differing,
            repeated=taken.repeated, missing=taken.missing,
        )  # fmt: skip
        if not taken.clean or not taken.kills:
            clean = False
            print(  # noqa: T201
                f"seed {seed}: {taken.kills} kills, {taken.differing} records differ, "
                f"{taken.repeated} calls repeated, {taken.missing} missing"
            )
    names = ("points", "kills", "records", "calls", "differing", "repeated", "missing")
    print("  ".join(f"{name:>9}" for name in names))  # noqa: T201
    print("  ".join(f"{counts[name]:9}" for name in names))  # noqa: T201
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
