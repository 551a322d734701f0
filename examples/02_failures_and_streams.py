"""One outcome per input: read the failures, and stream ratings while responses are generated.

Starts the embedded server in this process, so it needs no key and no network.
"""

import asyncio

from elluminate_async import AsyncClient, BatchOptions, ItemError, RateLimit, RatingMode
from elluminate_async.server import LocalServer

OPTIONS = BatchOptions(max_concurrency=8, chunk_size=20, rate_limit=RateLimit(50, 1.0))


async def main() -> None:
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=OPTIONS) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("What is {{n}}²?", name="Squares")
        await client.criteria.add_many(["Is the number right?"], prompt_template=template)
        collection, _ = await client.collections.get_or_create("Numbers")
        experiment, _ = await client.experiments.get_or_create(
            "Squares", prompt_template=template, collection=collection
        )
        rows = await client.template_variables.add_many(
            ({"n": n} for n in range(100)), collection=collection
        )

        # A row that does not exist fails alone, at its own position.
        inputs = [*rows, 999_999]
        responses = await client.responses.generate_many(
            template_variables=inputs, experiment=experiment
        )
        print(responses)
        for position, error in responses.failed.items():
            print(position, error.code, error.to_dict())

        # Responses are rated while others are still being generated, under the same limits.
        generated = client.responses.stream_generate_many(
            template_variables=rows, experiment=experiment
        )
        passed = 0
        async with client.ratings.stream_rate_many(
            generated, rating_mode=RatingMode.FAST
        ) as stream:
            async for _, outcome in stream:
                if not isinstance(outcome, ItemError):
                    passed += all(rating.rating == "YES" for rating in outcome)
        print(f"{passed} of {len(rows)} passed every criterion")


asyncio.run(main())
