"""Keys of items: under one a response is made once, whatever jobs ask for it, and whatever ends."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.server.store import item_keys
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch, edit
from tests.server.earlier import to_version_6

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


PATH = "/responses/batches"
WORDS = [f"w{i}" for i in range(6)]
SAID = [f"SAY W{i}." for i in range(6)]


def keyed(experiment: int, entries: Iterable[int], **more: Any) -> dict[str, Any]:
    """A batch whose items have their rows' ids as keys."""
    body = batch(experiment, [*entries])
    for item in body["prompt_response_ins"]:
        item.update({"item_key": f"key {item['template_variables_id']}", **more})
    return body


async def begin(api: Api, experiment: int, entries: Iterable[int], **more: Any) -> str:
    return f"{PATH}/{await api.post(PATH, keyed(experiment, entries, **more))}"


def texts(status: dict[str, Any]) -> list[str | None]:
    return [
        row and (row["messages"][-1]["content"] if row["messages"] else None)
        for row in status["result"]
    ]


def ids(status: dict[str, Any]) -> list[int]:
    return [row["id"] for row in status["result"]]


async def test_a_known_key_gives_its_row(api: Api, model: ScriptedModel) -> None:
    """Another job, with other chunks and in another order, has the rows, and no model is asked."""
    experiment, entries = await api.setup(WORDS)
    first = await api.ended(await begin(api, experiment, entries[:4]))
    asked = [*reversed(entries[1:]), entries[2]]
    second = await api.ended(await begin(api, experiment, asked))

    assert texts(second) == [*reversed(SAID[1:]), SAID[2]]
    assert ids(second)[2:5] == [*reversed(ids(first)[1:])]
    assert second["progress"] == {"processed": 6, "total": 6, "failed": 0}
    assert sorted(model.calls) == [f"Say {word}." for word in WORDS]
    assert len(await api.items(f"/responses?experiment_id={experiment}")) == 6


async def test_items_without_keys_are_made_anew(api: Api, model: ScriptedModel) -> None:
    """Beside keyed ones in a batch too; and a key is its experiment's only."""
    experiment, entries = await api.setup(WORDS[:2])
    await api.ended(await begin(api, experiment, entries))
    body = keyed(experiment, entries)
    del body["prompt_response_ins"][0]["item_key"]
    mixed = await api.ended(f"{PATH}/{await api.post(PATH, body)}")
    other = {"name": "F", "prompt_template_id": 1, "collection_id": 1}
    elsewhere = (await api.post("/experiments", other))["id"]
    await api.ended(await begin(api, elsewhere, entries))

    assert ids(mixed) == [3, 2]
    assert len(model.calls) == 5


async def test_a_key_that_stands_for_something_else_is_422(api: Api, model: ScriptedModel) -> None:
    """Each such place is named with its key, and nothing of the request is done."""
    experiment, entries = await api.setup(WORDS)
    await api.ended(await begin(api, experiment, entries[:3]))
    body = keyed(experiment, [*entries, entries[5]])
    items = body["prompt_response_ins"]
    items[0]["template_variables_id"] = entries[3]
    items[1]["epoch"] = 2
    items[2]["messages"] = [{"role": "assistant", "content": "mine"}]
    items[6]["epoch"] = 2
    refused = await api("POST", PATH, body)

    assert refused.status == 422
    assert refused.body["key_conflicts"] == [0, 1, 2, 6]
    for place, what in enumerate(["template_variables_id", "epoch", "messages"]):
        said = f"item {place}: the key 'key {entries[place]}' stands for another {what}"
        assert said in refused.body["detail"]
    await api.post("/llm_configs", {"name": "other", "llm_model_name": "m"})
    config = (await api.items("/llm_configs"))[-1]["id"]
    refused = await api("POST", PATH, keyed(experiment, entries[:1], llm_config_id=config))
    assert "another llm_config_id" in refused.body["detail"]
    assert len(model.calls) == 3
    assert len(await api.items(f"/responses?experiment_id={experiment}")) == 3


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b", 7])
async def test_what_is_no_key_is_422(api: Api, key: object) -> None:
    """A key is a text of 1 to 200 characters, and of items of batches only."""
    experiment, entries = await api.setup(["a"])
    assert (await api("POST", PATH, keyed(experiment, entries, item_key=key))).status == 422
    (item,) = keyed(experiment, entries)["prompt_response_ins"]
    for path in ("/responses", "/responses/generate"):
        refused = await api("POST", path, item)
        assert (refused.status, "batch of one" in refused.body["detail"]) == (422, True)


