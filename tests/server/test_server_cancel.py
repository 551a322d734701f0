"""Jobs that are cancelled: no more is asked of a model, and what is done stays."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.limits.fairness import FairGate
from elluminate_async.schemas import CreateProjectRequest
from elluminate_async.server import LocalServer, WireProfile, recorder
from elluminate_async.server.store import projects
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

    from elluminate_async.server.service import Service


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


WORDS = [f"w{i}" for i in range(8)]
OFFICIAL = {"SDK-Version": "1.5.2", "User-Agent": "python-httpx/0.28"}


class Gated(ScriptedModel):
    """Answers the first calls at once, and holds the others for ever."""

    active: int

    def __init__(self, answered: int) -> None:
        super().__init__()
        self._left = answered

    async def complete(self, request: Any) -> Any:
        if self._left:
            self._left -= 1
            return await super().complete(request)
        self.calls.append("held")
        self.active += 1
        try:
            return await asyncio.Future[Any]()
        finally:
            self.active -= 1


def service_of(api: Api) -> Service:
    assert api.server._service is not None, "running"
    return api.server._service


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def processed(api: Api, path: str, count: int) -> None:
    async with asyncio.timeout(30):
        while (await api.get(path))["progress"]["processed"] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def begun(
    api: Api, model: ScriptedModel, done: int, in_flight: int
) -> tuple[int, list[int], str]:
    """A batch of which so many are done, and committed, and so many are asked for."""
    experiment, entries = await api.setup(WORDS)
    task = await api.post("/responses/batches", batch(experiment, entries))
    path = f"/responses/batches/{task}"
    await until(lambda: model.active == in_flight)
    await processed(api, path, done)
    return experiment, entries, path


async def cancelled(api: Api, path: str) -> None:
    answer = await api("DELETE", path)
    assert (answer.status, answer.body) == (204, None)


async def test_a_cancelled_job_asks_no_more_and_keeps_what_is_done(
    session: aiohttp.ClientSession,
) -> None:
    """Of 8 items 3 are done and 2 are asked for: these 2 are abandoned, 3 are never asked for."""
    model = Gated(3)
    async with LocalServer(model=model, max_model_calls=2) as server:
        api = Api(session, server)
        experiment, entries, path = await begun(api, model, done=3, in_flight=2)
        async with asyncio.timeout(30):
            await cancelled(api, path)
        await until(lambda: model.active == 0)
        status = await api.get(path)
        rows = await api.items(f"/responses?experiment_id={experiment}")

        assert len(model.calls) == 5
        assert status["status"] == "REVOKED"
        assert status["error_msg"] == "cancelled, with 3 of 8 items done"
        assert status["progress"] == {"processed": 8, "total": 8, "failed": 5}
        assert [row and row["id"] for row in status["result"]] == [*map(_id, rows), *[None] * 5]
        assert [(one["index"], one["code"]) for one in status["item_failures"]] == [
            (index, "revoked") for index in range(3, 8)
        ]
        assert [row["prompt"]["template_variables"]["id"] for row in rows] == entries[:3]


def _id(row: dict[str, Any]) -> int:
    return row["id"]


async def test_an_answer_that_came_just_before_is_kept(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model has answered is committed with the end, though it waited for company."""
    monkeypatch.setattr(recorder, "_LINGER_SECONDS", 600.0)
    async with LocalServer(model=(model := Gated(3))) as server:
        api = Api(session, server)
        experiment, _, path = await begun(api, model, done=0, in_flight=5)
        assert await api.items(f"/responses?experiment_id={experiment}") == []
        await cancelled(api, path)
        rows = await api.items(f"/responses?experiment_id={experiment}")
        status = await api.get(path)

    assert len(rows) == 3
    assert [row and row["id"] for row in status["result"]] == [*map(_id, rows), *[None] * 5]


