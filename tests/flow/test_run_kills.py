"""A process of a run is killed with SIGKILL, and others of the run do the rest."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from elluminate_async import BatchOptions
from tests.flow.bench import Stage
from tests.flow.conftest import Staging
from tests.flow.run_program import ROWS
from tests.matrix import Fired

ROOT = Path(__file__).parents[2]


class Killer:
    """Counts model calls, and kills a process at one of them."""

    def __init__(self, stage: Stage) -> None:
        self.judged = Counter[str]()
        self.kill_at = 0
        self.process: asyncio.subprocess.Process | None = None
        self._model = stage.model
        stage.model.delay = 0.01
        stage.model.noticed = self._look
        stage.model.judge_failing = self._judging

    def _judging(self, prompt: str) -> bool:
        self.judged[prompt] += 1
        self._look()
        return False

    def _look(self) -> None:
        calls = self._model.answered.total() + self.judged.total()
        if self.kill_at and calls >= self.kill_at:
            self.kill_at = 0
            assert self.process is not None
            self.process.send_signal(signal.SIGKILL)

    async def run(self, stage: Stage, first: int, chunk_size: int, out: Path, kill_at: int) -> int:
        """Run the program, killed at that model call if it is any; its exit code."""
        numbers = map(str, (stage.experiment.id, first, chunk_size))
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.flow.run_program"),
            *(stage.server.url, *numbers, str(out)),
            cwd=ROOT,
            env={**os.environ, "ELLUMINATE_API_KEY": stage.server.api_key},
        )
        self.kill_at = kill_at
        with anyio.fail_after(60):
            return await self.process.wait()


@pytest.mark.row(86)
async def test_a_killed_run_is_gone_on_with_without_a_journal(
    staging: Staging, tmp_path: Path, fired: Fired
) -> None:
    """Killed while it generates and while it rates, each time another process does the same.

    That has other chunks, and what the killed one had asked for is not asked for again.
    """
    async with staging(None, BatchOptions(chunk_size=100)) as stage:
        rows = await stage.variables([f"v{i}" for i in range(ROWS)])
        killer = Killer(stage)
        plans = ((8, ROWS // 3), (5, ROWS + ROWS // 3), (7, 0))
        codes = [
            await killer.run(stage, rows[0].id, chunk_size, tmp_path / "out", kill_at)
            for chunk_size, kill_at in plans
        ]
        table = json.loads((tmp_path / "out").read_text())

    fired(times=codes.count(-signal.SIGKILL))
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert [text for _, text, _ in table] == [f"echo say v{i}" for i in range(ROWS)]
    assert len({id for id, _, _ in table}) == ROWS
    assert all(len(ratings) == 3 for _, _, ratings in table)
    assert stage.model.answered == {f"say v{i}": 1 for i in range(ROWS)}
    assert len(killer.judged) >= ROWS
    assert set(killer.judged.values()) == {1}
