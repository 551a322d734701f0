"""A server whose model is known, the link before it, and the flows that clients do there."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common.answers import answer, word
from benchmarks.common.children import SERVER_CORE, Child
from elluminate_async import AsyncClient, BatchOptions, Collection, Experiment, PromptTemplate


class Stage:
    """A server with what all runs share, and the link before it.

    Attributes:
        hosted: Whether it answers as the hosted service does.
    """

    def __init__(self, server: Child, link: Child, client: AsyncClient, *, hosted: bool) -> None:
        self.hosted = hosted
        self._server = server
        self._link = link
        self._client = client
        self._collections: dict[int, tuple[Collection, list[int]]] = {}

    async def prepare(self, sizes: Sequence[int]) -> None:
        """Make the template and a collection for each size."""
        client = self._client
        self._template: PromptTemplate
        self._template, _ = await client.prompt_templates.get_or_create(
            "Explain {{word}} in one paragraph.", name="Flow"
        )
        await client.criteria.add_many(["Is it right?"], prompt_template=self._template)
        for items in sizes:
            collection, _ = await client.collections.get_or_create(f"{items} words")
            rows = await client.template_variables.add_many(
                [{"word": word(n)} for n in range(items)], collection=collection
            )
            self._collections[items] = collection, [row.id for row in rows]

    async def run(
        self, child: Child, items: int, round_trip: float, draw: int, **extra: Any
    ) -> dict[str, float]:
        """One flow by one client, in an experiment of its own."""
        return await self.run_in(
            await self.experiment(items), child, items, round_trip, draw, **extra
        )

    async def experiment(self, items: int, *, stored: int = 0) -> Experiment:
        """Of the collection of that size, with a response to each of the first ``stored`` rows."""
        collection, variables = self._collections[items]
        experiment = await self._client.experiments.create(
            uuid.uuid4().hex, prompt_template=self._template, collection=collection
        )
        if stored:
            texts = [answer(number) for number in range(stored)]
            (
                await self._client.responses.add_many(
                    texts, template_variables=variables[:stored], experiment=experiment
                )
            ).raise_for_failed()
        return experiment

    async def run_in(
        self,
        experiment: Experiment,
        child: Child,
        items: int,
        round_trip: float,
        draw: int,
        *,
        rows: int | None = None,
        **extra: Any,
    ) -> dict[str, float]:
        """One flow by one client in ``experiment``, over its first ``rows``, or all of them."""
        collection, variables = self._collections[items]
        await self._link.ask(round_trip=round_trip)
        server_cpu = (await self._server.ask(draw=draw))["cpu_s"]
        figures = await child.ask(
            url=f"http://127.0.0.1:{self._link.ready}",
            api_key=self._server.ready["api_key"],
            experiment=experiment.id,
            variables=variables[:rows],
            template=self._template.id,
            collection=collection.id,
            name=f"{uuid.uuid4().hex} in one call",
            **extra,
        )
        figures["server_cpu_s"] = (await self._server.ask())["cpu_s"] - server_cpu
        return figures | await self._link.ask(round_trip=0.0)


@contextlib.asynccontextmanager
async def stage(
    latency: float, sizes: Sequence[int], *, hosted: bool = False
) -> AsyncGenerator[Stage]:
    """A fresh server whose model takes this long."""
    common = Path(__file__).parent
    options = ["--latency", latency, *(["--hosted"] if hosted else [])]
    async with Child(common / "service.py", *options, core=SERVER_CORE) as server:
        port = urlsplit(str(server.ready["url"])).port
        patient = BatchOptions(deadline=600.0)
        async with (
            Child(common / "link.py", port, core=SERVER_CORE) as link,
            AsyncClient(
                base_url=server.ready["url"], api_key=server.ready["api_key"], options=patient
            ) as client,
        ):
            made = Stage(server, link, client, hosted=hosted)
            await made.prepare(sizes)
            yield made
