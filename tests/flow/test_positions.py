"""Every position ends with its own outcome."""

from __future__ import annotations

import random

import anyio
import pytest

from elluminate_async import (
    Batch,
    BatchOptions,
    GenerationError,
    ItemError,
    PromptResponse,
    Rating,
    RatingError,
    RatingMode,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Stage
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


PROFILES = [
    pytest.param(WireProfile(), id="keys-and-results"),
    pytest.param(WireProfile.hosted(page_size=7, listing_seed=5), id="hosted-shuffled-7-a-page"),
]


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_thousand_items_keep_their_positions(
    staging: Staging, profile: WireProfile
) -> None:
    """1,000 variables with duplicates, every 50th failing: each outcome echoes its own input."""
    values = [f"v{i}" for i in range(800)] + [f"v{i}" for i in range(0, 400, 2)]
    random.Random(1).shuffle(values)
    failing = {f"say {value}" for value in values[::50]}
    async with staging(profile, BatchOptions(chunk_size=50)) as stage:
        stage.model.failing = failing.__contains__

        responses = await stage.generate(values)
        ratings = await stage.client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)

    assert len(responses) == len(ratings) == 1000
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


async def test_a_failed_judge_is_an_error_never_a_no(stage: Stage) -> None:
    """A response whose judge gives no verdict fails as an item; its neighbours are rated."""
    responses = await stage.generate([f"v{i}" for i in range(12)])
    stage.model.judge_failing = lambda prompt: "echo say v3" in prompt

    ratings = await stage.client.ratings.rate_many(responses)

    assert list(ratings.failed) == [3]
    assert isinstance(ratings.failed[3], RatingError)
    assert ratings.failed[3].response_id == responses[3].id
    with pytest.raises(RatingError, match=r"rate\[3\] rating_failed"):
        ratings[3]


async def test_ratings_are_the_responses_own(stage: Stage) -> None:
    """What `rate_many` gives for a position is what the service lists for that response."""
    responses = await stage.generate([f"v{i}" for i in range(25)])

    ratings = await stage.client.ratings.rate_many(responses, rating_mode=RatingMode.DETAILED)

    for response, found in zip(responses, ratings, strict=True):
        listed = await stage.client.ratings.list(response)
        assert {r.id for r in listed} == {r.id for r in found}
        assert all(r.reasoning for r in found)


async def test_a_response_given_twice_is_rated_once(stage: Stage) -> None:
    """Two positions of one response share one set of ratings, paid for once."""
    a, b = await stage.generate(["a", "b"])

    ratings = await stage.client.ratings.rate_many([a, b, a.id, a])

    assert ratings[0] == ratings[2] == ratings[3]
    assert len(await stage.client.ratings.list(a)) == 3
    assert ratings[1] != ratings[0]


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


async def test_ratings_follow_generation_in_one_pipeline(stage: Stage) -> None:
    """The stream of responses goes straight into the stream of ratings, positions kept."""
    values = [f"v{i}" for i in range(60)]
    variables = await stage.variables(values)
    stage.model.failing = lambda prompt: prompt == "say v7"
    generated = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )

    outcomes: dict[int, list[Rating] | ItemError] = {}
    async with stage.client.ratings.stream_rate_many(generated) as stream:
        async for position, outcome in stream:
            outcomes[position] = outcome

    assert sorted(outcomes) == list(range(60))
    assert isinstance(outcomes.pop(7), GenerationError)
    assert all(isinstance(found, list) and len(found) == 3 for found in outcomes.values())


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
