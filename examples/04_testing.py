"""Testing a program of your own: a scripted service, faults in it, and a ledger of what it did.

Needs no extra, no key and no network. In a test suite, the fixtures of
``elluminate_async.testing.pytest_plugin`` do the same.
"""

import asyncio

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.testing import Fault, ScriptedService, check_batch

OPTIONS = BatchOptions(chunk_size=10, settle=0.5, deadline=30)


async def main() -> None:
    # Like the hosted service: no idempotency keys, no results with a job's status, listings in
    # any order, and rows that show only after a while.
    lost = Fault("502-processed", on="POST responses/batches", times=2)
    limited = Fault("429-retry-after", times=1)
    async with (
        ScriptedService(
            keys=False, results=False, order="shuffled", lag=0.2, faults=[lost, limited]
        ) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=OPTIONS) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{x}}.", name="Say")
        collection, _ = await client.collections.get_or_create("Words")
        experiment, _ = await client.experiments.get_or_create(
            "Test", prompt_template=template, collection=collection
        )
        inputs = [{"x": f"word {number}"} for number in range(50)]
        rows = await client.template_variables.add_many(inputs, collection=collection)
        responses = await client.responses.generate_many(
            template_variables=rows, experiment=experiment
        )
        report = check_batch(responses, inputs, service.ledger)
        print(f"answers lost: {lost.fired}, refused: {limited.fired}")
        print(report)
        assert report.clean


asyncio.run(main())
