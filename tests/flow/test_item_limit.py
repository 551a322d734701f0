"""A limit on items, over real sockets: what the server gets to see of it."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from elluminate_async import BatchOptions, RateLimit
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, is_batch
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(60)]


def is_chunk(seen: Seen) -> bool:
    return is_batch(seen) or is_batch(seen, "ratings")


def most_chunks(stage: Stage, period: float) -> int:
    """Most chunks, of generation and rating, that came within ``period`` seconds."""
    times = [seen.at for seen in stage.recorder.requests if is_chunk(seen)]
    return max(sum(start <= at < start + period for at in times) for start in times)


async def test_items_of_generating_and_rating_count_together(staging: Staging) -> None:
    """40 items in any half second, chunks of 10: four chunks, and one more for jitter."""
    options = BatchOptions(chunk_size=10, item_limit=RateLimit(40, 0.5))
    async with staging(options=options) as stage:
        responses = await stage.generate(VALUES)
        ratings = await stage.client.ratings.rate_many(responses)

        assert not ratings.failed
        times = [seen.at for seen in stage.recorder.requests if is_chunk(seen)]
        assert len(times) == 12
        assert most_chunks(stage, 0.5) <= 5
        assert times[-1] - times[0] >= 0.9 * (12 - 1) * 10 / 40 * 0.5


async def test_no_chunk_has_more_items_than_the_limit(staging: Staging) -> None:
    """60 items at most 7 at a time are nine chunks, though ``chunk_size`` is 50."""
    async with staging() as stage:
        variables = await stage.variables(VALUES)
        responses = await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=stage.client.options.replace(item_limit=RateLimit(7, 0.1)),
        )

        assert not responses.failed
        assert stage.recorder.count("responses/batches$", "POST") == 9


async def test_what_is_uploaded_does_not_count(staging: Staging) -> None:
    """Rows and ready-made responses call no model: at one item an hour they still go."""
    async with staging(options=BatchOptions(item_limit=RateLimit(1, 3600.0))) as stage:
        variables = await stage.variables(VALUES)
        added = await stage.client.responses.add_many(
            VALUES, template_variables=variables, experiment=stage.experiment
        )

        assert not added.failed


async def test_what_is_asked_for_singly_counts_too(staging: Staging) -> None:
    """Three generated and three rated at two a second; what is stored singly does not count."""
    async with staging(options=BatchOptions(item_limit=RateLimit(2, 1.0))) as stage:
        client = stage.client
        rows = list(await stage.variables(VALUES[:3]))
        stage.recorder.requests.clear()

        async with anyio.create_task_group() as tasks:
            for row in rows:
                given = {"template_variables": row, "experiment": stage.experiment}
                tasks.start_soon(partial(client.responses.generate, **given))
        made = await client.responses.list(experiment=stage.experiment)
        async with anyio.create_task_group() as tasks:
            for response in made:
                tasks.start_soon(client.ratings.rate, response)

        counted = ("/responses/generate", "/ratings")
        times = [
            seen.at
            for seen in stage.recorder.requests
            if seen.method == "POST" and seen.path.endswith(counted)
        ]
        assert len(times) == 6
        assert all(later - earlier >= 0.9 for earlier, later in zip(times, times[2:], strict=False))

    async with staging(options=BatchOptions(item_limit=RateLimit(1, 3600.0))) as stage:
        for row in await stage.variables(VALUES[:3]):
            await stage.client.responses.add(
                "a", template_variables=row, experiment=stage.experiment
            )


async def test_the_deadline_passes_while_waiting_for_the_limit(staging: Staging) -> None:
    """What was sent is done, the rest was never sent and says so."""
    options = BatchOptions(chunk_size=10, item_limit=RateLimit(20, 3600.0), deadline=3.0)
    async with staging(options=options) as stage:
        responses = await stage.generate(VALUES)

        assert stage.recorder.count("responses/batches$", "POST") == len(responses.succeeded) // 10
        assert {error.code for error in responses.failed.values()} == {"deadline"}
        assert {error.attempts for error in responses.failed.values()} == {0}
