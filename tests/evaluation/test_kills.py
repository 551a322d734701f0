"""An evaluation that is killed with SIGKILL, and called again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async.server import ModelAnswer, ModelRequest
from tests.evaluation.program import ROWS
from tests.evaluation.scene import Scene, evaluating

ROOT = Path(__file__).parents[2]


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


async def run(scene: Scene, calls: Calls, folder: Path, kill_at: int | None) -> int:
    """Run the program once; its exit code."""
    environment = {**os.environ, "ELLUMINATE_API_KEY": scene.server.api_key}
    arguments = [scene.server.url, str(folder / "run.journal"), str(folder / "out.json")]
    calls.process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.evaluation.program", *arguments, cwd=ROOT, env=environment
    )
    calls.kill_at = kill_at
    with anyio.fail_after(120):
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


@pytest.mark.parametrize("seed", range(2))
async def test_a_killed_evaluation_is_taken_up(tmp_path: Path, seed: int) -> None:
    """Killed twice at random calls: the same table as undisturbed, and no model call twice."""
    async with evaluating(tmp_path / "s.db") as scene:
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        calls = Calls(scene)
        plain = tmp_path / "plain"
        plain.mkdir()
        assert await run(scene, calls, plain, None) == 0
        once = dict(calls.calls)
        calls.calls.clear()
        dice = random.Random(seed)
        in_all = sum(once.values())
        first = dice.randrange(1, in_all)

        assert await run(scene, calls, tmp_path, first) == -signal.SIGKILL
        await scene.recorder.quiet()
        done = calls.calls.total()
        if done < in_all:
            await run(scene, calls, tmp_path, dice.randrange(done + 1, in_all + 1))
            await scene.recorder.quiet()
        assert await run(scene, calls, tmp_path, None) == 0

        tables = [json.loads((path / "out.json").read_text()) for path in (plain, tmp_path)]
        assert told(tables[0]) == told(tables[1])
        assert len(tables[0]) == 2 * ROWS
        assert calls.calls == once
        assert in_all == 4 * ROWS
