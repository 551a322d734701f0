"""Holes in the journal that a review found: each stays shut."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from elluminate_async import BatchOptions
from tests.flow.conftest import Staging

VALUES = [f"v{i}" for i in range(10)]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=1, settle=0.4)


@pytest.mark.parametrize("sync", [1, 2, 3, 4, 5])
async def test_a_cancellation_never_leaves_the_journal_locked(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: int
) -> None:
    """Cancelled while a thread opens or syncs the file: it is closed, and can be used at once."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        loop, real, syncs = asyncio.get_running_loop(), os.fsync, 0

        async def call() -> object:
            return await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment, journal=tmp_path / "run"
            )

        def cancelling(descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            if syncs == sync:
                loop.call_soon_threadsafe(task.cancel)
                time.sleep(0.05)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", cancelling)
        task = asyncio.create_task(call())
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        await call()

        # The header and its folder, two intents, the end.
        assert syncs >= sync
        assert set(stage.model.answered.values()) == {1}
