"""Ctrl-C at any moment: the run ends in order, and goes on to the same result."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import Response

from tests.cli.command import CRITERIA, PROMPT, endpoint, spawn
from tests.server.endpoint import Endpoint, completion

ROWS = 30


class Asked:
    """Counts the endpoint's calls by prompt, and signals a process at one of them."""

    def __init__(self, model: Endpoint) -> None:
        self.url = model.url
        self.calls = Counter[str]()
        self.process: subprocess.Popen[str] | None = None
        self.at = 0
        model.reply = self.reply

    def reply(self, body: dict[str, Any]) -> Response:
        """Count, signal, answer."""
        text = str(body["messages"][-1]["content"])
        self.calls[text] += 1
        if self.calls.total() == self.at:
            assert self.process is not None
            self.process.send_signal(signal.SIGINT)
        return completion(f"An answer to: {text}")


def run(folder: Path, asked: Asked, *given: str, at: int = 0) -> tuple[int, str, str]:
    """Run a command to its end, interrupted at a call; its code, output and errors."""
    asked.at = at
    asked.process = spawn(folder, "run", *given, "--json")
    out, err = asked.process.communicate(timeout=60)
    return asked.process.returncode, out, err


def begin(folder: Path, asked: Asked, at: int = 0) -> tuple[int, str, str]:
    """Begin a run of some rows."""
    folder.mkdir()
    rows = "".join(f"question {number}\n" for number in range(ROWS))
    (folder / "rows.csv").write_text(f"question\n{rows}")
    llm = ("--llm-base-url", asked.url, "--llm-model", "m", "--judge-model", "offline")
    return run(folder, asked, "rows.csv", *PROMPT, *CRITERIA, *llm, at=at)


def told(folder: Path) -> list[tuple[Any, ...]]:
    """The records without ids and times."""
    lines = (folder / ".elluminate/runs/rows/records.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [
        (one["position"], one["input"], one["response"],
         [(rating["criterion"], rating["rating"]) for rating in one["ratings"]])
        for one in records
    ]  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    """The records of a run that nothing disturbed, and its calls."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    with endpoint() as model:
        asked = Asked(model)
        code, _, err = begin(folder, asked)
    assert code == 0, err
    return told(folder), asked.calls


@pytest.mark.parametrize("seed", range(2))
def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path, plain: tuple[list[tuple[Any, ...]], Counter[str]], seed: int
) -> None:
    """At a random call: 130, the command that resumes, and no call of the model made twice."""
    folder = tmp_path / "run"
    with endpoint() as model:
        asked = Asked(model)
        code, out, err = begin(folder, asked, at=random.Random(seed).randint(1, ROWS))

        assert code == 130, err
        found = json.loads(out)
        assert (found["status"], found["exit_code"]) == ("interrupted", 130)
        assert (found["failed"], found["records"]) == (0, ROWS)
        assert 0 < found["unfinished"] <= ROWS
        assert found["resume"] == "elluminate-async run rows --resume"
        assert f"To go on: {found['resume']}" in err
        assert "Traceback" not in err
        code, _, err = run(folder, asked, "rows", "--resume")

    assert code == 0, err
    assert (told(folder), asked.calls) == plain
    assert asked.calls.total() == ROWS


class _Signalling(list[dict[str, Any]]):
    """Requests, of which each interrupts a process."""

    process: subprocess.Popen[str] | None = None

    def append(self, request: dict[str, Any], /) -> None:
        super().append(request)
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """While the first one's drain waits for a call that does not come back."""
    (tmp_path / "rows.csv").write_text("question\nWhy?\n")
    with endpoint() as model:
        model.holds_after = 0
        model.requests = requests = _Signalling()
        llm = ("--llm-base-url", model.url, "--llm-model", "m")
        requests.process = process = spawn(tmp_path, "run", "rows.csv", *PROMPT, *CRITERIA, *llm)
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("Stopping: "):
                process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert process.returncode == 130
    assert "To go on: elluminate-async run rows --resume\n" in lines
