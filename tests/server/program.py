"""``elluminate-async serve`` as a real process, and commands beside it within the test's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from elluminate_async.cli import main

if TYPE_CHECKING:
    from collections.abc import Generator

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Program:
    """A running server.

    Attributes:
        lines: What it printed until it was listening.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list[str])

    @property
    def url(self) -> str:
        return self.lines[-1].removeprefix("Listening on ")

    @property
    def key(self) -> str:
        return self.lines[0].removeprefix("API key: ").removesuffix(" (shown once)")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, number: signal.Signals = signal.SIGTERM, *, within: float = 60) -> int:
        """Signal it and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "elluminate_async", "serve", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


@contextmanager
def serving(*options: str) -> Generator[Program, None, None]:
    """Start a server on a free port and wait until it listens."""
    with subprocess.Popen(
        command("--port", "0", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        program = Program(process)
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                program.lines.append(line.rstrip())
                if line.startswith("Listening on "):
                    break
            else:
                raise AssertionError(process.stderr.read())
            yield program
        finally:
            if process.poll() is None:
                process.kill()


@dataclass
class Done:
    """What a command printed, and its exit code."""

    code: object
    out: str
    err: str


def run(*arguments: str | Path) -> Done:
    """A command, in this process: it is another than the server's where there is one."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["elluminate-async", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def complaint(*arguments: str | Path) -> str:
    """The line on stderr when it does not."""
    done = run(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    return done.err
