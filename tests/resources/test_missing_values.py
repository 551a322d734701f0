"""Rows that lack a value that the template asks for: failed alone, and nothing is paid."""

from __future__ import annotations

import pytest

from elluminate_async import Column, GenerationError, RejectedError
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


async def test_a_column_s_default_is_the_value_of_rows_without_one() -> None:
    """Where a run, a batch or an evaluation asks; an empty default is none, an empty text one."""
    async with evaluating() as scene:
        client, model = scene.client, scene.model
        template = await client.prompt_templates.create("Say {{word}}{{end}}", "T")
        columns = [Column(name="word", default_value="hello"), Column(name="end")]
        rows = [{"end": "!"}, {"word": None, "end": "?"}, {"word": "", "end": "."}, {"word": "a"}]
        collection = await client.collections.create("C", columns=columns, variables=rows)
        await client.criteria.add_many(["Ok?"], prompt_template=template)
        asked = {"Say hello!": 1, "Say hello?": 1, "Say .": 1}

        ran = await client.experiments.create(
            "E", prompt_template=template, collection=collection, generate=True
        )
        assert model.answered == asked
        told = [one.error for one in await client.responses.list(experiment=ran)]
        assert [bool(error) for error in told] == [False, False, False, True]

        entries = await client.template_variables.list(collection)
        assert [template.render_row(row)[0]["content"] for row in entries[:3]] == [*asked]
        other = await client.experiments.create(
            "F", prompt_template=template, collection=collection
        )
        batch = await client.responses.generate_many(
            template_variables=entries[:3], experiment=other
        )
        assert [one.response_str for one in batch] == [f"echo {prompt}" for prompt in asked]

        await client.template_variables.delete(entries[3], collection=collection, cascade=True)
        result = await client.evaluate(prompt=template, collection=collection)
        assert [record.response_str for record in result] == [f"echo {prompt}" for prompt in asked]


async def test_a_row_of_another_collection_is_refused() -> None:
    """Generated or stored: the experiment's results are of its own collection."""
    async with evaluating() as scene:
        client = scene.client
        template = await client.prompt_templates.create("Say {{word}}", "T")
        own, other = [
            await client.collections.create(name, variables=[{"word": name}]) for name in "AB"
        ]
        experiment = await client.experiments.create("E", prompt_template=template, collection=own)
        (row,) = await client.template_variables.list(other)
        with pytest.raises(RejectedError, match="add the row to that one"):
            await client.responses.generate(template_variables=row, experiment=experiment)
        with pytest.raises(RejectedError, match="add the row to that one"):
            await client.responses.add("x", template_variables=row, experiment=experiment)
        assert not scene.model.answered
        assert await client.responses.list(experiment=experiment) == []
