"""``compare``, ``export`` and ``report``: what is done with runs that are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.command import CRITERIA, PROMPT, Command
from tests.cli.schemas import misfit


def record(row: int, verdict: str | None, config: str = "m") -> str:
    """A line of results."""
    rating = {
        "id": 1, "criterion_id": 1, "criterion": "Is it so?", "label": "so", "rating": verdict,
        "reasoning": None,
    }  # fmt: skip
    error = {"type": "RatingError", "text": "the judge failed", "position": row,
             "code": "rating_failed", "operation": "rate"}  # fmt: skip
    return json.dumps(
        {
            "position": row, "row": row, "config": config, "epoch": 1, "input": {"q": row},
            "response_id": row, "response": "yes", "error": None,
            "ratings": None if verdict is None else [rating],
            "rating_error": error if verdict is None else None, "passed": verdict == "YES",
            "input_tokens": None, "output_tokens": None, "duration_seconds": None, "cost": None,
        }
    )  # fmt: skip


def results(command: Command, name: str, verdicts: Sequence[str | None]) -> None:
    """A file of results."""
    command.write(name, "".join(record(row, one) + "\n" for row, one in enumerate(verdicts)))


def test_runs_are_compared_row_by_row(command: Command) -> None:
    """What got worse is told, and by --fail-if-worse the exit code is 1."""
    results(command, "a.jsonl", ["YES"] * 20)
    results(command, "b.jsonl", ["NO"] * 12 + ["YES"] * 8)
    schema = json.loads(command("compare", "--json-schema").out)
    done = command("compare", "a.jsonl", "b.jsonl", "--json")
    found = json.loads(done.out)

    assert not misfit(found, schema, schema)
    assert done.code == 0
    assert found["overall"]["verdict"] == "worse"
    assert found["overall"]["difference"] == -0.6
    assert found["criteria"]["so"]["regressed"] == list(range(12))
    assert "100.0 %" in done.err
    assert "worse" in done.err
    assert command("compare", "a.jsonl", "b.jsonl", "--fail-if-worse").code == 1
    assert command("compare", "b.jsonl", "a.jsonl", "--fail-if-worse").code == 0


def test_what_was_not_measured_on_both_sides_is_no_comparison(command: Command) -> None:
    """Then the exit code is 3."""
    results(command, "a.jsonl", ["YES", "NO"])
    results(command, "b.jsonl", [None, None])

    assert command("compare", "a.jsonl", "b.jsonl").code == 3


def test_two_models_of_one_run_are_compared(command: Command) -> None:
    """They need no naming where there are two; else there must be."""
    run = ("run", "rows.csv", *PROMPT, *CRITERIA, "--quiet")
    command(*run, "--model", "small", "--model", "large")
    found = json.loads(command("compare", "rows", "--json").out)

    assert (found["a"], found["b"]) == ("small", "large")
    assert found["overall"]["n"] == 3
    done = command("compare", "rows", "--model", "small")
    assert done.code == 2
    assert "it has small, large" in done.err
    assert command("compare", "rows", "rows", "--model", "large").code == 0


def test_a_run_is_exported_in_another_format(command: Command) -> None:
    """It is what `--out` would have written at once."""
    command("run", "rows.csv", *PROMPT, *CRITERIA, "--out", "r.csv", "--out", "r.jsonl")
    done = command("export", "rows", "--out", "s.csv", "--out", "s.jsonl", "--out", "s.parquet")

    assert done.code == 0
    for suffix in ("csv", "jsonl"):
        assert Path(f"s.{suffix}").read_bytes() == Path(f"r.{suffix}").read_bytes()
    assert Path("s.parquet").read_bytes()[:4] == b"PAR1"
    assert command("export", "r.jsonl", "--out", "t.csv").code == 0
    assert Path("t.csv").read_bytes() == Path("r.csv").read_bytes()


def test_a_report_is_written_of_the_run(command: Command) -> None:
    """`run --report` and `report` of what is kept write it with the gate of the run."""
    command("run", "rows.csv", *PROMPT, *CRITERIA, "--fail-under", "0", "--report", "a.html")
    command("report", "rows", "--out", "b.html")

    pages = [Path(name).read_text("utf-8") for name in ("a.html", "b.html")]
    assert all(page.startswith("<!doctype html>") for page in pages)
    assert ["Gate passed" in page for page in pages] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export", "nightly", "--out", "x.csv"], "there is no run 'nightly'"),
        (["export", "none.jsonl", "--out", "x.csv"], "cannot read none.jsonl: No such file"),
        (["export", "bad.jsonl", "--out", "x.csv"], "bad.jsonl holds no results"),
        (["export", "part.jsonl", "--out", "x.csv"], "records are missing"),
        (["export", "other.jsonl", "--out", "x.csv"], "record 0 is none of an evaluation's"),
        (["export", "part.jsonl"], "--out"),
        (["compare", "nightly"], "there is no run 'nightly'"),
    ],
)
def test_what_is_not_there_is_2(command: Command, arguments: list[str], text: str) -> None:
    """Each says what is missing."""
    command.write("bad.jsonl", "x\n")
    command.write("other.jsonl", "{}\n")
    command.write("part.jsonl", f"{record(0, 'YES')}\n{record(0, 'YES', 'n')}\n{record(1, 'NO')}\n")
    done = command(*arguments)

    assert done.code == 2
    assert text in done.err


def test_answers_of_two_files_are_compared_row_by_row(command: Command) -> None:
    """The answers are a column of the rows, and tell no row from another."""
    for name in ("a", "b"):
        command.write(f"{name}.csv", f"question,answer\nWhy?,{name} so\nWho?,{name} he\n")
        rate = ("rate", f"{name}.csv", "--response-column", "answer", *CRITERIA)
        assert command(*rate, "--out", f"{name}.jsonl").code == 0

    for names in (("a", "b"), ("a.jsonl", "b.jsonl")):
        found = json.loads(command("compare", *names, "--json").out)
        assert (found["overall"]["n"], found["overall"]["unpaired"]) == (2, 0)
