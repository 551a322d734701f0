"""`Batch.retry_failed` down a chain: what was repaired upstream is sent, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from elluminate_async import (
    Batch,
    BatchOptions,
    ClientClosedError,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    TemplateVariables,
)
from elluminate_async.server import ModelAnswer, ModelRequest, OfflineModel
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Stage
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(100)]
ECHOES = [f"echo say {value}" for value in VALUES]
BAD = [f"v{i}" for i in range(5, 100, 10)]
OPTIONS = BatchOptions(chunk_size=10, max_attempts=1, retry_for=0)


def fails(*values: str) -> Callable[[str], bool]:
    prompts = {f"say {value}" for value in values}
    return prompts.__contains__


class CountingJudge:
    """Judges offline, and counts its calls: one a response, for all its criteria."""

    def __init__(self, stage: Stage) -> None:
        self.calls = 0
        self._offline = OfflineModel()
        stage.model._judge = self  # type: ignore[assignment]

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """The verdicts on one response."""
        self.calls += 1
        return await self._offline.complete(request)


async def test_ratings_follow_what_was_repaired(staging: Staging) -> None:
    """90 of 100 are rated, then the ten that were generated since: 100 calls of the judge."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        stage.model.failing = fails(*BAD)
        responses = await stage.generate(VALUES)
        ratings = await stage.client.ratings.rate_many(responses)
        assert judge.calls == 90
        before = dict(ratings.succeeded)

        await ratings.retry_failed()
        assert judge.calls == 90

        stage.model.failing = fails()
        await responses.retry_failed()
        assert await ratings.retry_failed() is ratings

        assert judge.calls == 100
        assert not ratings.failed
        assert all(ratings[position] is value for position, value in before.items())
        rows = await stage.client.responses.list(experiment=stage.experiment)
        rated = {row.id: {rating.id for rating in row.ratings} for row in rows}
        for response, its in zip(responses, ratings, strict=True):
            assert rated[response.id] == {rating.id for rating in its}
        assert judge.calls == 100


async def test_what_fails_upstream_again_is_told_downstream(staging: Staging) -> None:
    """The ratings hold the very error that the responses hold now; the others are rated."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        stage.model.failing = fails("v1", "v2", "v3")
        responses = await stage.generate(VALUES[:10])
        ratings = await stage.client.ratings.rate_many(responses)
        first = dict(ratings.failed)
        stage.model.failing = fails("v2")
        await responses.retry_failed()
        await ratings.retry_failed()

        assert list(ratings.failed) == [2]
        assert ratings.failed[2] is responses.failed[2]
        assert ratings.failed[2] is not first[2]
        assert judge.calls == 9
        stage.model.failing = fails()
        await responses.retry_failed()
        await ratings.retry_failed()
        assert not ratings.failed
        assert judge.calls == 10


async def test_what_was_repaired_and_then_failed_is_its_own(staging: Staging) -> None:
    """The judge refuses a repaired response: it is sent again by the next retry, alone."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        stage.model.failing = fails("v4")
        responses = await stage.generate(VALUES[:10])
        ratings = await stage.client.ratings.rate_many(responses)
        stage.model.failing = fails()
        await responses.retry_failed()
        stage.model.judge_failing = lambda prompt: True
        await ratings.retry_failed()
        assert ratings.failed[4].operation == "rate"
        assert judge.calls == 9
        stage.model.judge_failing = lambda prompt: False

        await ratings.retry_failed()

        assert not ratings.failed
        assert judge.calls == 10


async def test_an_unknown_outcome_upstream_is_repaired_too(staging: Staging) -> None:
    """What the responses got to know under their keys is rated, without a further word."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        stage.recorder.after = Once(502)
        responses = await stage.generate(VALUES[:20])
        ratings = await stage.client.ratings.rate_many(responses)
        assert len(ratings.failed) == 10
        assert isinstance(next(iter(ratings.failed.values())), OutcomeUnknownError)
        await responses.retry_failed()

        await ratings.retry_failed(include_unknown=False)

        assert not ratings.failed
        assert judge.calls == 20
        assert set(stage.model.answered.values()) == {1}


@pytest.mark.parametrize("duplicates", [False, True], ids=["once", "twice"])
async def test_a_whole_chain_is_repaired(staging: Staging, duplicates: bool) -> None:
    """Rows, responses and ratings, each by its own retry, each item once; equal rows too."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        values = VALUES[:6] + (VALUES[:6] if duplicates else [])
        stage.recorder.before = refused = Once(400, times=100, noun="collections")
        rows = await stage.client.template_variables.add_many(
            [{"x": value} for value in values], collection=stage.collection, skip_existing=False
        )
        assert refused.fired > len(values)
        stage.recorder.before = None
        good = await stage.variables(["good"])
        rows = joined(rows, good)
        responses = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        ratings = await stage.client.ratings.rate_many(responses)
        assert list(ratings.succeeded) == [len(values)]
        assert ratings.failed[0] is responses.failed[0] is rows.failed[0]
        assert judge.calls == 1

        await rows.retry_failed()
        await responses.retry_failed()
        await ratings.retry_failed()

        assert [row.response_str for row in responses] == [
            *(f"echo say {value}" for value in values),
            "echo say good",
        ]
        assert not ratings.failed
        assert len({row.id for row in responses}) == len(values) + 1
        assert stage.model.answered == Counter(f"say {value}" for value in [*values, "good"])
        assert judge.calls == len(values) + 1


