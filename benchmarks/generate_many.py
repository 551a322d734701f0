"""How much faster is one `generate_many` than a `generate` per item, ten at a time?

    python benchmarks/generate_many.py --items 300 --repeats 3

Both make the same responses on the embedded server, with a model that answers after 20 ms.
Server and client share one process and one core, so the ratio is what counts, not the
seconds. The contenders take turns; the first turn of each is warm-up and not printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable

from elluminate_async import AsyncClient, Experiment, PromptResponse, TemplateVariables
from elluminate_async.server import LocalServer, OfflineModel

MODEL_SECONDS = 0.02
CONCURRENCY = 10

Contender = Callable[
    [AsyncClient, Experiment, list[TemplateVariables]], Awaitable[list[PromptResponse]]
]


async def as_a_batch(
    client: AsyncClient, experiment: Experiment, variables: list[TemplateVariables]
) -> list[PromptResponse]:
    return list(
        await client.responses.generate_many(template_variables=variables, experiment=experiment)
    )


async def one_by_one(
    client: AsyncClient, experiment: Experiment, variables: list[TemplateVariables]
) -> list[PromptResponse]:
    permits = asyncio.Semaphore(CONCURRENCY)

    async def one(entry: TemplateVariables) -> PromptResponse:
        async with permits:
            return await client.responses.generate(template_variables=entry, experiment=experiment)

    return list(await asyncio.gather(*map(one, variables)))


async def timed(
    contender: Contender,
    client: AsyncClient,
    experiment: Experiment,
    variables: list[TemplateVariables],
) -> float:
    started = time.perf_counter()
    responses = await contender(client, experiment, variables)
    seconds = time.perf_counter() - started
    # Fast and wrong is not a result.
    assert [r.prompt.template_variables.id for r in responses] == [v.id for v in variables]
    return seconds


async def main(items: int, repeats: int) -> None:
    async with (
        LocalServer(model=OfflineModel(delay=MODEL_SECONDS)) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{n}}.", name="Bench")
        collection, _ = await client.collections.get_or_create("Bench")
        experiment, _ = await client.experiments.get_or_create(
            "Bench", prompt_template=template, collection=collection
        )
        rows = await client.template_variables.add_many(
            ({"n": n} for n in range(items)), collection=collection
        )
        variables = list(rows)
        ratios: list[float] = []
        for repeat in range(repeats + 1):
            batch = await timed(as_a_batch, client, experiment, variables)
            single = await timed(one_by_one, client, experiment, variables)
            if repeat:
                ratios.append(single / batch)
                line = {
                    "benchmark": "generate_many",
                    "items": items,
                    "repeat": repeat,
                    "batch_seconds": round(batch, 3),
                    "one_by_one_seconds": round(single, 3),
                    "ratio": round(single / batch, 2),
                }
                print(json.dumps(line), flush=True)
        summary = {
            "benchmark": "generate_many",
            "items": items,
            "ratio_min": round(min(ratios), 2),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_max": round(max(ratios), 2),
        }
        print(json.dumps(summary))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.items, arguments.repeats))