async def test_jobs_of_the_same_keys_at_once_ask_once(api: Api, model: ScriptedModel) -> None:
    """The others wait for what the first asks, and it for what they do: one call a key."""
    model.gate.clear()
    experiment, entries = await api.setup(WORDS)
    paths = [await begin(api, experiment, some) for some in (entries[:4], entries, entries[2:])]
    await model.reached(6)
    model.gate.set()
    first, second, third = await asyncio.gather(*map(api.ended, paths))

    assert sorted(model.calls) == [f"Say {word}." for word in WORDS]
    assert (texts(first), texts(second), texts(third)) == (SAID[:4], SAID, SAID[2:])
    assert ids(second) == [1, 2, 3, 4, 5, 6]


async def test_a_failure_is_given_with_its_error(api: Api, model: ScriptedModel) -> None:
    """It was paid for: who waited for it has it, and so has a later job."""
    model.errors["w1"] = TimeoutError("no answer")
    model.gate.clear()
    experiment, entries = await api.setup(WORDS[:3])
    paths = [await begin(api, experiment, entries) for _ in range(2)]
    await model.reached(3)
    model.gate.set()
    statuses = [*await asyncio.gather(*map(api.ended, paths))]
    statuses.append(await api.ended(await begin(api, experiment, entries)))

    for status in statuses:
        assert [one["index"] for one in status["item_failures"]] == [1]
        assert "no answer" in status["item_failures"][0]["message"]
    assert len(model.calls) == 3


