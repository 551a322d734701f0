"""Rows 64 to 66: ratings that are incomplete, old or malformed, and listings by many ids."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async import Batch, BatchOptions, PromptResponse, Rating, RatingError
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService, run_virtually
from elluminate_async.testing.exchange import Exchange
from elluminate_async.testing.faults import refuse
from tests.faults.inprocess import client_of, experiment_of
from tests.faults.rewriting import is_listing, rewrite
from tests.flow.bench import Seen
from tests.flow.conftest import staged
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(12)]
HOSTED = WireProfile.hosted(page_size=7)
OPTIONS = BatchOptions(chunk_size=6, max_concurrency=1, settle=0.2)


@pytest.mark.row(64)
@pytest.mark.parametrize("what", ["missing", "malformed"])
async def test_a_response_without_a_verdict_for_a_criterion_is_rated_once_more(
    fired: Fired, what: str
) -> None:
    """Then it is an error of its own; one that is complete at the second time is rated."""
    async with staged(HOSTED, OPTIONS) as stage:
        responses = await stage.generate(VALUES)
        old = await stage.client.ratings.rate_many(responses)
        known = {rating.id for found in old for rating in found}
        never, once = responses[2].id, responses[9].id
        first: set[int] = set()

        def spoil(seen: Seen, page: Any) -> Any:
            nonlocal first
            for row in page["items"] if is_listing(seen) else ():
                fresh = [r for r in row["ratings"] if r["id"] not in known]
                if not fresh or row["id"] not in (never, once):
                    continue
                if row["id"] == once:
                    # Those of the first time only, every time that they are shown.
                    first = first or {rating["id"] for rating in fresh}
                    fresh = [r for r in fresh if r["id"] in first]
                broken = [r for r in fresh if r["criterion"]["criterion_str"] == "is it true?"]
                fired(times=len(broken))
                for rating in broken:
                    if what == "missing":
                        row["ratings"].remove(rating)
                    else:
                        rating["rating"] = "MAYBE"
            return page

        rewrite(stage, spoil)
        stage.recorder.requests.clear()
        ratings = await stage.client.ratings.rate_many(responses)
        posts = stage.recorder.count("ratings/batches$", "POST")

    assert list(ratings.failed) == [2]
    error = ratings.failed[2]
    assert isinstance(error, RatingError)
    assert (error.code, error.response_id) == ("incomplete", never)
    for found in ratings.succeeded.values():
        assert len({rating.criterion.id for rating in found}) == len(found) == 3
        assert {str(rating.rating) for rating in found} <= {"YES", "NO"}
        assert known.isdisjoint(rating.id for rating in found)
    # Two chunks, and one response of each once more.
    assert posts == 4


@pytest.mark.row(64)
async def test_a_verdict_that_is_none_in_a_result(fired: Fired) -> None:
    """A service that sends results and says MAYBE: once more, then an error, and never a NO."""
    async with staged(None, OPTIONS) as stage:
        responses = await stage.generate(VALUES[:6])

        def spoil(seen: Seen, document: Any) -> Any:
            if "/ratings/batches/" in seen.path and document.get("result"):
                fired()
                # At the first time the second response; then the one that is left.
                document["result"][len(document["result"]) // 5][0]["rating"] = "MAYBE"
            return document

        rewrite(stage, spoil)
        ratings = await stage.client.ratings.rate_many(responses)
        posts = stage.recorder.count("ratings/batches$", "POST")

    assert list(ratings.failed) == [1]
    assert isinstance(ratings.failed[1], RatingError)
    assert ratings.failed[1].code == "incomplete"
    assert posts == 2


@pytest.mark.row(65)
async def test_a_criterion_that_is_deleted_midway_shows(fired: Fired) -> None:
    """Criteria are pinned when the call begins: what lacks one of them says so, and is no NO."""
    async with staged(HOSTED, OPTIONS) as stage:
        responses = await stage.generate(VALUES)
        criteria = await stage.client.criteria.list(prompt_template=stage.template)
        posts = 0

        async def change(seen: Seen, send: Any) -> bool:
            nonlocal posts
            if seen.method == "POST" and seen.path.endswith("/ratings/batches"):
                posts += 1
                if posts == 2:
                    fired()
                    await stage.client.criteria.delete(criteria[0], cascade=True)
            return False

        stage.recorder.before = change
        ratings = await stage.client.ratings.rate_many(responses)

    assert list(ratings.failed) == list(range(6, 12))
    for error in ratings.failed.values():
        assert error.code == "incomplete"
        assert f"[{criteria[0].id}]" in error.text


@pytest.mark.row(65)
async def test_a_criterion_that_is_added_midway_is_told(
    fired: Fired, caplog: pytest.LogCaptureFixture
) -> None:
    """What was paid for is kept, beside the pinned criteria, and one warning names it."""
    async with staged(HOSTED, OPTIONS) as stage:
        responses = await stage.generate(VALUES)
        posts = added = 0

        async def change(seen: Seen, send: Any) -> bool:
            nonlocal posts, added
            if seen.method == "POST" and seen.path.endswith("/ratings/batches"):
                posts += 1
                if posts == 2:
                    fired()
                    (new,) = await stage.client.criteria.add_many(
                        ["is it new?"], prompt_template=stage.template
                    )
                    added = new.id
            return False

        stage.recorder.before = change
        ratings = await stage.client.ratings.rate_many(responses)

    assert not ratings.failed
    pinned = {rating.criterion.id for rating in ratings[0]}
    assert [{r.criterion.id for r in found} - pinned for found in ratings[6:]] == [{added}] * 6
    told = [record.getMessage() for record in caplog.records if "criteria" in record.getMessage()]
    assert len(told) == 1
    assert f"[{added}]" in told[0]


@pytest.mark.unmeasured
@pytest.mark.row(66)
def test_ten_thousand_ids_are_asked_for_in_short_requests(fired: Fired) -> None:
    """In chunks as large as can be: at most 100 ids and 4 kB of URL in one request."""
    targets: list[str] = []

    def watch(exchange: Exchange) -> bool:
        query = exchange.request.query_string
        if "response_ids" in query:
            targets.append(f"{exchange.path}?{query}")
            fired(times=query.count("response_ids="))
        return False

    async def main() -> tuple[Batch[PromptResponse], Batch[list[Rating]]]:
        service = ScriptedService(criteria=1, variables=lambda id: {"x": id})
        async with client_of(service) as client:
            experiment = await experiment_of(client)
            responses = await client.responses.generate_many(
                template_variables=list(range(1, 10_001)), experiment=experiment
            )
        # From here on ratings are told by listings alone.
        service.script.keys = service.script.results = False
        service.faults = [Fault(refuse(500), on=watch)]
        async with client_of(service, BatchOptions(chunk_size=5000)) as client:
            return responses, await client.ratings.rate_many(responses)

    responses, ratings = run_virtually(main)

    assert not ratings.failed
    assert len(ratings) == len({found[0].id for found in ratings}) == len(responses) == 10_000
    assert max(target.count("response_ids=") for target in targets) == 100
    assert max(map(len, targets)) <= 4096
