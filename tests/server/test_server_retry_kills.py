"""A server that is killed while it does again what failed goes on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.retries import AT_ONCE, CALLS, ranges

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_killed_retry_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    """Killed four times under one call of a client; `make soak` does it at every model call."""
    async with ranges(tmp_path) as (kills, client):
        retried = await kills.retried(client, [0, 5, 11, CALLS - 1])

    assert (retried.missing, retried.changed) == (0, 0)
    assert retried.calls - retried.repeated == CALLS
    # Calls in flight at a kill, and no others, are made again.
    assert 4 <= retried.repeated <= 4 * AT_ONCE