async def test_a_cancelled_rating_job_keeps_its_verdicts(session: aiohttp.ClientSession) -> None:
    """Responses that are rated stay rated; the others have no rating, and their rows stay."""
    model = ScriptedModel()
    async with LocalServer(model=model, judge=(judge := Gated(2))) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(WORDS[:4], criteria=["Is it a word?"])
        await api.generate(experiment, entries)
        ids = [row["id"] for row in await api.items(f"/responses?experiment_id={experiment}")]
        body = {"prompt_response_ids": ids, "rating_mode": "fast"}
        path = f"/ratings/batches/{await api.post('/ratings/batches', body)}"
        await until(lambda: judge.active == 2)
        await processed(api, path, 2)
        await cancelled(api, path)
        status = await api.get(path)
        rows = await api.items(f"/responses?experiment_id={experiment}")

    assert status["status"] == "REVOKED"
    assert sorted(len(row["ratings"]) for row in rows) == [0, 0, 1, 1]
    assert [len(row) for row in status["result"]] == [len(row["ratings"]) for row in rows]
    assert [one["code"] for one in status["item_failures"]] == ["revoked"] * 2


async def test_an_experiments_job_is_cancelled_too(session: aiohttp.ClientSession) -> None:
    """Under its own path: what is generated stays, also where it is not rated."""
    model = ScriptedModel()
    async with LocalServer(model=model, judge=(judge := Gated(1))) as server:
        api = Api(session, server)
        experiment, _ = await api.setup(WORDS[:3], criteria=["Is it a word?"])
        run = await api.post(f"/experiments/{experiment}/run", {"rating_mode": "fast"})
        path = f"/experiments/{experiment}/generation/{run['generation_task_id']}"
        await until(lambda: judge.active == 2)
        assert (await api("DELETE", path.replace(f"/{experiment}/", "/99/"))).status == 404
        await cancelled(api, path)
        status = await api.get(path)
        rows = await api.items(f"/responses?experiment_id={experiment}")
        there = await api.get(f"/experiments/{experiment}")

    assert status["status"] == "REVOKED"
    assert len(rows) == 3
    assert there["logs"] == "cancelled, with 1 of 3 items done\n"


async def test_a_stream_tells_the_end_at_once(api: Api, model: ScriptedModel) -> None:
    """Who follows the job is told REVOKED when it is, not at the next interval."""
    model.gate.clear()
    _, _, path = await begun(api, model, done=0, in_flight=8)
    stream = asyncio.create_task(api.stream(f"{path}/stream?polling_interval=10"))
    await asyncio.sleep(1)
    await cancelled(api, path)
    async with asyncio.timeout(5):
        last = json.loads((await stream).split(b"data: ")[-1])

    assert last["status"] == "REVOKED"


async def test_cancelling_again_or_too_late_changes_nothing(api: Api, model: ScriptedModel) -> None:
    """A second DELETE, and one of a job that has ended, are answered alike."""
    model.gate.clear()
    experiment, entries, path = await begun(api, model, done=0, in_flight=8)
    first = await asyncio.gather(*[api("DELETE", path) for _ in range(3)])
    assert [one.status for one in first] == [204] * 3
    status = await api.get(path)
    await cancelled(api, path)
    assert await api.get(path) == status

    model.gate.set()
    task = await api.post("/responses/batches", batch(experiment, entries))
    ended = await api.ended(f"/responses/batches/{task}")
    await cancelled(api, f"/responses/batches/{task}")
    assert await api.get(f"/responses/batches/{task}") == ended
    assert ended["status"] == "SUCCESS"


async def test_a_job_of_another_kind_or_of_nobody_is_not_there(
    api: Api, model: ScriptedModel
) -> None:
    """404 by another kind's path and for an id that is none; the job goes on."""
    model.gate.clear()
    _, _, path = await begun(api, model, done=0, in_flight=8)

    other = path.replace("/responses/", "/ratings/")
    assert (await api("DELETE", other)).status == 404
    assert (await api("DELETE", "/responses/batches/none")).status == 404
    assert (await api.get(path))["status"] == "STARTED"


async def test_a_job_of_another_project_is_not_there(api: Api, model: ScriptedModel) -> None:
    """404 by another project's path, also with a key for both; the job goes on."""
    model.gate.clear()
    _, _, path = await begun(api, model, done=0, in_flight=8)
    service = service_of(api)
    body = CreateProjectRequest(name="Other", organization_id=1)
    other = await service.database.write(lambda c: projects.create(c, body, "m").id)
    await service.keys.load()
    assert await api.get(f"//projects/{other}/responses")
    answer = await api("DELETE", f"//projects/{other}{path}")

    assert answer.status == 404
    assert (await api.get(path))["status"] == "STARTED"


