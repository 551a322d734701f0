"""Clients of one share, as the server sees them, and what becomes of calls that wait for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async import AsyncClient, BatchOptions, ConfigurationError, RateLimit
from elluminate_async.batch.share import Reservation
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Stage, is_batch
from tests.flow.conftest import Staging
from tests.limits.shares import MemoryShare

VALUES = [f"v{i}" for i in range(60)]
ECHOES = [f"echo say {value}" for value in VALUES]
LIMIT, ITEMS = RateLimit(20, 2.0), RateLimit(100, 5.0)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def most_in_a_window(times: list[float], period: float) -> int:
    return max(sum(start <= at < start + period for at in times) for start in times)


async def test_clients_of_a_share_are_one_to_the_server(staging: Staging) -> None:
    """Four of them: requests and items are inside both limits, in chunks of a 20th of the items."""
    options = BatchOptions(rate_limit=LIMIT, item_limit=ITEMS, share=MemoryShare())
    async with staging(options=options) as stage:
        rows = await stage.variables(VALUES[:30])
        stage.recorder.requests.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(generated, stage, rows, options)
        sent = stage.recorder.requests

    # The way to the server is longer for some than for others.
    assert most_in_a_window([seen.at for seen in sent], 0.99 * LIMIT.period) <= LIMIT.requests
    chunks = [seen.at for seen in sent if is_batch(seen)]
    assert len(chunks) == 4 * len(rows) / 5
    assert most_in_a_window(chunks, 0.99 * ITEMS.period) * 5 <= ITEMS.requests


async def generated(stage: Stage, rows: Any, options: BatchOptions) -> None:
    """By a client of its own."""
    server = stage.server
    async with AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client:
        assert await echoes(client, stage, rows) == ECHOES[: len(rows)]


async def echoes(client: AsyncClient, stage: Stage, rows: Any, **arguments: Any) -> list[str]:
    batch = await client.responses.generate_many(
        template_variables=rows, experiment=stage.experiment, **arguments
    )
    return [one.response_str for one in batch.succeeded.values()]


@pytest.mark.parametrize("limit", [{"rate_limit": LIMIT}, {"item_limit": ITEMS}])
async def test_a_share_that_is_away_is_waited_for_until_the_deadline(
    staging: Staging, tmp_path: Path, limit: dict[str, Any]
) -> None:
    """Then nothing was sent, and the journal knows that: the next call sends all of it, once."""
    share = MemoryShare()
    options = BatchOptions(share=share, deadline=30, chunk_size=10, **limit)
    async with staging(options=options) as stage:
        rows = await stage.variables(VALUES)
        share.away_until, began = time.monotonic() + 100, time.monotonic()
        assert await echoes(stage.client, stage, rows, journal=tmp_path / "run") == []
        assert time.monotonic() - began == pytest.approx(30, abs=1)

        await anyio.sleep(share.away_until - time.monotonic())
        assert await echoes(stage.client, stage, rows, journal=tmp_path / "run") == ECHOES
        assert set(stage.model.answered.values()) == {1}
    assert share.closed == 1


class WrongShare(MemoryShare):
    """One that can never be used."""

    async def reserve(self, *_: Any, **__: Any) -> Reservation:
        raise ConfigurationError("this is no share")


async def test_a_share_that_is_none_ends_the_call(staging: Staging) -> None:
    """Once it is known, and not item by item."""
    async with staging(options=BatchOptions()) as stage:
        options = BatchOptions(rate_limit=LIMIT, share=WrongShare())
        server = stage.server
        with pytest.raises(ConfigurationError, match="this is no share"):
            async with AsyncClient(base_url=server.url, api_key=server.api_key, options=options):
                raise AssertionError


async def test_a_share_is_the_clients(staging: Staging) -> None:
    """A call may repeat it, and has no other one; what is none is refused at once."""
    share = MemoryShare()
    options = BatchOptions(rate_limit=LIMIT, share=share)
    with pytest.raises(ConfigurationError, match=r"BatchOptions\.share must be a share, such as"):
        options.replace(share="limits.share")  # type: ignore[arg-type]
    async with staging(options=options) as stage:
        await stage.generate(VALUES[:1], options=options.replace(rate_limit=RateLimit(5)))
        await stage.generate(VALUES[:1], options=BatchOptions())
        other = options.replace(share=MemoryShare())
        with pytest.raises(ConfigurationError, match=r"BatchOptions\.share is one of the client"):
            await stage.generate(VALUES[:1], options=other)
        with pytest.raises(ConfigurationError, match=r"BatchOptions\.share is one of the client"):
            await stage.client.responses.generate(template_variables=1, experiment=1, options=other)