def joined(
    rows: Batch[TemplateVariables], more: list[TemplateVariables]
) -> Batch[TemplateVariables]:
    """A batch whose retry is that of ``rows``, with rows that are there already behind it."""
    return Batch([*rows.outcomes, *more], resend=rows._resend)


async def test_equal_rows_are_generated_and_rated_apart(staging: Staging) -> None:
    """Two positions share a row: repaired, each has its own response, and epochs do not meet."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        (row,) = await stage.variables(["a"])

        async def repair(*args: object) -> None:
            cast("dict[int, object]", args[1])[1] = row

        missing = ItemError("no row", position=1, operation="add")
        rows = Batch([row, missing, row], resend=repair)
        responses = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        ratings = await stage.client.ratings.rate_many(responses)
        await rows.retry_failed()
        await responses.retry_failed()
        await ratings.retry_failed()

        assert [response.epoch for response in responses] == [1, 3, 2]
        assert stage.model.answered["say a"] == 3
        assert judge.calls == 3
        assert not ratings.failed


async def test_one_response_at_two_repaired_positions_is_rated_once(staging: Staging) -> None:
    """As `rate_many` rates a response that comes twice."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        (response,) = await stage.generate(["a"])
        failures = [ItemError("none", position=p, operation="generate") for p in range(2)]

        async def repair(*args: object) -> None:
            cast("dict[int, object]", args[1]).update({0: response, 1: response})

        responses = Batch[PromptResponse](failures, resend=repair)
        ratings = await stage.client.ratings.rate_many(responses)
        assert judge.calls == 0
        await responses.retry_failed()
        await ratings.retry_failed()

        assert ratings[0] == ratings[1]
        assert judge.calls == 1


async def test_a_journal_takes_what_was_repaired(staging: Staging, tmp_path: Path) -> None:
    """By the retry as well as by the same call again, with its journal: each is rated once."""
    async with staging(options=OPTIONS) as stage:
        judge = CountingJudge(stage)
        rate = stage.client.ratings.rate_many
        stage.model.failing = fails("v1", "v2", "v3")
        responses = await stage.generate(VALUES[:10])
        ratings = await rate(responses, journal=tmp_path / "ratings")
        stage.model.failing = fails("v2", "v3")
        await responses.retry_failed()
        await ratings.retry_failed()
        assert list(ratings.failed) == [2, 3]
        assert judge.calls == 8
        stage.model.failing = fails("v3")
        await responses.retry_failed()

        again = await rate(responses, journal=tmp_path / "ratings")

        assert list(again.failed) == [3]
        assert judge.calls == 9
        stage.model.failing = fails()
        await responses.retry_failed()
        await again.retry_failed()
        assert not again.failed
        assert judge.calls == 10
        last = await rate(responses, journal=tmp_path / "ratings")
        assert [{r.id for r in its} for its in last] == [{r.id for r in its} for its in again]
        assert judge.calls == 10


async def test_a_closed_client_rates_nothing_and_forgets_nothing(staging: Staging) -> None:
    """The batch stays as it was, with the error of its upstream."""
    async with staging(options=OPTIONS) as stage:
        stage.model.failing = fails("v1")
        responses = await stage.generate(VALUES[:5])
        ratings = await stage.client.ratings.rate_many(responses)
        stage.model.failing = fails()
        await responses.retry_failed()
        await stage.client.close()

        for _ in range(2):
            with pytest.raises(ClientClosedError):
                await ratings.retry_failed()
        assert list(ratings.failed) == [1]


async def test_nothing_upstream_changed_nothing_is_sent(staging: Staging) -> None:
    """No request is made while the responses are as they were."""
    async with staging(options=OPTIONS) as stage:
        stage.model.failing = fails("v1")
        responses = await stage.generate(VALUES[:5])
        ratings = await stage.client.ratings.rate_many(responses)
        stage.recorder.requests.clear()

        await ratings.retry_failed(include_unknown=True)

        assert stage.recorder.requests == []
        assert ratings.failed[1] is responses.failed[1]
