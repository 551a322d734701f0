"""An evaluation that is killed with SIGKILL, and called again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.killing import kill_and_resume, told
from tests.evaluation.program import ROWS


@pytest.mark.parametrize(("seed", "as_run"), [(0, False), (1, False), (2, True)])
async def test_a_killed_evaluation_is_taken_up(tmp_path: Path, seed: int, as_run: bool) -> None:
    """Killed twice at random calls: the same table as undisturbed, and no model call twice.

    Of a run without any journal, and in other chunks each time.
    """
    taken = await kill_and_resume(tmp_path, seed, as_run=as_run)

    assert taken.kills >= 1
    assert told(taken.table) == told(taken.plain)
    assert len(taken.table) == 2 * ROWS
    assert taken.calls == taken.once
    assert sum(taken.once.values()) == 4 * ROWS
