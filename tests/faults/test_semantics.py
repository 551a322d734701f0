"""Rows 55 to 63 and 67: what the service's own documents say wrongly, late or twice."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.types import Send

from elluminate_async import AsyncClient, BatchOptions, GenerationError, OutcomeUnknownError
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.faults.rewriting import is_listing, rewrite, value_of
from tests.flow.bench import Seen, answer
from tests.flow.conftest import staged
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(25)]
HOSTED = WireProfile.hosted(page_size=7)
OPTIONS = BatchOptions(chunk_size=10, settle=0.3)


def echoes(values: list[str]) -> list[str]:
    return [f"echo say {value}" for value in values]


@pytest.mark.row(55)
@pytest.mark.parametrize("order", ["reversed", "shuffled"])
async def test_a_listing_in_any_order(fired: Fired, order: str) -> None:
    """Rows are told by their natural key: the order of a page says nothing."""
    async with staged(WireProfile.hosted(), OPTIONS) as stage:
        mixed = random.Random(7)

        def reorder(seen: Seen, page: Any) -> Any:
            if is_listing(seen) and len(page["items"]) > 1:
                fired()
                if order == "reversed":
                    page["items"].reverse()
                else:
                    mixed.shuffle(page["items"])
            return page

        rewrite(stage, reorder)
        responses = await stage.generate(VALUES)

    assert [response.response_str for response in responses] == echoes(VALUES)


@pytest.mark.row(56, 59)
async def test_a_row_that_is_missing_is_unknown_and_what_is_too_much_is_ignored(
    fired: Fired,
) -> None:
    """A row that no listing ever shows: its position alone is unknown; extra rows are nobody's."""
    async with staged(WireProfile.hosted(), OPTIONS) as stage:

        def mangle(seen: Seen, page: Any) -> Any:
            if is_listing(seen) and page["items"]:
                kept = [row for row in page["items"] if value_of(row) != "v3"]
                fired(times=len(page["items"]) - len(kept))
                extra = [
                    {**kept[0], "id": 10**6, "epoch": 77},
                    {**kept[1], "id": 10**6 + 1, "epoch": kept[1]["epoch"]},
                ]
                for row in extra:
                    row["messages"] = [{"role": "assistant", "content": "not yours"}]
                page["items"] = kept + extra
                page["count"] = len(page["items"])
            return page

        rewrite(stage, mangle)
        responses = await stage.generate(VALUES)
        posts = stage.recorder.count("responses/batches$", "POST")

    assert list(responses.failed) == [3]
    assert isinstance(responses.failed[3], OutcomeUnknownError)
    assert responses.failed[3].code == "no_result"
    assert [r.response_str for r in responses.succeeded.values()] == echoes(
        [value for value in VALUES if value != "v3"]
    )
    assert posts == 3


@pytest.mark.row(56)
async def test_rows_of_another_writer_are_ignored(fired: Fired) -> None:
    """Another program stores responses in the same experiment meanwhile: none is taken."""
    async with staged(HOSTED, OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        others = await stage.variables([f"other {i}" for i in range(20)])
        stage.model.delay = 0.2
        async with AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key) as stranger:

            async def write(seen: Seen, send: Send) -> bool:
                if seen.path.endswith("/stream") and others:
                    mine = [others.pop(), others.pop()]
                    fired(times=2)
                    await stranger.responses.add_many(
                        ["written elsewhere"] * 2,
                        template_variables=mine,
                        experiment=stage.experiment,
                    )
                return False

            stage.recorder.before = write
            responses = await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )

    assert [response.response_str for response in responses] == echoes(VALUES)


@pytest.mark.row(57)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["results", "listing"])
@pytest.mark.parametrize("epochs", ["asked for", "all one"])
async def test_repeated_inputs_have_an_output_each(
    fired: Fired, profile: WireProfile, epochs: str
) -> None:
    """The same variables six times: six rows, six outputs, also where the service sets epochs."""
    values = [f"v{i % 4}" for i in range(24)]
    async with staged(profile, OPTIONS) as stage:

        def overrule(seen: Seen, page: Any) -> Any:
            if is_listing(seen) and epochs == "all one":
                for row in page["items"]:
                    row["epoch"] = 1
            return page

        rewrite(stage, overrule)
        fired(times=len(values) - len(set(values)))
        responses = await stage.generate(values)
        made = stage.model.answered

    assert [response.response_str for response in responses] == echoes(values)
    assert len({response.id for response in responses}) == 24
    assert made == Counter(f"say {value}" for value in values)
    assert responses.surplus == ()


