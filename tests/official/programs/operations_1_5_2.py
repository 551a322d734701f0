"""Named operations by the official 1.5.2, those that ``tests/official/differential`` has.

Reads lines of JSON: the name of an operation, and the address of its own copy of the server. The
first, of no name, is for reading the objects that all share. Prints what each returned, as a
line of JSON with the name.
"""

import asyncio
import functools
import json
import ssl
import sys

from elluminate import AsyncClient

import operations_of_parts  # noqa: F401  (they tell of themselves)
import operations_of_work  # noqa: F401
import whole
from operations import OPERATIONS

whole.watch()

sleep = asyncio.sleep
# One for all clients: it takes longer to make than most operations, and nothing is encrypted.
ssl.create_default_context = functools.cache(ssl.create_default_context)


async def soon(seconds):
    """In place of the three seconds between two looks at a job."""
    await sleep(min(seconds, 0.02))


class Given:
    """The objects that all begin with, read from one of the copies."""

    async def read(self, client):
        experiments = {one.name: one for one in await client._experiments.alist()}
        self.template = await client.get_prompt_template(name="T", version=1)
        self.unused = await client.get_prompt_template(name="U", version=1)
        self.collection = await client.get_collection(name="C")
        self.rows = self.collection.variables
        self.spare = await client.get_collection(name="D")
        self.spare_rows = self.spare.variables
        self.criterion = (await client._criteria.alist(self.template))[0]
        self.loose = await client.get_criterion_set(name="S")
        self.config = await client.get_llm_config(name="L")
        self.defined, self.run = experiments["defined"], experiments["run"]
        self.failed, self.agents = experiments["failed"], experiments["agents"]
        self.responses = await client._responses.alist(experiment=self.run)
        self.scenarios = await client.get_scenario_set(name="talks")
        self.scenario = (await client._scenario_sets.alist_scenarios(self.scenarios))[0]


async def main():
    asyncio.sleep = soon
    given = Given()

    async def done(name, url):
        async with AsyncClient(base_url=url) as client:
            if name:
                answer = await OPERATIONS[name](client, given)
            else:
                await given.read(client)
                answer = sorted(OPERATIONS)
        print(json.dumps([name, answer]), flush=True)

    async with asyncio.TaskGroup() as group:
        while line := await asyncio.to_thread(sys.stdin.readline):
            group.create_task(done(*json.loads(line)))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