async def test_a_job_that_waits_for_its_turn_never_begins(
    api: Api, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before it has a place among the running ones: no call is made for it."""
    model.gate.clear()
    experiment, entries, _ = await begun(api, model, done=0, in_flight=8)
    jobs = service_of(api).jobs
    monkeypatch.setattr(jobs, "_slots", FairGate(0))
    task = await api.post("/responses/batches", batch(experiment, entries))
    await cancelled(api, f"/responses/batches/{task}")
    status = await api.get(f"/responses/batches/{task}")

    assert status["status"] == "REVOKED"
    assert status["result"] == [None] * 8
    assert len(model.calls) == 8


async def test_a_restart_does_not_take_it_up(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Once the DELETE is answered, a server that is stopped and started again leaves it alone."""
    model = Gated(2)
    async with LocalServer(db=tmp_path / "e.db", model=model, max_model_calls=1) as one:
        api = Api(session, one)
        experiment, _, path = await begun(api, model, done=2, in_flight=1)
        key = one.api_key
        await cancelled(api, path)
        before = await api.get(path)
    again = ScriptedModel()
    async with LocalServer(db=tmp_path / "e.db", model=again, api_key=key) as two:
        api = Api(session, two)
        assert await api.get(path) == before
        assert len(await api.items(f"/responses?experiment_id={experiment}")) == 2
        await asyncio.sleep(0.1)
        assert again.calls == []


async def test_the_key_still_names_the_cancelled_job(api: Api, model: ScriptedModel) -> None:
    """The same POST under the same key begins nothing: it is told of the job that was cancelled."""
    model.gate.clear()
    experiment, entries = await api.setup(WORDS)
    headers = {"Idempotency-Key": "k1"}
    task = await api.post("/responses/batches", batch(experiment, entries), headers=headers)
    await until(lambda: model.active == 8)
    await cancelled(api, f"/responses/batches/{task}")
    again = await api.post("/responses/batches", batch(experiment, entries), headers=headers)

    assert again == task
    assert (await api.get(f"/responses/batches/{task}"))["status"] == "REVOKED"
    assert len(model.calls) == 8


async def test_a_batch_is_cancelled_by_its_key(api: Api, model: ScriptedModel) -> None:
    """Who never learned the job's id ends it by the key; an unknown key ends nothing."""
    model.gate.clear()
    experiment, entries = await api.setup(WORDS)
    headers = {"Idempotency-Key": "k1"}
    task = await api.post("/responses/batches", batch(experiment, entries), headers=headers)
    await until(lambda: model.active == 8)
    assert (await api("DELETE", "/responses/batches")).status == 422
    other = await api("DELETE", "/responses/batches", headers={"Idempotency-Key": "k2"})
    assert (other.status, model.active) == (204, 8)
    assert (await api("DELETE", "/responses/batches", headers=headers)).status == 204

    await until(lambda: model.active == 0)
    assert (await api.get(f"/responses/batches/{task}"))["status"] == "REVOKED"


async def test_a_model_that_swallows_its_cancellation_holds_nothing_up(
    session: aiohttp.ClientSession,
) -> None:
    """The job is REVOKED while the model goes on; what it says then is dropped."""
    release = asyncio.Event()

    class Stubborn(ScriptedModel):
        async def complete(self, request: Any) -> Any:
            self.active += 1
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()
            return await super().complete(request)

    model = Stubborn()
    async with LocalServer(model=model, max_model_calls=2) as server:
        api = Api(session, server)
        experiment, _, path = await begun(api, model, done=0, in_flight=2)
        await cancelled(api, path)
        status = await api.get(path)
        release.set()
        await until(lambda: not service_of(api).jobs._tasks)

        assert status["status"] == "REVOKED"
        assert await api.get(path) == status
        assert len(model.calls) == 2
        assert await api.items(f"/responses?experiment_id={experiment}") == []


async def test_an_official_client_is_told_an_end_that_it_knows(
    api: Api, model: ScriptedModel
) -> None:
    """It asks for ever about any other end, so that a job which somebody cancelled is FAILURE."""
    model.gate.clear()
    _, _, path = await begun(api, model, done=0, in_flight=8)
    await cancelled(api, path)
    answer = await api("GET", path, headers=OFFICIAL)

    assert answer.body["status"] == "FAILURE"
    assert answer.body["error_msg"] == "cancelled, with 0 of 8 items done"


async def test_a_server_that_stands_in_for_the_hosted_one_cancels_nothing(
    session: aiohttp.ClientSession,
) -> None:
    """It neither advertises it nor does it."""
    async with LocalServer(model=(model := ScriptedModel()), profile=WireProfile.hosted()) as one:
        api = Api(session, one)
        model.gate.clear()
        experiment, entries = await api.setup(WORDS)
        task = await api.post("/responses/batches", batch(experiment, entries))
        await until(lambda: model.active == 8)
        assert (await api("DELETE", f"/responses/batches/{task}")).status == 405
        assert model.active == 8
        said = await api.post("//version/compatible", {"current_sdk_version": "1.5.2"})
        assert "capabilities" not in said


async def hung_up(api: Api, model: ScriptedModel, path: str, body: Any, **kwargs: Any) -> None:
    """Ask for one, and close the connection once the model is asked."""
    before = model.active
    asking = asyncio.create_task(api("POST", path, body, **kwargs))
    await until(lambda: model.active > before)
    asking.cancel()
    await asyncio.wait({asking})


async def test_who_hangs_up_on_a_single_generation_ends_it(api: Api, model: ScriptedModel) -> None:
    """Without a key nobody can ask for its answer: its model call is abandoned, no row is left."""
    model.gate.clear()
    experiment, (entry, *_) = await api.setup(WORDS)
    body = batch(experiment, [entry])["prompt_response_ins"][0]
    await hung_up(api, model, "/responses/generate", body)
    await until(lambda: model.active == 0)

    assert await api.items(f"/responses?experiment_id={experiment}") == []


async def test_under_a_key_a_broken_connection_is_no_end(api: Api, model: ScriptedModel) -> None:
    """The same request gets the answer that was paid for; a DELETE under the key ends it."""
    model.gate.clear()
    experiment, (entry, *_) = await api.setup(WORDS)
    body = batch(experiment, [entry])["prompt_response_ins"][0]
    headers = {"Idempotency-Key": "k1"}
    await hung_up(api, model, "/responses/generate", body, headers=headers)
    await asyncio.sleep(0.1)
    assert model.active == 1
    model.gate.set()
    await until(lambda: not service_of(api).in_flight)
    kept = await api.post("/responses/generate", body, headers=headers)
    assert len(model.calls) == 1

    model.gate.clear()
    headers = {"Idempotency-Key": "k2"}
    await hung_up(api, model, "/responses/generate", body, headers=headers)
    assert (await api("DELETE", "/responses/generate", headers=headers)).status == 204
    await until(lambda: model.active == 0)
    rows = await api.items(f"/responses?experiment_id={experiment}")
    assert [row["id"] for row in rows] == [kept["id"]]


async def test_a_single_rating_is_abandoned_by_its_key(api: Api, model: ScriptedModel) -> None:
    """And who still waits for it is told that it was cancelled."""
    experiment, entries = await api.setup(WORDS[:1], criteria=["Is it a word?"])
    await api.generate(experiment, entries)
    (row,) = await api.items(f"/responses?experiment_id={experiment}")
    model.gate.clear()
    headers = {"Idempotency-Key": "k1"}
    body = {"prompt_response_id": row["id"], "rating_mode": "fast"}
    asking = asyncio.create_task(api("POST", "/ratings", body, headers=headers))
    await until(lambda: model.active == 1)
    assert (await api("DELETE", "/ratings", headers=headers)).status == 204
    answer = await asking

    assert (answer.status, model.active) == (410, 0)
    assert await api.items(f"/ratings?prompt_response_id={row['id']}") == []
