"""One random thing after another that a project may go through, by a seed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from elluminate_async.server import ModelAnswer, ModelError
from elluminate_async.server.llms.base import text_of
from elluminate_async.server.store import result_counts, usage_days
from tests.server.api import batch

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from elluminate_async.server import ModelRequest
    from tests.server.api import Api

WORDS = ["a", "b", "c", "d"]
AGENTS = "/experiments/2/agent-results"
# Of each table its columns, how many of them tell which row it is, and its rows counted anew.
COUNTED = {
    "usage_days": (3, usage_days.COUNTED),
    "experiment_counts": (2, result_counts.COUNTED),
    "experiment_verdicts": (3, result_counts.VERDICTS),
}


def require_counted(db: Path) -> int:
    """Every row that triggers keep is as it is counted anew; how many there are.

    Such as have nothing left may stay, with nothing in them.
    """
    found = 0
    with closing(sqlite3.connect(db)) as raw:
        for table, (keys, counted) in COUNTED.items():
            names = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(name for name in names if name != "changes")
            rows = raw.execute(f"SELECT {columns} FROM {table}")
            kept = {tuple(row[:keys]): row[keys:] for row in rows}
            anew = {tuple(row[:keys]): row[keys:] for row in raw.execute(counted)}
            nothing = [key for key in kept.keys() - anew.keys() if not any(kept[key])]
            assert {key: kept[key] for key in kept if key not in nothing} == anew, table
            found += len(anew)
    return found


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
    """A project with an experiment on a template, one of agents, and more with the time."""

    def __init__(self, api: Api, dice: random.Random) -> None:
        self._api = api
        self._dice = dice
        self._experiments = 0

    async def begin(self) -> None:
        await self._api.setup(WORDS, criteria=["good?", "short?"])
        prices = {"input_price_per_mtok": 0.15, "output_price_per_mtok": 0.6}
        body = {"name": "L", "llm_model_name": "m", "inference_type": "openai", **prices}
        self.config = (await self._api.post("/llm_configs", body))["id"]
        tasks = {"name": "A", "collection_type": "AGENTIC", "variables": [{"task": "t"}]}
        collection = await self._api.post("/collections", tasks)
        agents = {"name": "A", "evaluation_mode": "AGENTIC", "criterion_set_id": 1}
        await self._api.post("/experiments", {**agents, "collection_id": collection["id"]})

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
        experiments = await self._some("/experiments?prompt_template_id=1", 1)
        entries = await self._some("/collections/1/entries")
        body = batch(experiments[0], entries) if experiments else batch(0, [])
        for item in body["prompt_response_ins"]:
            item["epoch"] = self._dice.choice([1, 1, 2])
        return body

    async def _ended(self, route: str, body: dict[str, Any]) -> None:
        answer = await self._api("POST", route, body)
        if isinstance(answer.body, str):
            await self._api.ended(f"{route}/{answer.body}")

    async def _run(self, route: str, body: dict[str, Any]) -> None:
        answer = await self._api("POST", route, body)
        if answer.status < 300 and (task := answer.body["generation_task_id"]):
            await self._api.ended(f"/experiments/{answer.body['id']}/generation/{task}")

    async def do_generate(self) -> None:
        if (body := await self._batch())["prompt_response_ins"]:
            await self._ended("/responses/batches", body)

    async def do_cancel(self) -> None:
        if (body := await self._batch())["prompt_response_ins"]:
            task = await self._api.post("/responses/batches", body)
            await self._api("DELETE", f"/responses/batches/{task}")
            await self._api.ended(f"/responses/batches/{task}")

    async def do_store(self) -> None:
        body = await self._batch()
        for item in body["prompt_response_ins"]:
            item["messages"] = [{"role": "assistant", "content": "x"}]
            item["llm_config_id"] = self._dice.choice([None, self.config])
            figures = {"duration_seconds": self._dice.random() * 9, "input_tokens": 5}
            more = {"input_tokens": 2**62, "reasoning_tokens": 11, "duration_seconds": 1e300}
            item["metadata"] = self._dice.choice([None, figures, more])
        await self._ended("/responses/batches", body)

    async def do_upload_of_agents(self) -> None:
        verdict = {"criterion_text": "good?", "rating": "YES"}
        result = {
            "task_name": "t",
            "messages": [{"role": "assistant", "content": "done"}],
            "error": self._dice.choice([None, None, "it broke"]),
            "ratings": self._dice.choice([[], [verdict]]),
            "trajectory": self._dice.choice([None, {"steps": "none"}]),
            "duration_seconds": self._dice.choice([None, 12.5]),
        }
        answer = await self._api("POST", AGENTS, {"results": [result]})
        if answer.status < 300 and (task := answer.body["evaluation_task_id"]):
            await self._api.ended(f"/experiments/2/generation/{task}")

    async def do_rate(self) -> None:
        body = {"prompt_response_ids": await self._some("/responses", 6), "rating_mode": "fast"}
        await self._ended("/ratings/batches", body)

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
        body = {"name": f"run {self._experiments}", "prompt_template_id": 1, "collection_id": 1}
        config = self._dice.choice([None, self.config])
        more = {"generate": True, "rating_mode": "fast", "n_epochs": self._dice.choice([1, 2])}
        await self._run("/experiments", {**body, **more, "llm_config_id": config})

    async def do_retry(self) -> None:
        for id in await self._some("/experiments", 2):
            body = {"rating_mode": "fast", "discard_annotations": True}
            await self._run(f"/experiments/{id}/retry-failed", body)

    async def do_change_criteria(self) -> None:
        if self._dice.random() < 0.3:
            for id in await self._some("/criteria?prompt_template_id=1", 1):
                await self._api("DELETE", f"/criteria/{id}?cascade=true")
        await self._api.add_criteria([f"again {self._dice.random()}?"])

    async def do_replace_criteria(self) -> None:
        criteria = [{"criterion_str": f"anew {self._dice.random()}?"}]
        body = {"prompt_template_id": 1, "criteria": criteria, "delete_existing": True}
        await self._api("POST", "/criteria", body)

    async def do_delete_row(self) -> None:
        for id in await self._some("/collections/1/entries", 1):
            await self._api("DELETE", f"/collections/1/entries/{id}?cascade=true")
        await self._api(
            "POST", "/collections/1/entries", {"input_values": {"word": str(self._dice.random())}}
        )

    async def do_delete_experiment(self) -> None:
        if self._dice.random() < 0.2:
            for id in await self._some("/experiments?prompt_template_id=1", 1):
                await self._api("DELETE", f"/experiments/{id}?cascade=true")
