"""A thin HTTP client and a scripted model for the server's tests."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elluminate_async.server import ModelAnswer
from elluminate_async.server.llms.base import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import aiohttp

    from elluminate_async.server import LocalServer, ModelRequest


@dataclass
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """Requests below one project, or below the root with a path that begins with ``//``."""

    def __init__(self, session: aiohttp.ClientSession, server: LocalServer) -> None:
        self.session = session
        self.server = server
        self.root = f"{server.url}/api/v0"
        self.headers = {"X-API-Key": server.api_key}

    async def __call__(
        self, method: str, path: str, body: object = None, *, headers: Any = None, data: Any = None
    ) -> Answer:
        async with self.session.request(
            method,
            self.url(path),
            json=body,
            data=data,
            headers={**self.headers, **(headers or {})},
        ) as response:
            text = await response.text()
            return Answer(response.status, json.loads(text) if text else None, response.headers)

    def url(self, path: str) -> str:
        return self.root + (path[1:] if path.startswith("//") else f"/projects/1{path}")

    async def post(self, path: str, body: object = None, **kwargs: Any) -> Any:
        answer = await self("POST", path, body, **kwargs)
        assert answer.status in (200, 201, 202), answer
        return answer.body

    async def get(self, path: str) -> Any:
        answer = await self("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def items(self, path: str) -> list[Any]:
        return (await self.get(path))["items"]

    async def stream(self, path: str) -> bytes:
        async with self.session.get(self.url(path), headers=self.headers) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            return await response.read()

    async def ended(self, path: str) -> Any:
        """The last document of a job's stream."""
        return json.loads((await self.stream(f"{path}/stream")).split(b"data: ")[-1])

    async def template(self, text: str = "Say {{word}}.", name: str = "T") -> Any:
        messages = [{"role": "user", "content": text}]
        return await self.post("/prompt_templates", {"name": name, "messages": messages})

    async def setup(
        self, words: list[str], *, criteria: list[str] | None = None
    ) -> tuple[int, list[int]]:
        """An experiment and its entries' ids."""
        template = await self.template()
        if criteria is not None:
            await self.add_criteria(criteria)
        collection = await self.post(
            "/collections", {"name": "C", "variables": [{"word": word} for word in words]}
        )
        experiment = await self.post(
            "/experiments",
            {"name": "E", "prompt_template_id": template["id"], "collection_id": collection["id"]},
        )
        return experiment["id"], [one["id"] for one in collection["variables"]]

    async def add_criteria(self, criteria: list[str], template_id: int = 1) -> Any:
        return await self.post(
            "/criteria",
            {
                "prompt_template_id": template_id,
                "criteria": [{"criterion_str": text} for text in criteria],
            },
        )

    async def generate(self, experiment: int, entries: list[int]) -> Any:
        """Generate one response for each entry; the job's last document."""
        task = await self.post("/responses/batches", batch(experiment, entries))
        return await self.ended(f"/responses/batches/{task}")

    async def rate(self, responses: list[int], mode: str = "fast") -> Any:
        """Rate responses; the job's last document."""
        body = {"prompt_response_ids": responses, "rating_mode": mode}
        task = await self.post("/ratings/batches", body)
        return await self.ended(f"/ratings/batches/{task}")


def batch(experiment: int, entries: list[int]) -> dict[str, Any]:
    """Body of a batch of responses to generate."""
    return {
        "prompt_response_ins": [
            {"template_variables_id": entry, "experiment_id": experiment, "messages": []}
            for entry in entries
        ]
    }


def keep_none_of(db: Path, *, input_tokens: int) -> None:
    """Have a database refuse answers of so many tokens."""
    with closing(sqlite3.connect(db)) as raw:
        raw.execute(
            "CREATE TRIGGER refused BEFORE UPDATE OF is_ready ON responses "
            f"WHEN NEW.input_tokens = {input_tokens} "
            "BEGIN SELECT RAISE(ABORT, 'this is not kept'); END"
        )


async def edit(api: Api, statement: str) -> None:
    """Have the database as a statement makes it."""
    service = api.server._service
    assert service is not None
    await service.database.write(lambda connection: connection.exec_driver_sql(statement))


class ScriptedModel:
    """Upper-cases the prompt; fails or waits where the script says so.

    Attributes:
        calls: The last message of each call.
        whole: All of its messages, a judge's criteria among them.
        errors: Text of a prompt to what is raised for it.
        verdicts: Answers of the judge in order; then every criterion gets a YES.
        gate: Every call waits for it.
    """

    name = "scripted"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.whole: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.verdicts: list[str | Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.active = 0
        self.most_active = 0
        self._called = asyncio.Condition()

    async def reached(self, calls: int) -> None:
        """Wait until so many calls have begun."""
        async with self._called:
            await self._called.wait_for(lambda: len(self.calls) >= calls)

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = text_of(request.messages[-1])
        self.calls.append(prompt)
        self.whole.append("\n".join(map(text_of, request.messages)))
        async with self._called:
            self._called.notify_all()
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.active -= 1
        for text, error in self.errors.items():
            if text in prompt:
                raise error
        if request.json_schema is None:
            return ModelAnswer(prompt.upper(), input_tokens=1, output_tokens=2)
        return ModelAnswer(self._judge(list(request.json_schema.schema["properties"])))

    def _judge(self, keys: list[str]) -> str:
        if self.verdicts:
            scripted = self.verdicts.pop(0)
            if isinstance(scripted, Exception):
                raise scripted
            return scripted
        return json.dumps({key: {"verdict": "YES", "reasoning": "so"} for key in keys})

    async def aclose(self) -> None:
        pass


QUESTIONS = ["Is it upper case?", "Is it short?", "Is it a word?"]


async def flow(api: Api, mode: str) -> list[dict[str, Any]]:
    """The model's criteria, which are `QUESTIONS`, one response, its ratings."""
    await api.template()
    criteria = await api.post("/criteria", {"prompt_template_id": 1, "criteria": None})
    assert [one["criterion_str"] for one in criteria] == QUESTIONS
    collection = await api.post("/collections", {"name": "C", "variables": [{"word": "a"}]})
    body = {"name": "E", "prompt_template_id": 1, "collection_id": collection["id"]}
    await api.post("/experiments", body)
    await api.generate(1, [1])
    return (await api.rate([1], mode))["result"][0]
