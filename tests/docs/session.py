"""A reader who does all that a page says, block by block, in a folder of their own."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer
from tests.cli.command import Command, environment
from tests.docs.pages import ROOT, Block, commands_in, dialogue_in, differs

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

PROGRAM = "asyncio.run("
WIDTH = "100"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Session:
    """One page's reader: a folder, a client of an embedded server, and the names so far."""

    def __init__(self, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", WIDTH)
        (folder / "rows.csv").unlink()
        self.folder = folder
        self.names: dict[str, Any] = {}
        self._command = command
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._said, self._code = "", 0

    async def begin(self) -> None:
        """Start what pages take for granted: a server, and ``client``, its client."""
        server = await self._stack.enter_async_context(LocalServer())
        self.names["client"] = await self._stack.enter_async_context(
            AsyncClient(base_url=server.url, api_key=server.api_key)
        )

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Await it in the loop that the page's client belongs to."""

        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())

    def end(self) -> None:
        """Close the client and the server."""
        with self._runner as runner:
            runner.run(self._stack.aclose())

    def do(self, block: Block) -> None:
        """Write the block's file, or run it, or hold the output that it shows against the last."""
        if block.title is not None:
            (self.folder / block.title).write_text(block.code, "utf-8")
        elif action := self._actions().get(block.language):
            action(block.code)

    def _actions(self) -> dict[str, Callable[[str], None]]:
        return {
            "python": self._python,
            "sh": self._commands,
            "bash": self._script,
            "console": self._dialogue,
            "text": self._output,
        }

    def _python(self, code: str) -> None:
        with self._saying():
            if PROGRAM in code:
                exec(compile(code, "<page>", "exec"), {"__name__": "__main__"})
                return
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compiled = cast("CodeType", compile(code, "<page>", "exec", flags=flags))
            if (awaitable := eval(compiled, self.names)) is not None:
                self.wait_for(awaitable)

    def _output(self, shown: str) -> None:
        difference = differs(shown, self._said)
        assert difference is None, difference

    def _commands(self, code: str) -> None:
        for words in commands_in(code):
            self._run(words)

    def _dialogue(self, code: str) -> None:
        for words, shown in dialogue_in(code):
            self._run(words)
            self._output(shown)

    def _script(self, code: str) -> None:
        """A script of its own process, whose `elluminate-async` is the one that is tested."""
        tools = self.folder / ".tools"
        tools.mkdir(exist_ok=True)
        for name, module in (("elluminate-async", " -m elluminate_async"), ("python", "")):
            program = tools / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
            program.chmod(0o755)
        self._said = self._process(["bash", "-euo", "pipefail", "-c", code], tools)

    def _run(self, words: list[str]) -> None:
        match words:
            case ["elluminate-async", *arguments]:
                done = self._command(*arguments)
                assert done.code in (0, 1), done.err
                self._said, self._code = done.out + done.err, done.code
            case ["python", path]:
                with self._saying():
                    runpy.run_path(path, run_name="__main__")
            case ["pytest", *arguments]:
                self._said = self._process([sys.executable, "-m", "pytest", *arguments])
            case ["pip", "install", *packages]:
                named = ",".join(re.findall(r"\[([\w,]+)\]", " ".join(packages)))
                extras = PROJECT["optional-dependencies"]
                assert all(extra in extras for extra in named.split(",") if extra)
            case ["echo", "$?"]:
                self._said = f"{self._code}\n"
            case _:
                raise AssertionError(f"no command that a page may name: {words}")

    def _process(self, words: list[str], tools: Path | None = None) -> str:
        surroundings = environment()
        if tools is not None:
            surroundings["PATH"] = f"{tools}:{surroundings['PATH']}"
        done = subprocess.run(
            words, cwd=self.folder, env=surroundings,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    @contextmanager
    def _saying(self) -> Generator[None]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            yield
        self._said = said.getvalue()