async def test_a_retry_takes_over_the_keys_of_failures(api: Api, model: ScriptedModel) -> None:
    """What failed is made anew once, by whatever retries at once, and is what its key gives then.

    What did not fail is given; the failure stays, without a key; a repeated request is one job.
    """
    model.errors["w1"] = TimeoutError("no answer")
    experiment, entries = await api.setup(WORDS[:3])
    failed = await api.ended(await begin(api, experiment, entries))
    model.errors.clear()
    body = {**keyed(experiment, [*entries, entries[1]]), "retry_failed": True}
    model.gate.clear()
    tasks = [await api.post(PATH, body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert tasks[0] == tasks[1]
    other = await api.post(PATH, body)
    await model.reached(4)
    model.gate.set()
    statuses = [await api.ended(f"{PATH}/{task}") for task in (tasks[0], other)]
    statuses.append(await api.ended(await begin(api, experiment, [*entries, entries[1]])))

    for status in statuses:
        assert texts(status) == [*SAID[:3], SAID[1]]
        assert ids(status) == [1, 4, 3, 4]
    assert len(model.calls) == 4
    assert (await api.get(f"/responses/{ids(failed)[1]}"))["error"]
    conflict = {**keyed(experiment, entries, epoch=2), "retry_failed": True}
    assert (await api("POST", PATH, conflict)).body["key_conflicts"] == [0, 1, 2]


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_cancelled_job_takes_nothing_from_the_other(
    session: aiohttp.ClientSession, cancelled: int
) -> None:
    """Whichever of two is cancelled, with calls in flight and before others: one call a key."""
    model = ScriptedModel()
    async with LocalServer(model=model, max_model_calls=2) as server:
        api = Api(session, server)
        model.gate.clear()
        experiment, entries = await api.setup(WORDS)
        paths = [await begin(api, experiment, entries) for _ in range(2)]
        await model.reached(2)
        assert (await api("DELETE", paths[cancelled])).status == 204
        model.gate.set()
        status = await api.ended(paths[1 - cancelled])
        gone = await api.get(paths[cancelled])

    assert gone["status"] == "REVOKED"
    assert texts(status) == SAID
    assert sorted(model.calls) == [f"Say {word}." for word in WORDS]


async def test_rows_taken_back_free_their_keys(api: Api, model: ScriptedModel) -> None:
    """Cancelled by all who wanted them, they are gone; another job makes them."""
    model.gate.clear()
    experiment, entries = await api.setup(WORDS)
    paths = [await begin(api, experiment, entries) for _ in range(2)]
    await model.reached(6)
    for path in paths:
        await api("DELETE", path)
    while model.active:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert await _count(api, "responses") == 0
    model.gate.set()
    assert texts(await api.ended(await begin(api, experiment, entries))) == SAID


async def _count(api: Api, table: str) -> int:
    assert api.server._service is not None

    def count(connection: Any) -> int:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()

    return await api.server._service.database.read(count)


async def test_deleted_responses_free_their_keys(api: Api, model: ScriptedModel) -> None:
    """So do those of an experiment that is deleted, and of rows that are."""
    experiment, entries = await api.setup(WORDS[:3])
    first = await api.ended(await begin(api, experiment, entries))
    await api("DELETE", f"/responses/{ids(first)[0]}")
    await api("DELETE", f"/collections/1/entries/{entries[1]}?cascade=true")
    body = keyed(experiment, [entries[0], entries[2]])
    body["prompt_response_ins"][1]["item_key"] = f"key {entries[1]}"
    again = await api.ended(f"{PATH}/{await api.post(PATH, body)}")
    assert texts(again) == [SAID[0], SAID[2]]
    assert len(model.calls) == 5

    await api("DELETE", f"/experiments/{experiment}")
    other = {"name": "F", "prompt_template_id": 1, "collection_id": 1}
    experiment = (await api.post("/experiments", other))["id"]
    await api.ended(await begin(api, experiment, entries[:1]))
    assert len(model.calls) == 6


async def test_a_response_deleted_while_two_wait_fails_both(api: Api, model: ScriptedModel) -> None:
    """Neither waits for ever, and the key makes another one afterwards."""
    model.gate.clear()
    experiment, entries = await api.setup(["a"])
    paths = [await begin(api, experiment, entries) for _ in range(2)]
    await model.reached(1)
    assert (await api("DELETE", "/responses/1")).status == 204
    model.gate.set()
    for status in await asyncio.gather(*map(api.ended, paths)):
        assert status["result"] == [None]
    assert texts(await api.ended(await begin(api, experiment, entries))) == ["SAY A."]


async def test_uploads_are_stored_once(api: Api, model: ScriptedModel) -> None:
    """The same messages under the same key are one response; others are refused."""
    experiment, entries = await api.setup(WORDS[:2])
    mine = {"messages": [{"role": "assistant", "content": "mine é"}]}
    first = await api.ended(await begin(api, experiment, entries, **mine))
    again = await api.ended(await begin(api, experiment, entries, **mine))
    other = {"messages": [{"role": "assistant", "content": "other"}]}
    refused = await api("POST", PATH, keyed(experiment, entries, **other))
    generated = await api.ended(await begin(api, experiment, entries))

    assert first["result"] == again["result"] == generated["result"]
    assert refused.body["key_conflicts"] == [0, 1]
    assert model.calls == []


async def test_what_a_large_upload_has_not_shown_yet(api: Api, model: ScriptedModel) -> None:
    """The same upload shows it; to generate it has to wait for that."""
    experiment, entries = await api.setup(WORDS[:2])
    mine = {"messages": [{"role": "assistant", "content": "mine"}]}
    first = await api.ended(await begin(api, experiment, entries, **mine))
    await edit(api, "UPDATE responses SET is_ready = 0")
    refused = await api("POST", PATH, keyed(experiment, entries))
    assert (refused.status, "is being uploaded" in refused.body["detail"]) == (409, True)
    again = await api.ended(await begin(api, experiment, entries, **mine))
    assert again["result"] == first["result"]
    assert model.calls == []


async def test_large_batches_find_keys_across_their_slices(api: Api, model: ScriptedModel) -> None:
    """Of 1,500 items with 750 keys each is made once; what is wrong in a later one is named."""
    experiment, entries = await api.setup([str(number) for number in range(750)])
    status = await api.ended(await begin(api, experiment, [*entries, *entries]))
    assert ids(status)[:750] == ids(status)[750:]
    assert len(model.calls) == 750

    body = keyed(experiment, [*entries, *entries])
    body["prompt_response_ins"][1400]["epoch"] = 2
    body["prompt_response_ins"].append({**body["prompt_response_ins"][0], "item_key": "new"})
    refused = await api("POST", PATH, body)
    assert refused.body["key_conflicts"] == [1400]
    assert await _count(api, "jobs") == 1
    assert await _count(api, "responses") == 750


async def test_a_large_upload_that_is_refused_keeps_what_another_job_has(
    session: aiohttp.ClientSession,
) -> None:
    """Rows of slices that are taken back stay where a job has found them by their keys."""
    model = ScriptedModel()
    async with LocalServer(model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([str(number) for number in range(1200)])
        model.gate.clear()
        large = keyed(experiment, entries)
        large["prompt_response_ins"].append({**large["prompt_response_ins"][0], "epoch": 2})
        sending = asyncio.create_task(api("POST", PATH, large))
        while await _count(api, "responses") == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
        path = await begin(api, experiment, entries[:3])
        refused = await sending
        model.gate.set()
        status = await api.ended(path)

    assert refused.status == 422
    assert texts(status) == ["SAY 0.", "SAY 1.", "SAY 2."]
    assert len(model.calls) == 3


async def test_a_restart_asks_once_for_what_two_jobs_want(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Both were accepted by a server that ended; the next one makes each row once, for both."""
    before, after, db = ScriptedModel(), ScriptedModel(), tmp_path / "s.db"
    before.gate.clear()
    async with LocalServer(db=db, model=before) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(WORDS)
        paths = [await begin(api, experiment, entries) for _ in range(2)]
        await before.reached(6)
    async with LocalServer(db=db, model=after) as server:
        api = Api(session, server)
        paths.append(await begin(api, experiment, entries))
        statuses = await asyncio.gather(*map(api.ended, paths))

    assert [texts(one) for one in statuses] == [SAID] * 3
    assert sorted(after.calls) == [f"Say {word}." for word in WORDS]


async def test_a_database_of_version_6_learns_of_keys(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Its unfinished jobs go on, and keys, and runs of ratings, are there."""
    model, db = ScriptedModel(), tmp_path / "s.db"
    model.gate.clear()
    async with LocalServer(db=db, model=model) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(WORDS, criteria=["x?"])
        path = f"{PATH}/{await api.post(PATH, batch(experiment, entries))}"
        run = await api.post(f"/experiments/{experiment}/run", {"rating_mode": "fast"})
    with closing(sqlite3.connect(db)) as raw:
        to_version_6(raw)
    async with LocalServer(db=db, model=(model := ScriptedModel())) as server:
        api = Api(session, server)
        assert texts(await api.ended(path)) == SAID
        await api.ended(f"/experiments/{experiment}/generation/{run['generation_task_id']}")
        calls = len(model.calls)
        statuses = [await api.ended(await begin(api, experiment, entries)) for _ in range(2)]

    assert statuses[0]["result"] == statuses[1]["result"]
    assert len(model.calls) == calls + 6


async def test_the_hosted_profile_knows_no_keys(session: aiohttp.ClientSession) -> None:
    """As the hosted service it takes no notice of them."""
    model = ScriptedModel()
    async with LocalServer(model=model, profile=WireProfile.hosted()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"])
        for epoch in (1, 2):
            await api.ended(await begin(api, experiment, entries, epoch=epoch))
        rows = await api.items(f"/responses?experiment_id={experiment}")

    assert [row["epoch"] for row in rows] == [1, 2]
    assert len(model.calls) == 2


async def test_keys_are_looked_up_in_their_index(api: Api) -> None:
    """All of a chunk by one statement, which walks through no table."""
    assert api.server._service is not None

    def plan(connection: Any) -> str:
        rows = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {item_keys._KNOWN}", ('[[1,"a"]]', 1)
        )
        return "\n".join(row.detail for row in rows)

    found = await api.server._service.database.read(plan)
    assert "responses_by_key (experiment_id=? AND item_key=?)" in found
    assert "SCAN" not in found.replace("SCAN wanted", "")