@pytest.mark.row(59)
async def test_rows_that_become_visible_late(fired: Fired) -> None:
    """A replica lags behind a job's SUCCESS: its rows are looked for, and found."""
    async with staged(WireProfile.hosted(), OPTIONS) as stage:
        looks = 0

        def lag(seen: Seen, page: Any) -> Any:
            nonlocal looks
            if is_listing(seen) and page["items"]:
                looks += 1
                if looks <= 2:
                    fired()
                    return {"items": [], "count": 0}
            return page

        rewrite(stage, lag)
        responses = await stage.generate(VALUES[:10])
        posts = stage.recorder.count("responses/batches$", "POST")

    assert [response.response_str for response in responses] == echoes(VALUES[:10])
    assert posts == 1


@pytest.mark.row(60)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["results", "listing"])
async def test_a_failed_job_fails_only_what_has_no_row(fired: Fired, profile: WireProfile) -> None:
    """FAILURE after some rows were made: those count, only the rest fails with the job's reason."""
    async with staged(profile, OPTIONS) as stage:

        def fail(seen: Seen, document: Any) -> Any:
            if "/responses/batches/" in seen.path and document["status"] == "SUCCESS":
                fired()
                document |= {"status": "FAILURE", "error_msg": "out of memory"}
                if document.get("result"):
                    document["result"] = document["result"][:6]
            if is_listing(seen):
                document["items"] = [row for row in document["items"] if value_of(row) < "v6"]
                document["count"] = len(document["items"])
            return document

        rewrite(stage, fail)
        responses = await stage.generate(VALUES[:10])
        posts = stage.recorder.count("responses/batches$", "POST")

    assert [r.response_str for r in responses.succeeded.values()] == echoes(VALUES[:6])
    assert list(responses.succeeded) == list(range(6))
    assert {error.code for error in responses.failed.values()} == {"job_failed"}
    assert "FAILURE: out of memory" in responses.failed[9].text
    assert posts == 1


@pytest.mark.row(61)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["results", "listing"])
async def test_a_job_that_is_forgotten_is_never_posted_again(
    fired: Fired, profile: WireProfile
) -> None:
    """404 for an accepted job: its rows tell where they can be read; else it is unknown."""
    async with staged(profile, OPTIONS) as stage:

        async def forget(seen: Seen, send: Send) -> bool:
            if "/responses/batches/" not in seen.path:
                return False
            fired()
            await answer(send, 404, b'{"detail": "no such task"}')
            return True

        stage.recorder.before = forget
        responses = await stage.generate(VALUES[:10])
        posts = stage.recorder.count("responses/batches$", "POST")

    if profile.results_with_status:
        assert all(isinstance(error, OutcomeUnknownError) for error in responses.failed.values())
        assert len(responses.failed) == 10
    else:
        assert [response.response_str for response in responses] == echoes(VALUES[:10])
    assert posts == 1


@pytest.mark.row(63)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["results", "listing"])
async def test_a_row_with_an_error_and_half_an_answer(fired: Fired, profile: WireProfile) -> None:
    """That item alone fails, as `GenerationError`, and what there is of its answer is kept."""
    async with staged(profile, OPTIONS) as stage:

        def spoil(seen: Seen, document: Any) -> Any:
            rows: list[Any] = document["items"] if is_listing(seen) else []
            if "/responses/batches/" in seen.path:
                rows = document.get("result") or []
            for row in rows:
                if value_of(row) == "v3":
                    fired()
                    row["error"] = "cut off by the content filter"
                    row["messages"] = [{"role": "assistant", "content": "Half an ans"}]
            return document

        rewrite(stage, spoil)
        responses = await stage.generate(VALUES[:10])

    error = responses.failed[3]
    assert list(responses.failed) == [3]
    assert isinstance(error, GenerationError)
    assert "cut off by the content filter" in error.text
    assert error.output == error.to_dict()["output"] == "Half an ans"
    assert error.response_id is not None


@pytest.mark.row(67)
@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["results", "listing"])
async def test_clocks_that_disagree_decide_nothing(
    fired: Fired, profile: WireProfile, days: int
) -> None:
    """A day of skew, row by row the other way: old rows stay old, each position has its own."""
    async with staged(profile, OPTIONS) as stage:
        signs = itertools.cycle([1, -1])

        def shifted(stamp: re.Match[str]) -> str:
            fired()
            moved = datetime.fromisoformat(stamp[2]) + next(signs) * timedelta(days=days)
            return f'{stamp[1]}"{moved.isoformat()}"'

        def skew(seen: Seen, document: Any) -> Any:
            text = re.sub(r'("created_at": )"([^"]+)"', shifted, json.dumps(document))
            return json.loads(text)

        rewrite(stage, skew)
        first = await stage.generate(VALUES)
        second = await stage.generate(VALUES)
        ratings = await stage.client.ratings.rate_many(first)
        again = await stage.client.ratings.rate_many(first)

    assert [response.response_str for response in second] == echoes(VALUES)
    assert {r.id for r in first}.isdisjoint({r.id for r in second})
    earlier = {rating.id for found in ratings for rating in found}
    assert earlier.isdisjoint({rating.id for found in again for rating in found})
    assert [len(found) for found in again] == [3] * 25
