"""The asynchronous client 1.5.2 does again what failed of an experiment, by itself and streamed.

The model fails once for each of the bad words. Prints ``ok`` at the end.
"""

import asyncio
import sys

from elluminate import AsyncClient, Client
from elluminate.schemas import RatingMode

import whole

whole.watch()

WORDS = ["good-1", "good-2", "bad-1", "bad-2"]


async def main():
    async with AsyncClient() as client:
        template, _ = await client.get_or_create_prompt_template("Retry", "Spell {{word}}.")
        collection, _ = await client.get_or_create_collection(
            "Retry words", {"variables": [{"word": word} for word in WORDS]}
        )
        criteria = await client.create_criterion_set("Retry criteria", criteria=["Is it a word?"])
        statuses = []
        async for event in client.stream_experiment(
            "retried", template, collection, criterion_set=criteria, polling_interval=0.1
        ):
            statuses.append(event.status.value)
        assert statuses[-1] == "SUCCESS", statuses
        assert event.progress.total_responses == len(WORDS), event
        before = event.result
        assert before.results.num_failed_responses == 2, before.results

        experiment = await client.get_experiment(name="retried")
        await experiment.aretry_failed(rating_mode=RatingMode.FAST)
        check(before, experiment)
    await asyncio.to_thread(again)
    print("ok")


def again():
    """The synchronous client: nothing is left to do, so all stays."""
    with_client = Client()
    experiment = with_client.get_experiment(name="retried")
    before = {one.id: one for one in experiment.rated_responses}
    experiment.retry_failed()
    assert experiment.generation_task_id is None
    assert {one.id for one in experiment.rated_responses} == before.keys()


def check(before, after):
    assert after.results.num_failed_responses == 0, after.results
    assert after.results.num_rated_responses == len(WORDS), after.results
    now = {one.id: one for one in after.rated_responses}
    assert len(now) == len(WORDS), now
    for old in before.rated_responses:
        if old.error is None:
            assert now[old.id].messages == old.messages
            assert [one.id for one in now[old.id].ratings] == [one.id for one in old.ratings]
    places = [(one.prompt.template_variables.id, one.epoch) for one in now.values()]
    assert len(set(places)) == len(places), places
    assert all(one.error is None and len(one.ratings) == 1 for one in now.values())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
