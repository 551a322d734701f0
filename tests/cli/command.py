"""The command line, within the test's process and as one of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elluminate_async.cli import main
from tests.server.endpoint import Endpoint, Reply, running_endpoint

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).parents[2]
ROWS = 'question,answer\nWhat is 1 + 1?,2\n"Red, or blue?",Blue\nWer war Gauß?,"Ein\nRechner"\n'
PROMPT = ("--prompt", "Answer briefly: {{question}}")
CRITERIA = ("--criteria", "Is it right?", "--criteria", "Is it short?")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


class Command:
    """Runs commands within this process, in a folder of their own."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(folder)
        for name in list(os.environ):
            if name.startswith("ELLUMINATE_") or name in ("LLM_API_KEY", "OPENAI_API_KEY"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("COLUMNS", "120")
        self.write("rows.csv", ROWS)

    def write(self, name: str, content: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        return path

    def __call__(self, *arguments: str) -> Done:
        """Run one, from its arguments to its exit code."""
        self._monkeypatch.setattr(sys, "argv", ["elluminate-async", *arguments])
        self._capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        said = self._capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, said.out, said.err)


def environment() -> dict[str, str]:
    """That of a process of its own, which finds this code."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ELLUMINATE_", "PYTEST_"))}
    # No vocabulary, whatever tiktoken has on this machine.
    own = {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "TIKTOKEN_CACHE_DIR": ""}
    return {**kept, **own}


def arguments(*given: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-W", "error", "-m", "elluminate_async", *given]


def spawn(folder: Path, *given: str) -> subprocess.Popen[str]:
    """A process of its own, under pipes."""
    return subprocess.Popen(
        arguments(*given),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def endpoint(reply: Reply | None = None) -> Generator[Endpoint]:
    """A model's endpoint in a thread, for a command that has a loop of its own."""
    started, ended = threading.Event(), threading.Event()
    made: list[Endpoint] = []

    async def serve() -> None:
        async with running_endpoint() as one:
            if reply is not None:
                one.reply = reply
            made.append(one)
            started.set()
            await asyncio.to_thread(ended.wait)
            # What it holds back would keep it from ending.
            one.released.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield made[0]
    finally:
        ended.set()
        thread.join()
