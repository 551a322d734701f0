"""The benchmarks run, and their arithmetic is right. How fast anything is, no test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common import report
from benchmarks.common.answers import MODEL_CALLS, ideal_seconds, latencies, pipelined_seconds
from benchmarks.common.redis_server import FOUND
from benchmarks.hosted import summary
from benchmarks.limits import Arrivals

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("scale", ["--items", "1000", "2000"]),
        ("journal", ["--items", "2000", "--rows", "2000"]),
        ("limits", ["--seconds", "0.3"]),
        ("interactive", ["--rounds", "1", "--callers", "5", "--rows", "300"]),
        ("evaluate", ["--overhead-rows", "20", "--stream-rows", "50", "--rounds", "1"]),
        ("telemetry", ["--items", "20", "--rounds", "1"]),
        ("coalesce", ["--rows", "5", "--rounds", "1"]),
        ("reads", ["--stored", "2000", "--repeats", "1"]),
    ],
)
def test_a_benchmark_runs_and_prints_json_lines(script: str, arguments: list[str]) -> None:
    """Each line is one measurement with the benchmark's name."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) >= 3
    assert {line["benchmark"] for line in lines} == {script}


@pytest.mark.skipif(FOUND is None and not os.environ.get("CI"), reason="needs redis-server")
def test_what_happens_to_a_shared_limit_happened_and_breaks_nothing() -> None:
    """In the short form each fault fired, and no window has more than a tenth over the limit."""
    command = [sys.executable, "-m", "benchmarks.shared_limits", "--short"]
    done = subprocess.run(
        [*command, "--backends", "redis"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["fired"] for line in lines] == [None, *[True] * 7]


def test_the_ideal_of_one_wave_is_its_slowest_answers() -> None:
    """With as many answers at once as items, each phase takes its slowest; trips come on top."""
    slowest = [max(latencies(MODEL_CALLS, 0.2, phase, 1)) for phase in ("generate", "judge")]
    assert ideal_seconds(MODEL_CALLS, 0.2, 0.03, draw=1) == pytest.approx(sum(slowest) + 4 * 0.03)


def test_the_ideal_of_many_waves_is_the_mean_over_all_slots() -> None:
    """In the long run all of the model's slots are busy."""
    ideal = ideal_seconds(20_000, 0.2, 0.0, draw=1)
    assert ideal == pytest.approx(2 * 20_000 * 0.2 / MODEL_CALLS, rel=0.03)


def test_the_pipelined_ideal_of_one_wave_is_its_longest_row() -> None:
    """With as many calls at once as rows, it takes the row whose two calls are longest."""
    phases = [latencies(64, 0.2, phase, 1) for phase in ("generate", "judge")]
    longest = max(map(sum, zip(*phases, strict=True)))
    for first in (True, False):
        assert pipelined_seconds(64, 0.2, 64, 1, ratings_first=first) == pytest.approx(longest)


def test_the_pipelined_ideal_of_one_call_at_a_time_is_their_sum() -> None:
    """Whatever the order, one call at once is never idle."""
    total = sum(sum(latencies(50, 0.2, phase, 1)) for phase in ("generate", "judge"))
    for first in (True, False):
        assert pipelined_seconds(50, 0.2, 1, 1, ratings_first=first) == pytest.approx(total)


def test_arrivals_at_the_limit_use_all_of_it() -> None:
    """128 a second, evenly spaced, are a share of 1 and 128 in any second."""
    arrivals = Arrivals(times=[n / 128 for n in range(1_280)], weights=[0] * 1_280)
    figures = arrivals.figures(128, of_items=False)
    assert figures["share"] == pytest.approx(1.0)
    assert figures["most_in_a_window"] == 128


def test_arrivals_in_bursts_are_seen_in_some_window() -> None:
    """150 items just before a full second and 150 just after are 300 in one window."""
    arrivals = Arrivals(times=[0.0, 0.9, 1.1, 2.0], weights=[50, 150, 150, 50])
    assert arrivals.figures(100, of_items=True)["most_in_a_window"] == 300


def test_missed_goals_of_the_hosted_way_are_named() -> None:
    """Medians of the rounds' ratios are compared with the goals, time with `run_experiment`'s."""
    one = {"bytes": 100.0, "cpu_s": 1.0, "seconds": 2.0, "requests": 50.0}
    figures = {
        "elluminate-async": [one, one | {"bytes": 130.0}, one | {"requests": 120.0}],
        "official 1.5.2": [one] * 3,
        "official 1.5.2, run_experiment": [one | {"seconds": 1.0}] * 3,
    }
    found = summary(figures)
    assert found["ratios"] == {"bytes": 1.0, "cpu_s": 1.0, "seconds": 2.0, "requests": 50.0}
    assert found["missed"] == ["seconds"]


def test_a_table_replaces_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands between a table's marks is replaced, and nothing else."""
    readme = tmp_path / "README.md"
    monkeypatch.setattr(report, "README", readme)
    readme.write_text("above\n<!-- a -->\n<!-- /a -->\nbelow\n")
    for value in ("old", "new"):
        report.write_table("a", ["x"], [[value]])
    assert readme.read_text() == (
        "above\n<!-- a -->\n| x |\n| --- |\n| new |\n<!-- /a -->\nbelow\n"
    )
    with pytest.raises(LookupError, match="'b'"):
        report.write_table("b", ["x"], [])
