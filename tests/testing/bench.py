"""A client on a scripted service, with a template, a collection and an experiment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    Experiment,
    ItemError,
    PromptResponse,
    TemplateVariables,
)
from elluminate_async.testing import Report, ScriptedService, check_batch, check_ratings

OPTIONS = BatchOptions(chunk_size=10, settle=0.4, deadline=30)


def inputs_of(count: int) -> list[dict[str, Any]]:
    return [{"x": f"item {number}"} for number in range(count)]


@dataclass(slots=True)
class Bench:
    service: ScriptedService
    client: AsyncClient
    experiment: Experiment
    variables: list[TemplateVariables]
    inputs: Sequence[Mapping[str, Any]]

    async def generate(self, **arguments: Any) -> Batch[PromptResponse]:
        return await self.client.responses.generate_many(
            template_variables=self.variables, experiment=self.experiment, **arguments
        )

    def check(self, batch: Batch[PromptResponse]) -> Report:
        return check_batch(batch, self.inputs, self.service.ledger)

    def check_ratings(self, ratings: Batch[Any], batch: Batch[PromptResponse]) -> Report:
        ids = [None if isinstance(row, ItemError) else row.id for row in batch.outcomes]
        return check_ratings(ratings, ids, self.service.ledger)


@asynccontextmanager
async def bench(
    service: ScriptedService,
    inputs: Sequence[Mapping[str, Any]],
    options: BatchOptions = OPTIONS,
    **arguments: Any,
) -> AsyncGenerator[Bench]:
    """Faults wait until all is set up; ``arguments`` are the client's."""
    faults, service.faults = service.faults, []
    async with (
        service,
        AsyncClient(
            base_url=service.url, api_key=service.api_key, options=options, **arguments
        ) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Bench")
        collection, _ = await client.collections.get_or_create("values")
        variables = await client.template_variables.add_many(inputs, collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "run", prompt_template=template, collection=collection
        )
        service.faults = faults
        yield Bench(service, client, experiment, list(variables), inputs)
