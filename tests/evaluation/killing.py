"""An evaluation in a process of its own, which is killed at chosen model calls and called again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from elluminate_async.server import ModelAnswer, ModelRequest
from tests.evaluation.scene import Scene, evaluating

ROOT = Path(__file__).parents[2]
SECONDS = 120


class Calls:
    """Counts all model calls, the judge's too, and kills a process at one of them."""

    def __init__(self, scene: Scene) -> None:
        self.calls = Counter[str]()
        self.kill_at: int | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._complete = scene.model.complete
        scene.model.complete = self.complete

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Count, kill, answer."""
        texts = " ".join(str(message["content"]) for message in request.messages)
        word = next((part for part in texts.split() if part.startswith("word")), "")
        config = request.sampling and request.sampling.llm_model_name
        self.calls[f"{request.purpose} {word} {config}"] += 1
        if self.kill_at is not None and self.calls.total() >= self.kill_at:
            self.kill_at = None
            assert self.process is not None
            self.process.send_signal(signal.SIGKILL)
        return await self._complete(request)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an evaluation that was killed and called again.

    Attributes:
        kills: Runs that were killed.
        once, calls: Model calls of the undisturbed evaluation, and of all runs of this one.
        plain, table: The two tables.
    """

    kills: int
    once: dict[str, int]
    calls: dict[str, int]
    plain: list[dict[str, Any]]
    table: list[dict[str, Any]]

    @property
    def repeated(self) -> int:
        """Model calls beyond those of the undisturbed evaluation."""
        return sum((Counter(self.calls) - Counter(self.once)).values())

    @property
    def missing(self) -> int:
        """Model calls of the undisturbed evaluation that were not made."""
        return sum((Counter(self.once) - Counter(self.calls)).values())

    @property
    def differing(self) -> int:
        """Records that are not those of the undisturbed evaluation."""
        pairs = zip(told(self.plain), told(self.table), strict=False)
        return sum(one != other for one, other in pairs) + abs(len(self.plain) - len(self.table))

    @property
    def clean(self) -> bool:
        """Whether the table is the same and each call was made as often as undisturbed."""
        return not (self.repeated or self.missing or self.differing)


async def kill_and_resume(folder: Path, seed: int, *, as_run: bool = False) -> Taken:
    """Evaluate undisturbed; then kill the same at up to two calls of a seed, and let it end.

    With a journal; or ``as_run``, without one, each time in other chunks.
    """
    async with evaluating(folder / "s.db") as scene:
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        calls = Calls(scene)
        plain = folder / "plain"
        plain.mkdir()
        program = _Program(scene, calls, as_run=as_run)
        assert await program.run(plain, None) == 0
        once = dict(calls.calls)
        calls.calls.clear()
        dice = random.Random(seed)
        in_all = sum(once.values())

        codes = [await program.run(folder, dice.randrange(1, in_all))]
        await scene.recorder.quiet()
        done = calls.calls.total()
        if done < in_all:
            codes.append(await program.run(folder, dice.randrange(done + 1, in_all + 1)))
            await scene.recorder.quiet()
        assert await program.run(folder, None) == 0
        plain_table, table = (
            json.loads((path / "out.json").read_text()) for path in (plain, folder)
        )
        return Taken(codes.count(-signal.SIGKILL), once, dict(calls.calls), plain_table, table)


class _Program:
    """The program that is killed."""

    def __init__(self, scene: Scene, calls: Calls, *, as_run: bool) -> None:
        self._scene = scene
        self._calls = calls
        self._as_run = as_run
        self._chunk_size = 3

    async def run(self, folder: Path, kill_at: int | None) -> int:
        """Run it once; its exit code."""
        server, calls = self._scene.server, self._calls
        kept = f"run:{folder.name}" if self._as_run else str(folder / "run.journal")
        arguments = [server.url, kept, str(self._chunk_size), str(folder / "out.json")]
        if self._as_run:
            self._chunk_size += 1
        calls.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.evaluation.program", *arguments),
            cwd=ROOT,
            env={**os.environ, "ELLUMINATE_API_KEY": server.api_key},
        )
        calls.kill_at = kill_at
        with anyio.fail_after(SECONDS):
            return await calls.process.wait()


def told(table: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What does not depend on ids and times."""
    return [
        (
            record["position"],
            record["config"],
            record["input"],
            record["response"],
            [(rating["criterion"], rating["rating"]) for rating in record["ratings"]],
        )
        for record in table
    ]
