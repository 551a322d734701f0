"""The wire's documents, one module a noun; client and server read and write them alike.

Unknown keys are ignored, so that a newer service does no harm. Source: the protocol as
the official clients 0.6.12 to 1.5.2 speak it.
"""

from elluminate_async.schemas.agent_results import (
    AgentCriterion,
    AgentResult,
    AgentResultMatch,
    AgentResultsDefinition,
    AgentResultsPreview,
    AgentResultsUpload,
    AgentTask,
    AgentTaskRef,
    CriterionRatingIn,
)
from elluminate_async.schemas.base import Page
from elluminate_async.schemas.collections import Collection, Column, CreateCollectionRequest
from elluminate_async.schemas.conversations import Conversation
from elluminate_async.schemas.criteria import AddCriteriaRequest, Criterion, CriterionIn
from elluminate_async.schemas.criterion_sets import CreateCriterionSetRequest, CriterionSet
from elluminate_async.schemas.experiments import (
    CreateExperimentRequest,
    Experiment,
    ExperimentMap,
    ExperimentMapResponse,
    ExperimentMapSample,
    ExperimentResults,
    GenerationStatus,
    PersonaMinimal,
    RetryFailedRequest,
    RunExperimentRequest,
    YesNoMeans,
)
from elluminate_async.schemas.generation_metadata import GenerationMetadata
from elluminate_async.schemas.jobs import ItemFailure, JobProgress, JobStatus, JobStatusName
from elluminate_async.schemas.llm_configs import (
    CreateLLMConfigRequest,
    LLMConfig,
    LLMConfigFields,
)
from elluminate_async.schemas.projects import CreateProjectRequest, Organization, Project
from elluminate_async.schemas.prompt_templates import CreatePromptTemplateRequest, PromptTemplate
from elluminate_async.schemas.ratings import (
    Rating,
    RatingBatchRequest,
    RatingMode,
    RatingRequest,
    RatingValue,
)
from elluminate_async.schemas.responses import (
    DailyUsage,
    Message,
    Prompt,
    PromptResponse,
    ResponseBatchRequest,
    ResponseIn,
    ResponsesSample,
    ResponsesStats,
    SampleSort,
)
from elluminate_async.schemas.scenario_sets import ScenarioField, ScenarioSet
from elluminate_async.schemas.scenarios import Scenario, ScenarioIn
from elluminate_async.schemas.template_variables import (
    CollectionWithEntries,
    EntryRequest,
    TemplateVariables,
)
from elluminate_async.schemas.version import Capability, CompatibilityAnswer, CompatibilityRequest

__all__ = [
    "AddCriteriaRequest",
    "AgentCriterion",
    "AgentResult",
    "AgentResultMatch",
    "AgentResultsDefinition",
    "AgentResultsPreview",
    "AgentResultsUpload",
    "AgentTask",
    "AgentTaskRef",
    "Capability",
    "Collection",
    "CollectionWithEntries",
    "Column",
    "CompatibilityAnswer",
    "CompatibilityRequest",
    "Conversation",
    "CreateCollectionRequest",
    "CreateCriterionSetRequest",
    "CreateExperimentRequest",
    "CreateLLMConfigRequest",
    "CreateProjectRequest",
    "CreatePromptTemplateRequest",
    "Criterion",
    "CriterionIn",
    "CriterionRatingIn",
    "CriterionSet",
    "DailyUsage",
    "EntryRequest",
    "Experiment",
    "ExperimentMap",
    "ExperimentMapResponse",
    "ExperimentMapSample",
    "ExperimentResults",
    "GenerationMetadata",
    "GenerationStatus",
    "ItemFailure",
    "JobProgress",
    "JobStatus",
    "JobStatusName",
    "LLMConfig",
    "LLMConfigFields",
    "Message",
    "Organization",
    "Page",
    "PersonaMinimal",
    "Project",
    "Prompt",
    "PromptResponse",
    "PromptTemplate",
    "Rating",
    "RatingBatchRequest",
    "RatingMode",
    "RatingRequest",
    "RatingValue",
    "ResponseBatchRequest",
    "ResponseIn",
    "ResponsesSample",
    "ResponsesStats",
    "RetryFailedRequest",
    "RunExperimentRequest",
    "SampleSort",
    "Scenario",
    "ScenarioField",
    "ScenarioIn",
    "ScenarioSet",
    "TemplateVariables",
    "YesNoMeans",
]
