"""An end in order: calls of models in flight end, and no other begins."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import anyio

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest

AT_ONCE = 3
ROWS = 12


class Gated:
    """Answers once it is let, and counts what it was asked."""

    name = "gated"

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.full = anyio.Event()
        self.let = anyio.Event()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = str(request.messages[-1]["content"])
        self.asked[prompt] += 1
        if self.asked.total() == AT_ONCE:
            self.full.set()
        await self.let.wait()
        return ModelAnswer(text=f"answer to {prompt}")

    async def aclose(self) -> None:
        """Hold nothing."""


async def test_a_drain_keeps_what_is_in_flight_and_begins_nothing(tmp_path: Path) -> None:
    """The next start does the rest: each prompt was asked for once in all."""
    model = Gated()
    db = tmp_path / "s.db"
    async with (
        LocalServer(db=db, model=model, max_model_calls=AT_ONCE) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{word}}", name="t")
        collection, _ = await client.collections.get_or_create("c")
        rows = await client.template_variables.add_many(
            [{"word": str(n)} for n in range(ROWS)], collection=collection
        )
        experiment, _ = await client.experiments.get_or_create(
            "e", prompt_template=template, collection=collection
        )
        journal = tmp_path / "j"
        generating = asyncio.ensure_future(
            client.responses.generate_many(
                template_variables=rows, experiment=experiment, journal=journal
            )
        )
        await model.full.wait()
        generating.cancel()
        draining = asyncio.ensure_future(server.drain())
        await anyio.lowlevel.checkpoint()
        assert not draining.done()
        model.let.set()
        await draining
    assert model.asked.total() == AT_ONCE

    async with (
        LocalServer(db=db, model=model, max_model_calls=AT_ONCE) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        responses = await client.responses.generate_many(
            template_variables=rows, experiment=experiment, journal=journal
        )

    assert [one.response_str for one in responses] == [f"answer to Say {n}" for n in range(ROWS)]
    assert set(model.asked.values()) == {1}


async def test_a_drain_of_an_idle_server_is_over_at_once() -> None:
    """Nothing is in flight."""
    async with LocalServer() as server:
        with anyio.fail_after(60):
            await server.drain()
