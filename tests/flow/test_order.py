"""Every position ends with its own outcome."""

from __future__ import annotations

import random

import anyio
import pytest

from elluminate_async import (
    Batch,
    BatchOptions,
    GenerationError,
    InputError,
    ItemError,
    PromptResponse,
    RatingMode,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Stage
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]
PROFILES = [
    pytest.param(WireProfile(), id="keys-and-results"),
    pytest.param(WireProfile.hosted(page_size=7, listing_seed=5), id="hosted-shuffled-7-a-page"),
]


@pytest.mark.unmeasured
@pytest.mark.parametrize("profile", PROFILES)
async def test_many_items_keep_their_positions(staging: Staging, profile: WireProfile) -> None:
    """400 variables with duplicates, every 50th failing: each outcome echoes its own input."""
    values = [f"v{i}" for i in range(320)] + [f"v{i}" for i in range(0, 160, 2)]
    random.Random(1).shuffle(values)
    failing = {f"say {value}" for value in values[::50]}
    async with staging(profile, BatchOptions(chunk_size=20)) as stage:
        stage.model.failing = failing.__contains__

        responses = await stage.generate(values)
        ratings = await stage.client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)

    assert len(responses) == len(ratings) == 400
    ids: set[int] = set()
    for position, value in enumerate(values):
        outcome = responses.outcomes[position]
        if f"say {value}" in failing:
            assert isinstance(outcome, GenerationError)
            assert outcome.position == position
            assert outcome.text.endswith(f"no answer to say {value}")
            assert ratings.failed[position] is outcome
        else:
            assert isinstance(outcome, PromptResponse)
            assert outcome.response_str == f"echo say {value}"
            ids.add(outcome.id)
            assert len(ratings[position]) == 3
    assert len(ids) == len(responses.succeeded)
    rating_ids = [rating.id for found in ratings.succeeded.values() for rating in found]
    assert len(set(rating_ids)) == len(rating_ids)


async def test_rows_from_before_are_not_matched(hosted: Stage) -> None:
    """On a service without results, rows of an earlier run of the experiment stay out."""
    first = await hosted.generate(["a", "b", "c"])
    second = await hosted.generate(["c", "a"])

    assert [r.response_str for r in second] == ["echo say c", "echo say a"]
    assert {r.id for r in first}.isdisjoint({r.id for r in second})


async def test_two_batches_on_one_experiment_do_not_mix(hosted: Stage) -> None:
    """Concurrent batches with other inputs each get their own rows."""
    results: dict[str, list[str]] = {}

    async def run(name: str) -> None:
        batch = await hosted.generate([f"{name}{i}" for i in range(25)])
        results[name] = [r.response_str for r in batch]

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            tasks.start_soon(run, name)

    assert results == {name: [f"echo say {name}{i}" for i in range(25)] for name in "ab"}


async def test_a_collection_can_stand_for_its_rows(stage: Stage) -> None:
    """`collection=` generates for all rows, in their order."""
    await stage.variables(["c", "a", "b"])

    responses = await stage.client.responses.generate_many(
        collection=stage.collection, experiment=stage.experiment
    )
    streamed = {
        position: outcome
        async for position, outcome in stage.client.responses.stream_generate_many(
            collection=stage.collection.id, experiment=stage.experiment.id
        )
    }

    assert [r.response_str for r in responses] == ["echo say c", "echo say a", "echo say b"]
    ordered = Batch(streamed[position] for position in range(3))
    assert [r.response_str for r in ordered] == [r.response_str for r in responses]


async def test_failed_rows_travel_from_the_upload_on(stage: Stage) -> None:
    """A batch with a failed position keeps position and error through generate and rate."""
    good = await stage.variables(["a", "b"])
    error = ItemError("no row", position=1, code="no_result", operation="add")
    responses = await stage.client.responses.generate_many(
        template_variables=Batch([good[0], error, good[1]]), experiment=stage.experiment
    )
    ratings = await stage.client.ratings.rate_many(responses)

    assert responses.failed[1] is ratings.failed[1] is error
    assert [len(found) for found in ratings.succeeded.values()] == [3, 3]


async def test_stored_responses_keep_their_positions(stage: Stage) -> None:
    """`add_many` stores what was made elsewhere; each row echoes its own text."""
    values = [f"v{i % 6}" for i in range(25)]
    variables = await stage.variables(values)
    texts = [f"made elsewhere {i}" for i in range(25)]

    stored = await stage.client.responses.add_many(
        texts, template_variables=variables, experiment=stage.experiment
    )

    assert [r.response_str for r in stored] == texts
    assert stage.model.answered.total() == 0
    assert len({(r.prompt.template_variables.id, r.epoch) for r in stored}) == 25


async def test_same_inputs_at_once_on_one_experiment_do_not_swap(hosted: Stage) -> None:
    """Two batches over the same rows of one experiment get different rows, each its own."""
    variables = await hosted.variables(VALUES)
    batches: list[Batch[PromptResponse]] = []

    async def run() -> None:
        batches.append(
            await hosted.client.responses.generate_many(
                template_variables=variables, experiment=hosted.experiment
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)

    ids = [{response.id for response in batch} for batch in batches]
    assert ids[0].isdisjoint(ids[1])
    assert [len(found) for found in ids] == [10, 10]


async def test_a_value_repeated_across_uploads_keeps_its_row(staging: Staging) -> None:
    """A value of an earlier upload of the same call gives that one row again."""
    async with staging() as stage:
        await stage.variables(["v0"])
        values = [f"v{i}" for i in range(2100)] + ["v1500"]
        rows = await stage.variables(values)

    assert rows[2100].id == rows[1500].id


@pytest.mark.parametrize("profile", PROFILES)
async def test_responses_are_stored_as_the_epoch_that_is_named(
    staging: Staging, profile: WireProfile
) -> None:
    """Whatever epochs there are already; a row that comes twice would have two of them."""
    async with staging(profile, BatchOptions(chunk_size=2)) as stage:
        rows = list(await stage.variables(VALUES[:3]))
        of = stage.client.responses
        for epoch in (1, 5, 2, 5):
            texts = [f"{epoch} {value}" for value in VALUES[:3]]
            batch = await of.add_many(
                texts, template_variables=rows, experiment=stage.experiment, epoch=epoch
            )
            assert [(one.response_str, one.epoch) for one in batch] == [(t, epoch) for t in texts]
        assert len(await of.list(experiment=stage.experiment, epoch=5)) == 6

        with pytest.raises(InputError, match=r"template_variables\[1\] has come before"):
            await of.add_many(
                ["a", "b"],
                template_variables=[rows[0], rows[0]],
                experiment=stage.experiment,
                epoch=1,
            )
