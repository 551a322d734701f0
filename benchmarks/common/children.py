"""Child processes that take one JSON line and answer with one, each on its own core."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CLIENT_CORE, SERVER_CORE = 0, 1
"""Which core the client has, and which its server and link; one core alone is shared."""

ROOT = Path(__file__).parents[2]
_LONGEST_LINE = 64 << 20


class Child:
    """A program that answers each line of JSON with a line of JSON, until its input ends.

    Its first line, unasked, is what it is ready with.

    Args:
        program: The script and its arguments.
        core: Which core it may use; None for any.
        python: Another environment's interpreter.
        environment: Variables that it has besides.

    Attributes:
        ready: What it was ready with.
    """

    def __init__(
        self,
        *program: object,
        core: int | None = CLIENT_CORE,
        python: str | os.PathLike[str] = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [str(python or sys.executable), *map(str, program)]
        self._core = core
        self._environment = environment or {}
        self.ready: Any = None

    async def __aenter__(self) -> Self:
        # Nothing of the surroundings: proxies, keys and tracing would change what is measured.
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment
            | {"LANGSMITH_TRACING": "false", "LOGURU_LEVEL": "WARNING", "TQDM_DISABLE": "1"}
            | {**self._environment},
            limit=_LONGEST_LINE,
        )
        if self._core is not None:
            pin(self._core, self._process.pid)
        self.ready = await self._read()
        return self

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process itself."""
        return self._process

    async def ask(self, **request: Any) -> Any:
        """What it answers.

        Raises:
            RuntimeError: It ended instead; what it said is on the standard error.
        """
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        await stdin.drain()
        return await self._read()

    async def _read(self) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        line = await stdout.readline()
        if not line:
            code = await self._process.wait()
            raise RuntimeError(f"{self._command[1]} ended with {code} and gave no answer")
        return json.loads(line)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def pin(core: int, pid: int = 0) -> None:
    """Keep a process (this one: 0) on one core, where there are several."""
    allowed = sorted(os.sched_getaffinity(0) | {CLIENT_CORE, SERVER_CORE})
    if (os.cpu_count() or 1) > 1 and core in allowed:
        os.sched_setaffinity(pid, {core})
