"""Rows that lack a value that the template asks for: failed alone, and nothing is paid."""

from __future__ import annotations

import pytest

from elluminate_async import GenerationError
from tests.evaluation.scene import evaluating


async def test_a_run_asks_no_model_about_a_row_without_a_value() -> None:
    """Its response fails and names the placeholder; mended, `retry_failed` asks for it alone."""
    async with evaluating() as scene:
        client, model = scene.client, scene.model
        template = await client.prompt_templates.create("Say {{word}} to {{name}}", "T")
        rows = [{"word": "yes", "name": "Ann"}, {"word": "no"}, {}]
        collection = await client.collections.create("C", variables=rows)
        await client.criteria.add_many(["Ok?"], prompt_template=template)

        experiment = await client.experiments.create(
            "E", prompt_template=template, collection=collection, generate=True
        )
        assert model.answered == {"Say yes to Ann": 1}
        responses = await client.responses.list(experiment=experiment)
        told = [response.error and response.error.split(":")[0] for response in responses]
        assert told == [
            None,
            "the row has no value for {{name}}",
            "the row has no value for {{word}}, {{name}}",
        ]
        assert experiment.results is not None
        assert experiment.results.num_failed_responses == 2

        second = responses[1].prompt.template_variables
        mended = {"word": "no", "name": "Bob"}
        await client.template_variables.update(second, mended, collection=collection)
        await client.experiments.retry_failed(experiment)
        assert model.answered == {"Say yes to Ann": 1, "Say no to Bob": 1}
        again = await client.responses.list(experiment=experiment)
        assert [one.response_str for one in again] == [
            "echo Say yes to Ann",
            "echo Say no to Bob",
            "",
        ]
        assert len(again[1].ratings) == 1

        # An id says nothing of its row: the server finds it.
        with pytest.raises(GenerationError, match=r"no value for \{\{word\}\}, \{\{name\}\}"):
            await client.responses.generate(
                template_variables=again[2].prompt.template_variables.id, experiment=experiment
            )
        assert model.answered.total() == 2
