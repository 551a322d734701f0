"""The public names as a user's type checker sees them; checked, never run."""

from collections.abc import AsyncIterator
from typing import assert_type

from elluminate_async import (
    AgentResult,
    AgentResultsUpload,
    AsyncClient,
    Batch,
    BatchOptions,
    Criterion,
    ElluminateError,
    Evaluation,
    FileShare,
    GenerationStatus,
    ItemError,
    Progress,
    ProgressCallback,
    PromptResponse,
    PromptTemplate,
    RateLimit,
    Rating,
    RatingMode,
    Scenario,
    ScenarioIn,
    ScenarioSet,
    TemplateVariables,
)


async def agents_and_scenarios(client: AsyncClient) -> None:
    upload = await client.agent_results.upload(1, [{"task_name": "t"}, AgentResult(task_id=1)])
    assert_type(upload, AgentResultsUpload)
    assert_type(await client.agent_results.wait(1, upload.evaluation_task_id), GenerationStatus)
    async for status in client.agent_results.stream(1):
        assert_type(status, GenerationStatus)
    scenarios, _ = await client.scenario_sets.get_or_create("s", fields=["tone"])
    assert_type(scenarios, ScenarioSet)
    given = [ScenarioIn(goal="g", expected_conversation_outcome="o")]
    assert_type(await client.scenarios.add_many(given, scenario_set=scenarios), Batch[Scenario])


async def the_guides_loop(client: AsyncClient) -> None:
    template, created = await client.prompt_templates.get_or_create("{{x}}", name="n")
    assert_type(template, PromptTemplate)
    assert_type(created, bool)
    criteria, _ = await client.criteria.get_or_generate_many(template)
    assert_type(criteria[0], Criterion)
    collection, _ = await client.collections.get_or_create("c")
    variables = await client.template_variables.add_many([{"x": 1}], collection=collection)
    assert_type(variables, Batch[TemplateVariables])
    experiment, _ = await client.experiments.get_or_create(
        "e", prompt_template=template, collection=collection
    )
    responses = await client.responses.generate_many(
        run="nightly-42", item_keys=["a"], template_variables=variables, experiment=experiment
    )
    assert_type(responses, Batch[PromptResponse])
    batch_ratings = await client.ratings.rate_many(
        responses, rating_mode=RatingMode.FAST, run="nightly-42"
    )
    for i, response in enumerate(responses):
        assert_type(response.response_str, str)
        for rating in batch_ratings[i]:
            assert_type(rating, Rating)


async def tolerant(responses: Batch[PromptResponse]) -> None:
    for position, response in responses.succeeded.items():
        assert_type(position, int)
        assert_type(response, PromptResponse)
    for outcome in responses.outcomes:
        if isinstance(outcome, ItemError):
            assert_type(outcome.to_dict()["code"] is not None, bool)
        else:
            assert_type(outcome, PromptResponse)
    assert_type(responses[0], PromptResponse)
    assert_type(responses[1:], Batch[PromptResponse])
    assert_type(responses.raise_for_failed()[0], PromptResponse)


async def streams(client: AsyncClient, rows: AsyncIterator[TemplateVariables]) -> None:
    generated = client.responses.stream_generate_many(template_variables=rows, experiment=1)
    async with client.ratings.stream_rate_many(generated) as stream:
        async for position, outcome in stream:
            assert_type(position, int)
            if not isinstance(outcome, ItemError):
                assert_type(outcome[0], Rating)
    async for template in client.prompt_templates.list():
        assert_type(template, PromptTemplate)
    assert_type(await client.prompt_templates.list(), list[PromptTemplate])
    assert_type(await client.ratings.list(1), list[Rating])
    assert_type(await client.ratings.rate(1), list[Rating])


def options() -> BatchOptions:
    shared = BatchOptions(rate_limit=RateLimit(20, 2.0), share=FileShare("limits", name="key"))
    return shared.replace(chunk_size=10)


def ambiguous(error: ElluminateError) -> bool:
    return error.ambiguous


async def progress_is_shown_or_told(client: AsyncClient) -> None:
    def tell(progress: Progress) -> None:
        assert_type(progress.total, int | None)

    callback: ProgressCallback = tell
    for progress in (True, callback):
        result = await client.evaluate([], prompt="{{x}}", progress=progress)
        assert_type(result, Evaluation)


async def options_and_fields_have_types(client: AsyncClient) -> None:
    assert_type(client.options.replace(chunk_size=10, deadline=60.0), BatchOptions)
    client.options.replace(chunk_sise=10)  # type: ignore[call-arg]
    client.options.replace(chunk_size="10")  # type: ignore[arg-type]
    await client.llm_configs.create("own", "m", temperature=0.5, api_key="k")
    await client.llm_configs.create("own", "m", temprature=0.5)  # type: ignore[call-arg]
