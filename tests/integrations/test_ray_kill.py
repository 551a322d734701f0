"""A worker of Ray Data is killed: nothing is lost, doubled or swapped, and nothing paid twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ray_kill import grown, problems_in

ROOT = Path(__file__).parents[2]
WELL = {"lost": 0, "duplicate": 0, "wrong": 0, "failures_unlike_planted": 0}


def test_a_killed_worker_costs_nothing() -> None:
    """By the ledger of the model, with one generation and one rating of 50 failing as planned."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.ray_kill", "--kill", "worker", "--at", "0.4"),
            *("--rows", "2000", "--batch", "400", "--operations", "evaluate"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr[-2_000:]
    assert line["holds"]
    assert line["killed_at"] >= 800
    assert line["paid_twice"] == 0
    assert line["failed"] == 80


@pytest.mark.parametrize(
    ("found", "killed", "paid_twice", "actor_mb", "item_keys", "says"),
    [
        (WELL, 800, 0, 250, True, []),
        (WELL, 800, 500, 250, False, []),
        (WELL, None, 0, 250, True, []),
        (WELL, 0, 0, 250, True, ["nothing is proven"]),
        (WELL, 800, 0, 250, False, ["did not bite"]),
        (WELL, 800, 1, 301, True, ["1 paid twice", "301 MB"]),
        (WELL | {"lost": 2, "wrong": 1}, 800, 0, 250, True, ["2 lost", "1 wrong"]),
    ],
)
def test_a_fault_that_did_not_bite_proves_nothing(
    found: dict[str, int],
    killed: int | None,
    paid_twice: int,
    actor_mb: int,
    item_keys: bool,
    says: list[str],
) -> None:
    """Without keys something must be paid twice, and with them nothing."""
    problems = problems_in(found, killed, paid_twice, actor_mb, item_keys=item_keys)

    assert len(problems) == len(says)
    assert all(part in problem for part, problem in zip(says, problems, strict=True))


def test_memory_that_grows_with_the_rows_is_told() -> None:
    """A tenth more than with few rows is allowed; what was not run with few is not judged."""
    many = {"generate": 221, "rate": 219, "evaluate": 300}

    assert grown({"generate": 200, "rate": 200}, many) == [
        "generate: an actor had 221 MB, and 200 MB with fewer rows"
    ]
    assert grown({}, many) == []
