"""Usage by day is kept by triggers: whatever happens, it is what counting anew gives."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from elluminate_async.server import LocalServer, ModelAnswer, ModelError, ModelRequest
from elluminate_async.server.llms.base import text_of
from elluminate_async.server.store.usage_days import COUNTED
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, batch
from tests.server.earlier import to_version_5

WORDS = ["a", "b", "c", "d"]
STEPS = 60


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Dicey:
    """Answers, judges and fails by a seed."""

    name = "dicey"

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        if self._dice.random() < 0.15:
            raise ModelError("no answer")
        tokens = self._dice.choice([None, 3, 40])
        if request.json_schema is None:
            text = text_of(request.messages[-1])
            return ModelAnswer(text, input_tokens=tokens, output_tokens=7)
        keys = request.json_schema.schema["properties"]
        verdicts = {key: {"verdict": self._dice.choice(["YES", "NO"])} for key in keys}
        return ModelAnswer(json.dumps(verdicts))

    async def aclose(self) -> None:
        pass


class Life:
    """One thing after another that a project may go through, by a seed."""

    def __init__(self, api: Api, dice: random.Random) -> None:
        self._api = api
        self._dice = dice
        self._experiments = 0

    async def begin(self) -> None:
        await self._api.setup(WORDS, criteria=["good?", "short?"])
        body = {"name": "L", "llm_model_name": "m", "inference_type": "openai"}
        self.config = (await self._api.post("/llm_configs", body))["id"]

    async def step(self) -> str:
        """Do one; its name."""
        names = [name for name in dir(self) if name.startswith("do_")]
        name = self._dice.choice([*names, "do_rate", "do_store", "do_generate"])
        await getattr(self, name)()
        return name

    async def _some(self, path: str, most: int = 3) -> list[int]:
        ids = [one["id"] for one in await self._api.items(path)]
        return self._dice.sample(ids, min(len(ids), self._dice.randint(1, most)))

    async def _batch(self) -> dict[str, Any]:
        experiments = await self._some("/experiments", 1)
        entries = await self._some("/collections/1/entries")
        return batch(experiments[0], entries) if experiments else batch(0, [])

    async def do_generate(self) -> None:
        if (body := await self._batch())["prompt_response_ins"]:
            task = await self._api.post("/responses/batches", body)
            await self._api.ended(f"/responses/batches/{task}")

    async def do_store(self) -> None:
        body = await self._batch()
        for item in body["prompt_response_ins"]:
            item["messages"] = [{"role": "assistant", "content": "x"}]
            item["llm_config_id"] = self._dice.choice([None, self.config])
            figures = {"duration_seconds": self._dice.random() * 9, "input_tokens": 5}
            item["metadata"] = self._dice.choice([None, figures])
        answer = await self._api("POST", "/responses/batches", body)
        if isinstance(answer.body, str):
            await self._api.ended(f"/responses/batches/{answer.body}")

    async def do_rate(self) -> None:
        body = {"prompt_response_ids": await self._some("/responses", 6), "rating_mode": "fast"}
        answer = await self._api("POST", "/ratings/batches", body)
        if isinstance(answer.body, str):
            await self._api.ended(f"/ratings/batches/{answer.body}")

    async def do_rate_one(self) -> None:
        for id in await self._some("/responses", 1):
            await self._api(
                "POST", "/ratings", {"prompt_response_id": id, "rating_mode": "detailed"}
            )

    async def do_annotate(self) -> None:
        for id in await self._some("/responses", 1):
            await self._api("PATCH", f"/responses/{id}", {"annotation": "!"})

    async def do_delete_response(self) -> None:
        for id in await self._some("/responses", 2):
            await self._api("DELETE", f"/responses/{id}?cascade=true")

    async def do_run(self) -> None:
        self._experiments += 1
        body = {
            "name": f"run {self._experiments}",
            "prompt_template_id": 1,
            "collection_id": 1,
            "generate": True,
            "rating_mode": "fast",
        }
        made = await self._api("POST", "/experiments", body)
        if made.status < 300 and (task := made.body["generation_task_id"]):
            await self._api.ended(f"/experiments/{made.body['id']}/generation/{task}")

    async def do_retry(self) -> None:
        for id in await self._some("/experiments", 2):
            body = {"rating_mode": "fast", "discard_annotations": True}
            again = await self._api("POST", f"/experiments/{id}/retry-failed", body)
            if again.status < 300 and (task := again.body["generation_task_id"]):
                await self._api.ended(f"/experiments/{id}/generation/{task}")

    async def do_change_criteria(self) -> None:
        if self._dice.random() < 0.3:
            for id in await self._some("/criteria?prompt_template_id=1", 1):
                await self._api("DELETE", f"/criteria/{id}?cascade=true")
        await self._api.add_criteria([f"again {self._dice.random()}?"])

    async def do_delete_row(self) -> None:
        for id in await self._some("/collections/1/entries", 1):
            await self._api("DELETE", f"/collections/1/entries/{id}?cascade=true")
        await self._api(
            "POST", "/collections/1/entries", {"input_values": {"word": str(self._dice.random())}}
        )

    async def do_delete_experiment(self) -> None:
        if self._dice.random() < 0.2:
            for id in await self._some("/experiments", 1):
                await self._api("DELETE", f"/experiments/{id}?cascade=true")


def kept_and_counted(db: Path) -> tuple[list[Any], list[Any]]:
    """The days as they are, and as they are counted anew; such as have nothing left are checked."""
    with closing(sqlite3.connect(db)) as raw:
        kept = raw.execute("SELECT * FROM usage_days ORDER BY 1, 2, 3").fetchall()
        counted = raw.execute(f"{COUNTED} ORDER BY 1, 2, 3").fetchall()
    assert all(set(row[3:]) == {0} for row in kept if not row[3]), kept
    return [row for row in kept if row[3]], counted


@pytest.mark.parametrize("seed", range(2))
async def test_usage_is_what_counting_anew_gives(
    session: aiohttp.ClientSession, tmp_path: Path, seed: int
) -> None:
    """After each of many random things that change responses and ratings, cascades among them."""
    dice = random.Random(seed)
    async with LocalServer(db=tmp_path / "s.db", model=Dicey(dice)) as server:
        life = Life(Api(session, server), dice)
        await life.begin()
        done: list[str] = []
        counted: list[Any] = []
        for _ in range(STEPS):
            done.append(await life.step())
            kept, counted = kept_and_counted(tmp_path / "s.db")
            assert kept == counted, done
        assert len(set(done)) > 8
        assert counted


async def test_a_database_of_version_5_is_counted(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """What it has is in the statistics, and what comes after is added to it."""
    db = tmp_path / "s.db"
    dice = random.Random(7)
    async with LocalServer(db=db, model=Dicey(dice)) as server:
        api = Api(session, server)
        await api.setup(WORDS, criteria=["good?"])
        await api.generate(1, [1, 2, 3, 4])
        await api.rate([1, 2])
        before = await api.get("/responses/stats")
    with closing(sqlite3.connect(db)) as raw:
        to_version_5(raw)
    async with LocalServer(db=db, model=Dicey(dice)) as server:
        api = Api(session, server)
        assert await api.get("/responses/stats") == before
        await api.generate(1, [1])
        assert (await api.get("/responses/stats"))["total_responses"] == 5
    kept, counted = kept_and_counted(db)
    assert kept == counted
