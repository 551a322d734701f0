"""Runs of ratings: in one a response is rated once by each criterion, whatever jobs ask for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


PATH = "/ratings/batches"
WORDS = ["a", "b", "c"]


@pytest.fixture
async def judge() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def server(model: ScriptedModel, judge: ScriptedModel) -> AsyncIterator[LocalServer]:
    async with LocalServer(model=model, judge=judge) as server:
        yield server


@pytest.fixture
async def rated(api: Api) -> Api:
    """With three responses, whose ids are 1 to 3, and one criterion."""
    await api.generate(*await api.setup(WORDS, criteria=["x?"]))
    return api


async def begin(api: Api, ids: list[int], run: str | None = "nightly", mode: str = "fast") -> str:
    body = {"prompt_response_ids": ids, "rating_mode": mode, "run": run}
    return f"{PATH}/{await api.post(PATH, body)}"


async def rate(api: Api, ids: list[int], run: str | None = "nightly", mode: str = "fast") -> Any:
    return await api.ended(await begin(api, ids, run, mode))


def given(status: dict[str, Any]) -> list[list[int]]:
    """The ids of the ratings of each item."""
    return [[one["id"] for one in ratings] for ratings in status["result"]]


async def test_a_run_again_asks_no_judge(rated: Api, judge: ScriptedModel) -> None:
    """Its ratings are the result of every job of it, also where those of another are current."""
    first = await rate(rated, [1, 2, 3])
    other = await rate(rated, [3, 2], "weekly")
    again = await rate(rated, [3, 1, 3])
    without = await rate(rated, [1], None)

    assert given(first) == [[1], [2], [3]]
    assert given(again) == [[3], [1], [3]]
    assert again["progress"] == {"processed": 3, "total": 3, "failed": 0}
    assert given(other) == [[5], [4]]
    assert given(without) == [[6]]
    assert len(judge.calls) == 6
    current = [row["id"] for row in await rated.items("/ratings")]
    assert sorted(current) == [4, 5, 6]


async def test_a_new_criterion_is_asked_alone(rated: Api, judge: ScriptedModel) -> None:
    """What the run has a rating by already is not asked again, and is in the result."""
    await rate(rated, [1, 2])
    await rated.add_criteria(["y?"])
    again = await rate(rated, [1, 2])

    assert [
        [one["criterion"]["criterion_str"] for one in ratings] for ratings in again["result"]
    ] == [["x?", "y?"]] * 2
    assert len(judge.calls) == 4
    assert all("x?" not in asked for asked in judge.whole[2:])


async def test_a_criterion_of_another_text_is_asked(rated: Api, judge: ScriptedModel) -> None:
    """The run rates by it too, and what was rated by the text before is told as it was."""
    path = await begin(rated, [1])
    first = await rated.ended(path)
    assert (await rated("PUT", "/criteria/1", {"criterion_str": "y?"})).status == 200
    assert given(await rated.get(path)) == given(first)
    again = await rate(rated, [1])

    (rating,) = again["result"][0]
    assert rating["criterion"]["criterion_str"] == "y?"
    assert len(judge.calls) == 2


async def test_jobs_of_a_run_at_once_ask_once(rated: Api, judge: ScriptedModel) -> None:
    """The one waits for what the other asks; another run does not."""
    judge.gate.clear()
    paths = [await begin(rated, ids) for ids in ([1, 2], [2, 3, 1])]
    paths.append(await begin(rated, [1], "weekly"))
    await judge.reached(4)
    judge.gate.set()
    first, second, other = await asyncio.gather(*map(rated.ended, paths))

    assert len(judge.calls) == 4
    assert given(second) == [given(first)[1], given(second)[1], given(first)[0]]
    assert all(len(ratings) == 1 for ratings in (*given(second), *given(other)))
    assert given(other)[0] != given(first)[0]


async def test_a_criterion_that_one_of_two_jobs_asks(rated: Api, judge: ScriptedModel) -> None:
    """Added while the first job is at it: the second waits for that, and asks the rest only."""
    judge.gate.clear()
    first = await begin(rated, [1])
    await judge.reached(1)
    await rated.add_criteria(["y?"])
    second = await begin(rated, [1])
    judge.gate.set()
    await rated.ended(first)
    status = await rated.ended(second)

    assert len(status["result"][0]) == 2
    assert len(judge.calls) == 2
    assert "x?" not in judge.whole[1]


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_cancelled_job_takes_nothing_from_the_other(
    session: aiohttp.ClientSession, cancelled: int
) -> None:
    """Whichever of two is cancelled, the judge is asked once for each response."""
    judge = ScriptedModel()
    async with LocalServer(model=ScriptedModel(), judge=judge, max_model_calls=1) as server:
        api = Api(session, server)
        await api.generate(*await api.setup(WORDS, criteria=["x?"]))
        judge.gate.clear()
        paths = [await begin(api, [1, 2, 3]) for _ in range(2)]
        await judge.reached(1)
        assert (await api("DELETE", paths[cancelled])).status == 204
        judge.gate.set()
        status = await api.ended(paths[1 - cancelled])

    assert [len(ratings) for ratings in status["result"]] == [1, 1, 1]
    assert len(judge.calls) == 3


async def test_no_verdict_is_asked_for_again_by_a_later_job_only(
    rated: Api, judge: ScriptedModel
) -> None:
    """Who waited for it has the failure too; a later job asks for that one alone."""
    judge.verdicts = [TimeoutError("no judge")]
    judge.gate.clear()
    paths = [await begin(rated, [1, 2]) for _ in range(2)]
    await judge.reached(2)
    judge.gate.set()
    for status in await asyncio.gather(*map(rated.ended, paths)):
        (failure,) = status["item_failures"]
        assert (failure["code"], "no judge" in failure["message"]) == ("rating_failed", True)
    assert len(judge.calls) == 2
    again = await rate(rated, [1, 2])
    assert [len(ratings) for ratings in again["result"]] == [1, 1]
    assert again["item_failures"] == []
    assert len(judge.calls) == 3


async def test_another_mode_in_the_same_run_is_422(rated: Api, judge: ScriptedModel) -> None:
    """Also while the first is at it; of other responses the run may have it."""
    judge.gate.clear()
    path = await begin(rated, [1, 2])
    body = {"prompt_response_ids": [3, 2, 1], "rating_mode": "detailed", "run": "nightly"}
    for _ in range(2):
        refused = await rated("POST", PATH, body)
        assert (refused.status, refused.body["key_conflicts"]) == (422, [1, 2])
        assert "item 1: response 2 is rated in this run in another mode" in refused.body["detail"]
        judge.gate.set()
        await rated.ended(path)
    other = await rate(rated, [3], mode="detailed")
    assert other["result"][0][0]["reasoning"] == "so"
    assert len(judge.calls) == 3


async def test_what_is_deleted_is_not_of_the_run(rated: Api, judge: ScriptedModel) -> None:
    """A criterion's ratings go with it, and those of an experiment."""
    await rated.add_criteria(["y?"])
    await rate(rated, [1])
    criterion = (await rated.items("/criteria?prompt_template_id=1"))[0]["id"]
    assert (await rated("DELETE", f"/criteria/{criterion}?cascade=true")).status == 204
    again = await rate(rated, [1])
    assert len(again["result"][0]) == 1
    assert len(judge.calls) == 1
    await rated("DELETE", "/experiments/1")
    body = {"prompt_response_ids": [1], "rating_mode": "fast", "run": "nightly"}
    assert (await rated("POST", PATH, body)).status == 404


