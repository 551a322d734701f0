"""Without results in the status: which of a service's rows are read, and what its map is worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Send

from elluminate_async import AsyncClient, BatchOptions, OutcomeUnknownError, PromptResponse
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.faults.rewriting import is_listing, rewrite
from tests.flow.bench import Once, Seen, Stage, answer
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


HOSTED = WireProfile.hosted(page_size=7, listing_seed=4)
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=1, settle=0.4)
VALUES = [f"v{i}" for i in range(15)]


def is_map(seen: Seen) -> bool:
    return seen.path.endswith("/map")


def count_documents(stage: Stage) -> Counter[int]:
    """How often the document of each response is sent from now on, by its id."""
    sent = Counter[int]()

    def count(seen: Seen, document: Any) -> Any:
        if is_listing(seen):
            sent.update(row["id"] for row in document["items"])
        return document

    rewrite(stage, count)
    return sent


async def with_rows(stage: Stage, values: list[str]) -> list[PromptResponse]:
    """Rows that another client has made of each value, of which the first failed."""
    stage.model.failing = lambda prompt: prompt.endswith(values[0])
    async with AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key) as other:
        await other.responses.generate_many(
            template_variables=await stage.variables(values), experiment=stage.experiment
        )
        stage.model.failing = lambda prompt: False
        return await other.responses.list(experiment=stage.experiment)


@pytest.mark.parametrize("count", [15, 60])
async def test_one_row_costs_the_same_beside_any_number(staging: Staging, count: int) -> None:
    """Requests and documents of a call of one row do not depend on the experiment's size."""
    async with staging(HOSTED, OPTIONS) as stage:
        values = [f"v{i}" for i in range(count)]
        await with_rows(stage, values)
        sent = count_documents(stage)
        stage.recorder.requests.clear()

        (response,) = await stage.generate([values[3]])

        assert response.epoch == 2
        assert stage.recorder.count("/responses$", "GET") == 2
        assert stage.recorder.count("/map$") == 0
        assert sum(sent.values()) == 3


async def test_of_many_rows_each_document_is_read_once_for_a_step(staging: Staging) -> None:
    """A chunk's rows are told from the map; rated, they are read once more, with their ratings."""
    async with staging(HOSTED, OPTIONS) as stage:
        others = await with_rows(stage, VALUES)
        sent = count_documents(stage)

        responses = await stage.generate(VALUES)
        ratings = await stage.client.ratings.rate_many(responses)

        assert not responses.failed
        assert not ratings.failed
        assert {sent[response.id] for response in responses} == {2}
        # A page of the listing tells whether the map has all rows.
        assert sum(sent[row.id] for row in others) == HOSTED.page_size


def without_failures(document: Any) -> Any:
    for sample in document["samples"]:
        sample["responses"] = [row for row in sample["responses"] if not row["has_error"]]
    return document


def empty(document: Any) -> Any:
    return document | {"samples": [], "num_samples": 0, "num_responses": 0}


def of_another(document: Any) -> Any:
    return document | {"experiment_id": document["experiment_id"] + 1}


class Frozen:
    """Shows the first map for ever, as a cache may."""

    def __init__(self) -> None:
        self.first: Any = None

    def __call__(self, document: Any) -> Any:
        self.first = self.first or document
        return self.first


WRONG: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "right": lambda: lambda document: document,
    "without failures": lambda: without_failures,
    "empty": lambda: empty,
    "of another": lambda: of_another,
    "none": lambda: lambda document: {"detail": "no maps here"},
    "frozen": Frozen,
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_whatever_the_map_shows_each_row_is_its_own(staging: Staging, wrong: str) -> None:
    """Rows that others have of the same variables are not taken, and nothing is sent twice."""
    async with staging(HOSTED, OPTIONS) as stage:
        others = await with_rows(stage, VALUES)
        change = WRONG[wrong]()
        rewrite(stage, lambda seen, document: change(document) if is_map(seen) else document)
        stage.model.answered.clear()

        responses = await stage.generate(VALUES)

        assert [r.response_str for r in responses] == [f"echo say {value}" for value in VALUES]
        assert {r.id for r in responses}.isdisjoint(row.id for row in others)
        assert set(stage.model.answered.values()) == {1}
        assert stage.recorder.count("/map$") > 0


async def test_a_row_that_failed_is_found_though_the_map_hides_it(staging: Staging) -> None:
    """In a new experiment nothing shows beforehand that the map has no failed rows."""
    async with staging(HOSTED, OPTIONS) as stage:
        change = without_failures
        rewrite(stage, lambda seen, document: change(document) if is_map(seen) else document)
        stage.model.failing = lambda prompt: prompt.endswith("v3")

        responses = await stage.generate(VALUES)

        assert {position: e.code for position, e in responses.failed.items()} == {
            3: "generation_failed"
        }


async def test_a_lost_answer_is_settled_without_a_map(staging: Staging) -> None:
    """A service of before 1.5 has none: the listing tells, and nothing is sent again."""
    async with staging(HOSTED, OPTIONS) as stage:
        await with_rows(stage, VALUES)
        stage.recorder.after = lost = Once(502)
        stage.recorder.requests.clear()
        stage.model.answered.clear()

        async def no_map(seen: Seen, send: Send) -> bool:
            if is_map(seen):
                await answer(send, 404, json.dumps({"detail": "Not Found"}).encode())
                return True
            return False

        stage.recorder.before = no_map
        responses = await stage.generate(VALUES)

        assert lost.fired == 1
        assert [r.response_str for r in responses] == [f"echo say {value}" for value in VALUES]
        assert set(stage.model.answered.values()) == {1}
        assert stage.recorder.count("/map$") == 1


async def test_ratings_of_others_are_not_taken_for_own(staging: Staging) -> None:
    """Rated by another client since they were read: what is left of a lost POST is unknown."""
    async with staging(HOSTED, OPTIONS) as stage:
        responses = await stage.generate(VALUES)
        async with AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key) as other:
            await other.ratings.rate_many(list(responses)[:7])
        stage.recorder.before = Once(503, times=3, noun="ratings")

        ratings = await stage.client.ratings.rate_many(responses)

        assert len(ratings.failed) == len(VALUES)
        assert {type(error) for error in ratings.failed.values()} == {OutcomeUnknownError}
