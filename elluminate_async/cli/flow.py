"""The flow of the service's batch guide: template, criteria, rows, responses, ratings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from elluminate_async import (
    AsyncClient,
    Batch,
    Collection,
    ConflictError,
    Criterion,
    Experiment,
    PromptResponse,
    PromptTemplate,
    Rating,
    RatingMode,
)

TEMPLATE = (
    "Explain why {{language}}'s {{quirk}} is considered surprising or counterintuitive, "
    "and demonstrate it with a short code example that might trip up even experienced developers."
)
COLUMNS = ("language", "quirk")
TEMPLATE_NAME = "Programming Quirks"
COLLECTION_NAME = "Programming Quirks Variables"
EXPERIMENT_NAME = "Programming Quirks Analysis"


@dataclass(frozen=True, slots=True)
class FlowResult:
    """The objects that a run of the flow made."""

    criteria: Sequence[Criterion]
    experiment: Experiment
    responses: Batch[PromptResponse]
    ratings: Batch[list[Rating]]

    @property
    def failed(self) -> int:
        """Rows without a response or without ratings."""
        # What failed to generate is among the failed of the ratings too.
        return len(self.ratings.failed)


async def run_flow(
    client: AsyncClient,
    rows: Sequence[dict[str, str]],
    *,
    criteria: Sequence[str] = (),
    say: Callable[[str], None],
) -> FlowResult:
    """Run the guide's flow on ``rows``: what exists is used again, the experiment is new.

    With ``criteria`` those take the place of the ones that a model would propose.
    """
    template, new = await client.prompt_templates.get_or_create(TEMPLATE, name=TEMPLATE_NAME)
    say(f"template    {template.name!r} version {template.version}, {_made(new)}")
    rated_by = await _criteria(client, template, criteria, say)
    collection, new = await client.collections.get_or_create(
        COLLECTION_NAME, description="Template variables for programming quirks examples"
    )
    before = collection.variables_count
    # Small chunks: progress comes as chunks end, and somebody is watching.
    options = client.options.replace(chunk_size=10)
    variables = (
        await client.template_variables.add_many(rows, collection=collection)
    ).raise_for_failed()
    added = (await client.collections.get(id=collection.id)).variables_count - before
    say(
        f"collection  {collection.name!r}, {_made(new)}; {added} rows added, "
        f"{len(rows) - added} reused"
    )
    experiment = await _new_experiment(client, template, collection)
    say(f"experiment  {experiment.name!r}, new")
    responses = await client.responses.generate_many(
        prompt_template=template,
        template_variables=variables,
        experiment=experiment,
        options=options,
        progress=True,
    )
    ratings = await client.ratings.rate_many(
        responses, rating_mode=RatingMode.FAST, options=options, progress=True
    )
    return FlowResult(rated_by, experiment, responses, ratings)


async def _criteria(
    client: AsyncClient,
    template: PromptTemplate,
    given: Sequence[str],
    say: Callable[[str], None],
) -> list[Criterion]:
    if given:
        criteria = await client.criteria.add_many(
            given, prompt_template=template, delete_existing=True
        )
        say(f"criteria    {len(criteria)}, given")
        return list(criteria)
    criteria, new = await client.criteria.get_or_generate_many(template)
    say(f"criteria    {len(criteria)}, {_made(new)}")
    return criteria


async def _new_experiment(
    client: AsyncClient, template: PromptTemplate, collection: Collection
) -> Experiment:
    stamp = f"{EXPERIMENT_NAME} {datetime.now():%Y-%m-%d %H:%M:%S}"
    for again in range(1, 100):
        name = stamp if again == 1 else f"{stamp} ({again})"
        try:
            return await client.experiments.create(
                name,
                prompt_template=template,
                collection=collection,
                description="Evaluating explanations of programming language quirks",
            )
        except ConflictError:
            continue
    raise RuntimeError(f"a hundred experiments are named {stamp!r}")


def _made(new: bool) -> str:
    return "new" if new else "reused"