async def test_a_restart_asks_once_for_what_two_jobs_want(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Both were accepted by a server that ended; what was rated is not asked again."""
    judge, db = ScriptedModel(), tmp_path / "s.db"
    judge.gate.clear()
    async with LocalServer(db=db, model=ScriptedModel(), judge=judge) as server:
        api = Api(session, server)
        await api.generate(*await api.setup(WORDS, criteria=["x?"]))
        judge.gate.set()
        known = await rate(api, [1])
        judge.gate.clear()
        paths = [await begin(api, [1, 2, 3]) for _ in range(2)]
        await judge.reached(3)
    judge.gate.set()
    judge.calls.clear()
    async with LocalServer(db=db, model=ScriptedModel(), judge=judge) as server:
        api = Api(session, server)
        first, second = await asyncio.gather(*map(api.ended, paths))

    assert given(first) == given(second)
    assert given(first)[0] == given(known)[0]
    assert len(judge.calls) == 2


async def test_the_hosted_profile_knows_no_runs(session: aiohttp.ClientSession) -> None:
    """As the hosted service it takes no notice of them."""
    judge = ScriptedModel()
    profile = WireProfile.hosted()
    async with LocalServer(model=ScriptedModel(), judge=judge, profile=profile) as server:
        api = Api(session, server)
        await api.generate(*await api.setup(["a"], criteria=["x?"]))
        for _ in range(2):
            await rate(api, [1])
    assert len(judge.calls) == 2


@pytest.mark.parametrize("run", ["", "r" * 201, "a\0b", 7])
async def test_what_is_no_run_is_422(rated: Api, run: object) -> None:
    """A run is a text of 1 to 200 characters."""
    body = {"prompt_response_ids": [1], "rating_mode": "fast", "run": run}
    assert (await rated("POST", PATH, body)).status == 422
