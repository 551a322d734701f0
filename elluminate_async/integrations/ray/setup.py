"""The objects at the service that a job works with: found by name, or made, once, at the driver."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from elluminate_async import AsyncClient
from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import shown
from elluminate_async.integrations.blocks import Generation, Judging
from elluminate_async.integrations.ray.checks import filled
from elluminate_async.integrations.stage import Connect
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingMode

NEWEST: Final = "newest"


async def resolved(client: AsyncClient, connect: Connect) -> Connect:
    """The same service and project as the driver's, by its address and an id."""
    project = connect.project
    if isinstance(project, str):
        seen = await client.projects.list()
        ids = [one.id for one in seen if project in (one.name, NEWEST)]
        project = max(ids)
    return replace(connect, base_url=client.base_url, project=project)


def judging_of(run: str, rating_mode: object) -> Judging:
    """How responses are rated.

    Raises:
        InputError: ``rating_mode`` is none.
    """
    try:
        return Judging(run, RatingMode(cast("str", rating_mode)))
    except ValueError:
        raise InputError(f"rating_mode must be a RatingMode, not {shown(rating_mode)}") from None


async def generation_of(
    client: AsyncClient,
    experiment: Experiment | int | str,
    collection: Collection | int | str | None,
    run: str,
    key: str,
    variables: dict[str, str] | None,
) -> Generation:
    """The things that rows are generated from, by ids.

    Raises:
        InputError: An argument is of another type, or a placeholder gets no value.
        NotFoundError: There is no such experiment or collection.
    """
    if isinstance(experiment, str):
        experiment = await client.experiments.get(experiment)
    elif not isinstance(experiment, Experiment):
        experiment = await client.experiments.get(id=experiment)
    if isinstance(collection, str):
        collection = await client.collections.get(collection)
    elif isinstance(collection, int):
        collection = await client.collections.get(id=collection)
    if collection is None:
        collection = experiment.collection
    if not isinstance(collection, Collection):
        raise InputError(
            f"the experiment {experiment.name!r} has no collection: pass collection="
            if collection is None
            else f"collection must be a Collection, its id or its name, not {shown(collection)}"
        )
    template = experiment.prompt_template
    values = filled(variables, [] if template is None else template.placeholders)
    return Generation(experiment.id, collection.id, run, key, values)


async def evaluation_of(
    client: AsyncClient,
    name: str,
    prompt: str | Sequence[Mapping[str, Any]] | PromptTemplate | int,
    criteria: Sequence[str] | CriterionSet | int | None,
    llm_config: LLMConfig | int | str | None,
) -> Experiment:
    """The experiment of that name, with all that it needs.

    Raises:
        InputError: The name belongs to another one.
    """
    config = await client.llm_configs.get(llm_config) if isinstance(llm_config, str) else llm_config
    if isinstance(prompt, PromptTemplate):
        template = prompt
    elif isinstance(prompt, int):
        template = await client.prompt_templates.get(id=prompt)
    else:
        template, _ = await client.prompt_templates.get_or_create(prompt, name)
    criterion_set = criteria
    if criteria is None:
        await client.criteria.get_or_generate_many(template)
    elif not isinstance(criteria, CriterionSet | int):
        criterion_set = await _set_of(client, name, criteria)
    collection, _ = await client.collections.get_or_create(name)
    experiment, _ = await client.experiments.get_or_create(
        name,
        prompt_template=template,
        collection=collection,
        llm_config=config,
        criterion_set=cast("CriterionSet | int | None", criterion_set),
    )
    return experiment


async def _set_of(client: AsyncClient, name: str, criteria: object) -> CriterionSet:
    """A set of these criteria, the same one each time."""
    if isinstance(criteria, str) or not isinstance(criteria, Sequence):
        raise InputError(f"criteria must be a list of questions, not {shown(criteria)}")
    wanted = cast("Sequence[str]", criteria)
    mark = hashlib.blake2b(json.dumps([*wanted], default=str).encode(), digest_size=4).hexdigest()
    found, _ = await client.criterion_sets.get_or_create(f"{name} · {mark}", wanted)
    there = [one.criterion_str for one in found.criteria or ()]
    if sorted(there) != sorted(dict.fromkeys(wanted)):
        raise InputError(
            f"the criteria of the set {found.name!r} were changed since it was made for this "
            "evaluation: pass another name="
        )
    return found
