"""Rating many: whose verdicts they are, and their end when the judge or the job fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.types import Send

from elluminate_async import (
    GenerationError,
    InputError,
    ItemError,
    PromptResponse,
    Rating,
    RatingError,
    RatingMode,
    RatingValue,
)
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, answer


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]


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


@pytest.mark.parametrize("is_async", [False, True])
async def test_pairs_keep_their_positions(stage: Stage, is_async: bool) -> None:
    """Pairs of a position and a response or its error, of any iterable and in any order."""
    responses = await stage.generate(["a", "b", "c"])
    failed = ItemError("not there", position=4, operation="generate")
    pairs: list[tuple[int, PromptResponse | ItemError]] = [
        (7, responses[1]), (4, failed), (0, responses[2])
    ]  # fmt: skip

    async def one_by_one() -> AsyncIterator[tuple[int, PromptResponse | ItemError]]:
        for pair in pairs:
            yield pair

    source = one_by_one() if is_async else pairs
    outcomes = {p: found async for p, found in stage.client.ratings.stream_rate_many(source)}

    assert outcomes.keys() == {0, 4, 7}
    assert outcomes[4] is failed
    for position, response in ((0, responses[2]), (7, responses[1])):
        assert await stage.client.ratings.list(response) == outcomes[position]


async def test_a_batch_takes_no_pairs(stage: Stage) -> None:
    """Its outcome i is of response i: pairs would say another order."""
    responses = await stage.generate(["a", "b"])

    with pytest.raises(InputError):
        await stage.client.ratings.rate_many(pair for pair in [(2, responses[0])])  # type: ignore[misc]


async def test_a_position_that_comes_twice_is_told(stage: Stage) -> None:
    """Of two responses for one place neither is the right one."""
    responses = await stage.generate(["a", "b"])
    pairs = [(0, responses[0]), (0, responses[1])]

    with pytest.raises(InputError, match="the position 0 comes twice"):
        _ = [one async for one in stage.client.ratings.stream_rated_many(iter(pairs))]


async def test_a_response_comes_with_its_ratings(stage: Stage) -> None:
    """Of a stream of generation, where the caller has kept none."""
    variables = await stage.variables([f"v{i}" for i in range(30)])
    stage.model.failing = lambda prompt: prompt == "say v7"
    generated = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )

    found = {one.position: one async for one in stage.client.ratings.stream_rated_many(generated)}

    assert sorted(found) == list(range(30))
    assert found[7].response is found[7].ratings
    del found[7]
    for position, one in found.items():
        assert isinstance(one.response, PromptResponse)
        assert one.response.response_str == f"echo say v{position}"
        assert isinstance(one.ratings, list)
        assert len(one.ratings) == 3


async def test_verdicts_are_members_of_their_enum(stage: Stage) -> None:
    """`rating.rating is RatingValue.YES` can be true."""
    ratings = await stage.client.ratings.rate_many(await stage.generate(["a", "b"]))

    assert {type(rating.rating) for found in ratings for rating in found} == {RatingValue}


async def test_a_peeked_stream_can_still_be_rated(stage: Stage) -> None:
    """What was taken from the stream before is a position of its own, not an assertion."""
    variables = await stage.variables(VALUES)
    stream = stage.client.responses.stream_generate_many(
        template_variables=variables, experiment=stage.experiment
    )
    position, _ = await anext(stream)

    ratings = await stage.client.ratings.rate_many(stream)

    assert len(ratings) == 10
    assert list(ratings.failed) == [position]
    assert isinstance(ratings.failed[position], ItemError)


async def test_a_listing_that_is_refused_after_rating_does_not_rate_again(
    hosted: Stage,
) -> None:
    """404 for the criteria's listing: the ratings that were paid for count, and are paid once."""
    responses = await hosted.generate(VALUES)
    hosted.recorder.requests.clear()

    async def refuse(seen: Seen, send: Send) -> bool:
        if seen.path.endswith("/criteria"):
            await answer(send, 404)
            return True
        return False

    hosted.recorder.before = refuse
    ratings = await hosted.client.ratings.rate_many(responses)

    assert not ratings.failed
    assert hosted.recorder.count("ratings/batches$", "POST") == 1


async def test_what_lacks_a_deleted_criterion_is_not_rated_again(hosted: Stage) -> None:
    """No verdict is to come by it: that is told, and nothing is paid for twice."""
    responses = await hosted.generate(VALUES[:3])
    first, *_ = await hosted.client.criteria.list(hosted.template)
    hosted.recorder.requests.clear()
    deleted = False

    async def delete(seen: Seen, send: Send) -> bool:
        nonlocal deleted
        if not deleted and seen.method == "GET" and "/ratings/batches/" in seen.path:
            deleted = True
            await hosted.client.criteria.delete(first, cascade=True)
        return False

    hosted.recorder.before = delete
    ratings = await hosted.client.ratings.rate_many(responses)

    assert [error.code for error in ratings.failed.values()] == ["incomplete"] * 3
    assert hosted.recorder.count("ratings/batches$", "POST") == 1
