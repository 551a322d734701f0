"""`template_variables.add_many` of rows that exist: few are looked up one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.types import Send

from elluminate_async import AsyncClient
from elluminate_async.server import WireProfile
from tests.flow.bench import Once, Seen, Stage
from tests.flow.conftest import Staging

ROWS = [{"x": f"v{i}"} for i in range(620)]
PAGES = 310
OURS = WireProfile(page_size=2, item_keys=False)
TOLD = WireProfile(page_size=2)
OTHERS = WireProfile.hosted(page_size=2)


@pytest.fixture
async def stage(staging: Staging, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A collection of 310 pages."""
    async with staging(getattr(request, "param", OURS)) as stage:
        await stage.client.template_variables.add_many(ROWS, collection=stage.collection)
        stage.recorder.requests.clear()
        yield stage


async def count(stage: Stage) -> int:
    """Rows of the collection at the server."""
    return len(await stage.client.template_variables.list(stage.collection))


async def add(stage: Stage, *values: str) -> list[str]:
    """Add rows, and what they are answered with."""
    batch = await stage.client.template_variables.add_many(
        [{"x": value} for value in values], collection=stage.collection
    )
    return [row.input_values["x"] for row in batch]


@pytest.mark.parametrize("value", ["v0", "v300", "v619"])
async def test_one_row_that_exists_is_one_look_up(stage: Stage, value: str) -> None:
    """Two requests, wherever it is in a collection of 310 pages: the upload and the look-up."""
    assert await add(stage, value) == [value]

    assert len(stage.recorder.requests) == 2
    assert await count(stage) == len(ROWS)


@pytest.mark.parametrize("stage", [TOLD], indirect=True)
async def test_a_service_that_answers_with_rows_that_exist_is_asked_once(stage: Stage) -> None:
    """In the order of the input, new rows among them."""
    assert await add(stage, "v619", "new", "v0", "v619") == ["v619", "new", "v0", "v619"]

    assert len(stage.recorder.requests) == 1
    assert await count(stage) == len(ROWS) + 1


async def test_it_is_the_row_that_exists(stage: Stage) -> None:
    """Its id is the listing's, also for a value whose names come in another order."""
    both = {"x": "v1", "y": [1, {"b": 2, "a": None}]}
    (first,) = await stage.client.template_variables.add_many([both], collection=stage.collection)
    again = dict(reversed(both.items()))

    (second,) = await stage.client.template_variables.add_many([again], collection=stage.collection)

    assert second.id == first.id


async def test_new_rows_cost_no_look_up(stage: Stage) -> None:
    """The upload alone tells them."""
    assert await add(stage, "new 1", "new 2") == ["new 1", "new 2"]

    assert len(stage.recorder.requests) == 1


async def test_some_of_many_are_looked_up_singly(stage: Stage) -> None:
    """Some forty of 620: the upload, a page that tells how many there are, and one each."""
    values = [f"v{i}" for i in range(0, 620, 16)]

    assert await add(stage, *values, "new", values[0]) == [*values, "new", values[0]]

    # Of the first page's rows one is wanted.
    assert len(stage.recorder.requests) == 2 + len(values) - 1
    assert await count(stage) == len(ROWS) + 1


@pytest.mark.unmeasured
async def test_many_are_read_from_the_listing(stage: Stage) -> None:
    """More rows than pages: reading them all is fewer requests, once for all uploads."""
    values = [f"v{i}" for i in range(619, 0, -1)]

    assert await add(stage, *values) == values

    assert len(stage.recorder.requests) <= 2 + PAGES
    assert await count(stage) == len(ROWS)


@pytest.mark.parametrize("stage", [OTHERS], indirect=True)
async def test_without_the_word_of_the_service_nothing_is_added_singly(stage: Stage) -> None:
    """It could make a second row: the listing is read, as far as the row that is looked for."""
    assert await add(stage, "v1") == ["v1"]

    assert stage.recorder.count("/entries$", "POST") == 0
    assert stage.recorder.count("/entries$", "GET") == 1
    stage.recorder.requests.clear()
    assert await add(stage, "v619") == ["v619"]
    assert stage.recorder.count("/entries$", "GET") == PAGES


@pytest.mark.parametrize("stage", [OTHERS], indirect=True)
async def test_a_second_look_reads_all_once(stage: Stage) -> None:
    """Each upload finds its rows, though the first stopped reading early."""
    values = [f"v{i % 300}" for i in range(1_000)]
    batch = await stage.client.template_variables.add_many(
        [{"x": v} for v in [*values, *["v600", "v599"] * 500, "v5"]], collection=stage.collection
    )

    assert [row.input_values["x"] for row in batch][-3:] == ["v600", "v599", "v5"]
    assert not batch.failed
    assert stage.recorder.count("/entries$", "GET") <= PAGES + PAGES // 2


async def test_a_row_that_is_not_the_one_asked_for_is_not_taken(stage: Stage) -> None:
    """A service that answers something else is not believed: then the listing tells."""

    async def wrong(seen: Seen, send: Send) -> bool:
        if seen.method != "POST" or not seen.path.endswith("/entries"):
            return False
        row = await other.template_variables.get(1, collection=stage.collection)
        body = row.model_dump_json().encode()
        await send(
            {
                "type": "http.response.start",
                "status": 201,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": body})
        return True

    stage.recorder.before = wrong
    async with AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key) as other:
        assert await add(stage, "v40") == ["v40"]


async def test_a_look_up_whose_answer_is_lost_is_made_again(stage: Stage) -> None:
    """It does no harm twice."""
    fault = Once(502, noun="entries")

    async def lose(seen: Seen, send: Send) -> bool:
        return seen.path.endswith("/entries") and await fault(seen, send)

    stage.recorder.before = lose

    assert await add(stage, "v40") == ["v40"]

    assert fault.fired == 1
    assert await count(stage) == len(ROWS)
