"""The asynchronous client 1.5.2 from a template to streamed ratings.

Every response and rating is checked to belong to its variables. Prints ``ok`` at the end.
"""

import asyncio
import sys
import uuid

from elluminate import AsyncClient
from elluminate.schemas import RatingMode

import whole

whole.watch()

VALUES = [{"word": f"word-{number}"} for number in range(12)]


def check(experiment, *, epochs):
    responses = experiment.rated_responses
    assert len(responses) == len(VALUES) * epochs, len(responses)
    seen = {}
    for response in responses:
        word = response.prompt.template_variables.input_values["word"]
        seen[word] = seen.get(word, 0) + 1
        assert f"Spell {word}." in response.messages[-1].content, response.messages
        assert len(response.ratings) == 2, response.ratings
        assert [r.criterion.criterion_str for r in response.ratings] == [
            "Is it long?",
            "Is it a word?",
        ]
    assert set(seen.values()) == {epochs}
    assert set(seen) == {value["word"] for value in VALUES}


async def main():
    run = uuid.uuid4().hex[:8]
    async with AsyncClient() as client:
        template, _ = await client.get_or_create_prompt_template("Flow", "Spell {{word}}.")
        again, created = await client.get_or_create_prompt_template("Flow", "Spell {{word}}.")
        assert again.id == template.id
        assert not created
        assert (await client.get_prompt_template(name="Flow")).id == template.id
        criteria, _ = await template.aget_or_generate_criteria()
        assert criteria
        collection, _ = await client.get_or_create_collection("Flow words", {"variables": VALUES})
        assert len(collection.variables) == len(VALUES)
        own = await client.create_criterion_set(
            f"Flow criteria {run}", criteria=["Is it long?", "Is it a word?"]
        )

        experiment = await client.run_experiment(
            f"run {run}", template, collection, criterion_set=own, n_epochs=2
        )
        check(experiment, epochs=2)
        assert experiment.results.num_rated_responses == 2 * len(VALUES)

        statuses, streamed = [], None
        async for event in client.stream_experiment(
            f"stream {run}", template, collection, criterion_set=own, polling_interval=0.1
        ):
            statuses.append(event.status)
            streamed = event
        assert streamed.is_complete, statuses
        assert "SUCCESS" in str(statuses[-1]), statuses
        streamed = await client.get_experiment(name=f"stream {run}")
        check(streamed, epochs=1)

        responses = streamed.rated_responses
        async for event in client.stream_batch_rate(responses, RatingMode.FAST, 0.1):
            last = event
        assert len(last.result) == len(responses)
        rated = await client.get_experiment(name=f"stream {run}")
        for response, ratings in zip(rated.rated_responses, last.result, strict=True):
            assert [one.id for one in ratings] == [one.id for one in response.ratings]
    print("ok")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
