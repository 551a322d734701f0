"""The command line on a terminal, and under pipes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import CRITERIA, PROMPT, ROWS, arguments, environment, spawn

RUN = ("run", "rows.csv", *PROMPT, *CRITERIA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some rows."""
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path


def on_terminal(folder: Path, *given: str) -> tuple[int, str, str]:
    """Run a command whose standard error is a terminal; its code, output, and what that shows."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        arguments(*given),
        cwd=folder,
        env={**environment(), "TERM": "xterm"},
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the end of a terminal on Linux
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read()
        return process.wait(30), out, shown.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_a_bar_and_standard_output_one_document(folder: Path) -> None:
    """All for people is on the terminal, drawn in place; the pipe beside it has JSON alone."""
    code, out, shown = on_terminal(folder, *RUN, "--json")

    assert code == 0, shown
    assert json.loads(out)["status"] == "passed"
    assert "\x1b[" in shown
    assert "━" in shown
    assert "3/3" in shown
    assert "all criteria" in shown


def test_a_pipe_gets_plain_lines(folder: Path) -> None:
    """No escape sequences, a line for the progress, and nothing on standard output."""
    out, err = spawn(folder, *RUN).communicate(timeout=60)

    assert out == ""
    assert "\x1b" not in err
    assert "evaluating  3 of 3 items, " in err
    assert ", in " in err.split("3 of 3 items, ")[1].splitlines()[0]


def test_standard_input_is_kept_for_a_resume(folder: Path) -> None:
    """It cannot be read twice, so that the run has its rows."""
    process = subprocess.Popen(
        arguments("run", "-", "--prompt", "{{q}}", "--criteria", "x", "--json", "--quiet"),
        cwd=folder, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = process.communicate('{"q": "Why?"}\n{"q": "How?"}\n', timeout=60)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["name"], found["records"]) == ("stdin", 2)

    kept = (folder / ".elluminate/runs/stdin/rows.jsonl").read_text("utf-8")

    assert [json.loads(line) for line in kept.splitlines()] == [{"q": "Why?"}, {"q": "How?"}]
    assert '"-"' not in (folder / ".elluminate/runs/stdin/run.json").read_text("utf-8")
