"""An experiment defined as another one is."""

from __future__ import annotations

import pytest

from elluminate_async import ConflictError, InputError, NotFoundError, RejectedError
from tests.resources.local import local

pytestmark = pytest.mark.anyio


async def test_a_clone_has_the_definition_and_none_of_the_responses() -> None:
    """But for what is given; by the object or by its id."""
    async with local() as client:
        template, _ = await client.prompt_templates.get_or_create("Say {{w}}.", name="t")
        collection = await client.collections.create("c", variables=[{"w": "a"}])
        other = await client.criterion_sets.create("another", criteria=["Is it short?"])
        source = await client.experiments.create(
            "first",
            prompt_template=template,
            collection=collection,
            description="as it was",
            generation_params={"temperature": 0.5},
            generate=True,
        )

        same = await client.experiments.clone(source, "second")
        changed = await client.experiments.clone(
            source.id, "third", criterion_set=other, description="otherwise"
        )

        kept = ("prompt_template", "collection", "llm_config", "criterion_set", "description")
        for name in (*kept, "generation_params", "rating_version", "evaluation_mode"):
            assert getattr(same, name) == getattr(source, name), name
        assert changed.criterion_set is not None
        assert (changed.criterion_set.id, changed.description) == (other.id, "otherwise")
        assert changed.generation_params == {"temperature": 0.5}
        assert await client.responses.list(experiment=same) == []
        await client.experiments.run(same)
        assert len(await client.responses.list(experiment=same)) == 1


async def test_a_clone_needs_a_name_of_its_own_and_a_collection() -> None:
    """A taken name is a conflict; scenarios are not told by an experiment."""
    async with local() as client:
        template, _ = await client.prompt_templates.get_or_create("Say {{w}}.", name="t")
        collection = await client.collections.create("c", variables=[{"w": "a"}])
        source = await client.experiments.create(
            "first", prompt_template=template, collection=collection
        )
        with pytest.raises(ConflictError):
            await client.experiments.clone(source, "first")

        scenarios = await client.scenario_sets.create("calls")
        talks = await client.experiments.create(
            "talks", scenario_set=scenarios, evaluation_mode="MULTI_TURN", persona_group=1
        )
        with pytest.raises(InputError, match="scenario_set="):
            await client.experiments.clone(talks, "more talks")


async def test_an_experiment_whose_configuration_is_deleted_runs_on_no_other() -> None:
    """It can be read; running and cloning it are refused, until a configuration is named."""
    async with local() as client:
        await client.prompt_templates.create("Say {{w}}.", "t")
        collection = await client.collections.create("c", variables=[{"w": "a"}])
        config = await client.llm_configs.create("small", "m")
        source = await client.experiments.create(
            "first", prompt_template=1, collection=collection, llm_config=config
        )
        with pytest.raises(ConflictError, match="by the experiment 'first': delete those"):
            await client.llm_configs.delete(config)
        await client.llm_configs.delete(config, cascade=True)

        shown = (await client.experiments.get("first")).llm_config
        assert shown is not None
        assert (shown.name, shown.llm_model_name) == (f"small (deleted, id {config.id})", "m")
        assert [one.name for one in await client.llm_configs.list()] == ["default"]
        assert len(await client.experiments.list(llm_config=config)) == 1
        with pytest.raises(RejectedError, match="the LLM config 'small' was deleted"):
            await client.experiments.run(source)
        for one in (source, source.id):
            with pytest.raises(NotFoundError, match="'small', was deleted: name another one"):
                await client.experiments.clone(one, "second")
        default = await client.llm_configs.get("default")
        same = await client.experiments.clone(source, "second", llm_config=default)
        assert (await client.experiments.run(same)).llm_config == default
