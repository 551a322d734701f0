"""The bodies of requests that define, run and retry experiments, of checked arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.experiment_starts import JobStart
from elluminate_async.operations.json_input import check_name, checked_input, checked_params
from elluminate_async.operations.references import id_of, optional_id
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.experiments import (
    CreateExperimentRequest,
    Experiment,
    RetryFailedRequest,
    RunExperimentRequest,
)
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingMode

_COPIED = (
    "generation_params",
    "rating_version",
    "response_column_id",
    "evaluation_mode",
    "agent_config",
    "evaluation_agent_config",
    "persona_group_id",
)


def creation_of(
    name: str,
    prompt_template: PromptTemplate | int | None,
    collection: Collection | int | None,
    llm_config: LLMConfig | int | None,
    criterion_set: CriterionSet | int | None,
    *,
    generate: bool = False,
    **others: Any,
) -> CreateExperimentRequest:
    """The body that defines an experiment."""
    check_name(name, "an experiment")
    with checked_input("the experiment"):
        return CreateExperimentRequest(
            name=name,
            prompt_template_id=optional_id(prompt_template, PromptTemplate, "prompt_template"),
            collection_id=optional_id(collection, Collection, "collection"),
            criterion_set_id=optional_id(criterion_set, CriterionSet, "criterion_set"),
            llm_config_id=optional_id(llm_config, LLMConfig, "llm_config"),
            generate=flag(generate, "generate"),
            **others,
        )


def run_start(
    experiment: Experiment | int,
    rating_mode: RatingMode,
    n_epochs: int | None,
    generation_params: Mapping[str, Any] | None,
) -> JobStart:
    """The request that begins a run; without ``n_epochs`` of as many as the experiment has."""
    id = id_of(experiment, Experiment, "experiment")
    own = n_epochs is None and not isinstance(experiment, Experiment)
    if n_epochs is None:
        n_epochs = 1 if isinstance(experiment, int) else experiment.n_epochs or 1
    params = checked_params(generation_params)
    with checked_input("the run"):
        body = RunExperimentRequest(
            rating_mode=rating_mode, n_epochs=n_epochs, generation_params=params
        )
    path = ("experiments", id, "run")
    return JobStart("run", path, body, experiment=id, omit_nulls=True, has_own_epochs=own)


def retry_start(
    experiment: Experiment | int, rating_mode: RatingMode, *, discard_annotations: bool
) -> JobStart:
    """The request that begins a retry of what failed."""
    id = id_of(experiment, Experiment, "experiment")
    discard_annotations = flag(discard_annotations, "discard_annotations")
    with checked_input("the retry"):
        body = RetryFailedRequest(rating_mode=rating_mode, discard_annotations=discard_annotations)
    return JobStart("retry", ("experiments", id, "retry-failed"), body, experiment=id)


def copy_of(source: Experiment, name: str, **changes: Any) -> CreateExperimentRequest:
    """The body that defines an experiment as ``source`` is, but for ``changes``."""
    if source.collection is not None and source.collection.collection_type == "PERSONA":
        raise InputError(
            f"the experiment {source.name!r} is on scenarios: define another one by "
            "experiments.create(scenario_set=...)"
        )
    copied = {key: getattr(source, key) for key in _COPIED}
    parents = {
        "prompt_template_id": source.prompt_template,
        "collection_id": source.collection,
        "criterion_set_id": source.criterion_set,
        "llm_config_id": source.llm_config,
    }
    ids = {key: None if one is None else one.id for key, one in parents.items()}
    values: dict[str, Any] = {**copied, **ids, "description": source.description or "", **changes}
    check_name(name, "an experiment")
    with checked_input("the experiment"):
        return CreateExperimentRequest(name=name, **values)
