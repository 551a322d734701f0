"""Every key that a client of the protocol knows is in the server's description of itself.

The keys are those of the models in the installed packages of the official clients, and of our
own schemas. `test_routes` holds what goes over the wire against the description too.
"""

from __future__ import annotations

import asyncio
import json
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Final

import pytest

from elluminate_async import schemas
from elluminate_async.schemas.base import WireModel
from elluminate_async.server import LocalServer
from tests.official.described import Description
from tests.official.test_official_clients import KEY, run
from tests.official.test_routes import description

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS: Final = {
    "ATIFAgent": "TrajectoryAgent",
    "ATIFFinalMetrics": "FinalMetrics",
    "ATIFImageContentPart": "ImagePart",
    "ATIFImageSource": "ImageSource",
    "ATIFObservation": "Observation",
    "ATIFObservationResult": "ObservationResult",
    "ATIFStep": "TrajectoryStep",
    "ATIFStepMetrics": "StepMetrics",
    "ATIFSubagentTrajectoryRef": "SubagentReference",
    "ATIFTextContentPart": "TextPart",
    "ATIFToolCall": "ToolCall",
    "ATIFTrajectory": "Trajectory",
    "AgentResultCriterionDefinition": "AgentCriterion",
    "AgentResultTaskDefinition": "AgentTask",
    "AgentResultTaskRefOut": "AcceptedTask",
    "AgentResultsMatchPreview": "AgentResultsPreview",
    "AgentResultsMatchPreviewRequest": "AgentResultsPreviewRequest",
    "AgentResultsUploadResponse": "AgentResultsUpload",
    "AgentTrialResult": "AgentResult",
    "AgentTrialTaskRef": "AgentTaskRef",
    "BatchCreatePromptResponseRequest": "ResponseBatchRequest",
    "BatchCreatePromptResponseStatus": "ResponseJobStatus",
    "BatchCreateRatingRequest": "RatingBatchRequest",
    "BatchCreateRatingResponseStatus": "RatingJobStatus",
    "BatchCreateStatus": "RatingJobStatus",
    "CollectionColumn": "Column",
    "CreateCriteriaRequest": "AddCriteriaRequest",
    "CreatePromptResponseRequest": "ResponseIn",
    "CreateRatingRequest": "RatingRequest",
    "CreateTemplateVariablesRequest": "EntryRequest",
    "DailyUsageStats": "DailyUsage",
    "ExperimentGenerationStatus": "GenerationStatus",
    "MeanRating": "YesNoMeans",
    "TemplateVariablesCollection": "Collection",
    "TemplateVariablesCollectionWithEntries": "CollectionWithEntries",
    "UpdateTemplateVariablesRequest": "EntryRequest",
}
"""Models of another name here."""

QUERIES: Final = {
    "ExperimentFilter": "GET /experiments",
    "PromptResponseFilter": "GET /responses",
    "PromptTemplateFilter": "GET /prompt_templates",
    "ResponsesSampleFilter": "GET /responses/samples",
}
"""Models that are sent as queries."""

_OF_CELLS = "what a cell of a row may hold, which is its user's"
_AS_GIVEN = "kept as it is given, and not looked at: any key may be there"
_NEVER_SENT = "no method of any version sends it"
ELSEWHERE: Final = {
    "ResolvedPromptContext": "the client's own",
    "ResponseFormat": _OF_CELLS,
    "TemplateString": "the client's own",
    "TemplateVariablesCollectionFilter": "a text that only Python can read, which is not looked at",
    "TemplateVariablesCollectionSort": "a text that only Python can read, which is not looked at",
    "UCEInput": _OF_CELLS,
    "UCEPayloadV1": _OF_CELLS,
    "ATIFAgent.extra": _AS_GIVEN,
    "ATIFAgent.tool_definitions": _AS_GIVEN,
    "ATIFFinalMetrics.extra": _AS_GIVEN,
    "ATIFObservationResult.extra": _AS_GIVEN,
    "ATIFStep.extra": _AS_GIVEN,
    "ATIFStep.is_copied_context": _AS_GIVEN,
    "ATIFStep.llm_call_count": _AS_GIVEN,
    "ATIFStepMetrics.completion_token_ids": _AS_GIVEN,
    "ATIFStepMetrics.extra": _AS_GIVEN,
    "ATIFStepMetrics.logprobs": _AS_GIVEN,
    "ATIFStepMetrics.prompt_token_ids": _AS_GIVEN,
    "ATIFSubagentTrajectoryRef.extra": _AS_GIVEN,
    "ATIFToolCall.extra": _AS_GIVEN,
    "ATIFTrajectory.continued_trajectory_ref": _AS_GIVEN,
    "ExperimentFilter.created_by_schedule_id": _NEVER_SENT,
    "ExperimentFilter.date_from": _NEVER_SENT,
    "ExperimentFilter.date_to": _NEVER_SENT,
    "ExperimentFilter.experiment_name_search": _NEVER_SENT,
    "ExperimentFilter.prompt_template_name": _NEVER_SENT,
    "PromptTemplateFilter.search": _NEVER_SENT,
}
"""Models and keys that the description has not, and why."""

CLIENTS_ONLY: Final = {
    "CheckedSampling": "a part of others",
    "ConfiguredExperiment": "as little of an `Experiment` as is looked at",
    "Conversation": _OF_CELLS,
    "EnvironmentChange": "a part of others",
    "JobStatus": "a part of others",
    "Sampling": "a part of others",
    "UpdateEntryRequest": "as much of an `EntryRequest` as changes a row",
    "WireModel": "has no keys",
}
"""Schemas of ours that are no object of the description, and why."""


@pytest.fixture(scope="module")
def described() -> Description:
    async def read() -> Description:
        async with LocalServer(api_key=KEY) as server:
            return await description(server.url)

    return asyncio.run(read())


@pytest.mark.official
def test_every_key_of_the_official_models_is_described(described: Description) -> None:
    """In the schema of that object, or among the queries of that operation; of four versions."""
    unknown, models = set[str](), set[str]()
    for version in ("0.6.12", "0.7.3", "1.0.6", "1.5.2"):
        for model, keys in json.loads(run(version, "keys.py", "")).items():
            models.add(model)
            if model in ELSEWHERE:
                unknown.add(model)
            else:
                unknown |= {f"{model}.{key}" for key in set(keys) - known_of(described, model)}

    assert sorted(unknown) == sorted(ELSEWHERE)
    assert models >= OURS.keys() | QUERIES.keys()


def known_of(described: Description, model: str) -> set[str]:
    """The keys that the description has for an official model."""
    if model in QUERIES:
        return {one["name"] for one in described.operations[QUERIES[model]]["parameters"]}
    return described.keys_of_named(OURS.get(model, model))


def test_every_key_of_our_schemas_is_described(described: Description) -> None:
    """All models of the wire, but for those that are a part of others or the client's own."""
    missing = set[str]()
    for model in models_of_ours():
        keys = {field.alias or name for name, field in model.model_fields.items()}
        known = described.keys_of_named(model.__name__)
        if not known:
            missing.add(model.__name__)
        else:
            assert keys <= known, model
    assert missing == CLIENTS_ONLY.keys()


def models_of_ours() -> Iterator[type[WireModel]]:
    """Those that are no form of another for some type."""
    for module in pkgutil.iter_modules(schemas.__path__, f"{schemas.__name__}."):
        for one in vars(import_module(module.name)).values():
            is_own = isinstance(one, type) and one.__module__ == module.name
            if is_own and issubclass(one, WireModel) and one.__name__ != "Page":
                yield one
