"""The asynchronous client 1.5.2 with rows of 200 KB: generated, listed and rated, each as its own.

Prints how many there are of each at the end.
"""

import asyncio
import sys

from elluminate import AsyncClient

ROWS, LENGTH = 100, 200_000
VALUES = [{"word": f"word-{number:03} " + "x" * LENGTH} for number in range(ROWS)]


async def main():
    async with AsyncClient() as client:
        template, _ = await client.get_or_create_prompt_template("Long", "Spell {{word}}.")
        collection, _ = await client.get_or_create_collection("Long words", {"variables": VALUES})
        own = await client.create_criterion_set("Long criteria", criteria=["Is it long?"])
        experiment = await client.run_experiment("Long", template, collection, criterion_set=own)
        responses = experiment.rated_responses
        words = {response.prompt.template_variables.input_values["word"] for response in responses}
        assert words == {value["word"] for value in VALUES}
        assert all(len(response.ratings) == 1 for response in responses)
        print(len(responses), len({response.id for response in responses}), len(responses))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
