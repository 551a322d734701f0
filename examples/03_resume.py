"""A journal: the same call again takes what is done and sends only the rest.

Starts the embedded server in this process, so it needs no key and no network. The first call
is cancelled midway, as Ctrl-C, a deploy or ``kill -9`` would end it.
"""

import asyncio
import tempfile
from pathlib import Path

from elluminate_async import AsyncClient, Batch, BatchOptions, Progress, PromptResponse
from elluminate_async.server import LocalServer

OPTIONS = BatchOptions(max_concurrency=2, chunk_size=5)


async def main(folder: Path) -> None:
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=OPTIONS) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("What is {{n}}²?", name="Squares")
        collection, _ = await client.collections.get_or_create("Numbers")
        experiment, _ = await client.experiments.get_or_create(
            "Squares", prompt_template=template, collection=collection
        )
        rows = await client.template_variables.add_many(
            ({"n": n} for n in range(100)), collection=collection
        )

        async def generate(options: BatchOptions = OPTIONS) -> Batch[PromptResponse]:
            return await client.responses.generate_many(
                template_variables=rows,
                experiment=experiment,
                journal=folder / "squares",
                options=options,
            )

        def stop_midway(progress: Progress) -> None:
            if progress.done == 20:
                first.cancel()

        first = asyncio.create_task(generate(OPTIONS.replace(on_progress=stop_midway)))
        await asyncio.wait({first})
        print("cancelled midway:", await count(client, experiment.id) < 100)

        responses = await generate()
        print(responses)
        print("generated once each:", await count(client, experiment.id) == 100)


async def count(client: AsyncClient, experiment: int) -> int:
    return len(await client.responses.list(experiment=experiment))


with tempfile.TemporaryDirectory() as name:
    asyncio.run(main(Path(name)))
