"""Experiments: one template, one collection, one model, and the responses they gave."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from elluminate_async.schemas.base import ListOf, RowsOf, WireModel
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.generation_params import ParamsObject
from elluminate_async.schemas.jobs import JobStatusName
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingMode
from elluminate_async.schemas.responses import PromptResponse

EvaluationMode: TypeAlias = Literal["STANDARD", "AGENTIC", "MULTI_TURN"]
"""How responses come about: one each, by an agent's work, or as a persona's conversation."""

EVALUATION_MODES: Final[tuple[EvaluationMode, ...]] = get_args(EvaluationMode)


class YesNoMeans(WireModel):
    """Share of YES and of NO among ratings, 0 to 1."""

    yes: float
    no: float


class ExperimentResults(WireModel):
    """Aggregates over an experiment's responses; failed ones are counted, never scored.

    Attributes:
        std_all_ratings: Standard deviation of all ratings, a YES as 1 and a NO as 0.
        input_tokens_per_response: The figures that are known, in the order of the responses. Of the
            embedded server at most those of the first 1,000, as a document must not grow without
            end; means are over all. Of each response its own are in ``client.responses.list``.
        output_tokens_per_response: The same.
        reasoning_tokens_per_response: The same.
        duration_seconds_per_response: The same.
        completed_epochs: Repetitions of which every response has ended, well or not.
        experiment_duration_seconds: Time that its runs took, from their start to their end;
            None where it was not run.
        estimated_input_cost_usd: By the prices of the configuration that answered. None where
            one answer has no known tokens or no known price, never 0 for that.
        estimated_output_cost_usd: The same.
        estimated_total_cost_usd: Of both together.
    """

    mean_all_ratings: YesNoMeans | None = None
    std_all_ratings: float | None = None
    mean_rating_by_criterion_id: dict[str, YesNoMeans] = {}
    mean_duration_seconds: float | None = None
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    mean_reasoning_tokens: float | None = None
    input_tokens_per_response: ListOf[int] = []
    output_tokens_per_response: ListOf[int] = []
    reasoning_tokens_per_response: ListOf[int] = []
    duration_seconds_per_response: ListOf[float] = []
    num_rated_responses: int = 0
    num_failed_responses: int = 0
    completed_epochs: int | None = None
    experiment_duration_seconds: float | None = None
    estimated_input_cost_usd: float | None = None
    estimated_output_cost_usd: float | None = None
    estimated_total_cost_usd: float | None = None


class ConfiguredExperiment(WireModel):
    """Of an experiment, who answers: also where the rest is of another version."""

    id: int
    llm_config: LLMConfig | None = None


class Experiment(ConfiguredExperiment):
    """An experiment's definition and state.

    Attributes:
        generation_task_id: The job that generates and rates, while one runs.
        results: Aggregates; None until something was rated, and so where all responses failed or
            there are no criteria: failed ones are counted by ``client.experiments.map``.
        logs: What the service wrote while running it.
        rated_responses: Empty, as a service leaves them to ``client.responses.list``.
        has_internal_error: Whether its last run ended by a fault of the service.
        dropped_trajectories: Responses whose uploaded trajectory was not taken.
        rating_version: The judge's version, as the service has resolved it.
        response_column_id: The column of the collection that has the responses.
        evaluation_mode: One of `EvaluationMode`; another word of the service is kept.
        agent_config: Of the agent that is evaluated.
        evaluation_agent_config: Of the agent that evaluates it.
        persona_group_id: Whose personas hold the conversations of ``MULTI_TURN``.
    """

    name: str
    description: str | None = None
    prompt_template: PromptTemplate | None = None
    collection: Collection | None = None
    criterion_set: CriterionSet | None = None
    rated_responses: ListOf[PromptResponse] = Field(default=[], repr=False)
    generation_task_id: str | None = None
    has_internal_error: bool = False
    results: ExperimentResults | None = None
    logs: str | None = None
    generation_params: ParamsObject | None = None
    rating_version: str | None = None
    n_epochs: int | None = None
    response_column_id: int | None = None
    evaluation_mode: str | None = "STANDARD"
    agent_config: dict[str, Any] | None = None
    evaluation_agent_config: dict[str, Any] | None = None
    persona_group_id: int | None = None
    dropped_trajectories: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None


class PersonaMinimal(WireModel):
    """Who a simulated user is."""

    id: int
    name: str
    version: int


class ExperimentMapResponse(WireModel):
    """One response of a map, without its text.

    Attributes:
        epoch: Which repetition of the row it is, from 1.
        task_name: Of an agent's task.
        has_error: Whether its generation failed.
        total_steps: Of its trajectory.
        total_cost_usd: By the prices of the configuration that answered; None where not known.
        num_criteria_passed: Ratings that are YES; None where it is not rated.
        num_criteria_failed: Ratings that are NO; the same.
    """

    response_id: int
    epoch: int
    task_name: str | None = None
    has_trajectory: bool = False
    total_steps: int | None = None
    total_cost_usd: float | None = None
    has_error: bool = False
    num_criteria_passed: int | None = None
    num_criteria_failed: int | None = None


class ExperimentMapSample(WireModel):
    """The responses to one row of the collection."""

    template_variables_id: int
    persona: PersonaMinimal | None = None
    responses: ListOf[ExperimentMapResponse] = []

    @property
    def id(self) -> int:
        """The row's id, which a map has once."""
        return self.template_variables_id


class ExperimentMap(WireModel):
    """One page of an experiment's samples.

    Attributes:
        num_samples: Over all pages.
        num_responses: The same.
    """

    experiment_id: int
    name: str
    num_samples: int
    num_responses: int
    samples: RowsOf[ExperimentMapSample]


class CreateExperimentRequest(WireModel):
    """Body of ``POST experiments``; with ``generate`` the service runs it at once."""

    name: str
    description: str = ""
    prompt_template_id: int | None = None
    collection_id: int | None = None
    criterion_set_id: int | None = None
    llm_config_id: int | None = None
    generate: bool = False
    rating_mode: RatingMode = RatingMode.DETAILED
    n_epochs: int = Field(default=1, ge=1)
    generation_params: ParamsObject | None = None
    rating_version: str | None = None
    response_column_id: int | None = None
    evaluation_mode: EvaluationMode = "STANDARD"
    agent_config: dict[str, Any] | None = None
    evaluation_agent_config: dict[str, Any] | None = None
    persona_group_id: int | None = None
    scenario_set_id: int | None = None

    @model_validator(mode="after")
    def _can_be(self) -> CreateExperimentRequest:
        if self.collection_id is not None and self.scenario_set_id is not None:
            raise ValueError("give a collection or a scenario set, and not both")
        if (self.persona_group_id is None) == (self.evaluation_mode == "MULTI_TURN"):
            raise ValueError(
                "a MULTI_TURN experiment needs a persona group, and no other may have one"
            )
        return self


class RunExperimentRequest(WireModel):
    """Body of ``POST experiments/{id}/run``."""

    rating_mode: RatingMode = RatingMode.DETAILED
    n_epochs: int = Field(default=1, ge=1)
    generation_params: ParamsObject | None = None


class RetryFailedRequest(WireModel):
    """Body of ``POST experiments/{id}/retry-failed``."""

    rating_mode: RatingMode = RatingMode.DETAILED
    discard_annotations: bool = False


class GenerationStatus(WireModel):
    """State of an experiment's job, polled or streamed.

    Attributes:
        completed_responses: Responses generated so far, of ``total_responses``.
        completed_ratings: Responses fully rated so far.
        logs_delta: Log lines since the last event.
        generation_task_id: The experiment's job at that time; another one has taken its place.
        has_internal_error: Whether it ended as a failure.
    """

    # Hidden are words of the service's: a frame's locals are reported with their `repr`.
    status: JobStatusName | str = Field(union_mode="left_to_right", repr=False)
    error_msg: str | None = Field(default=None, repr=False)
    completed_responses: int | None = None
    completed_ratings: int | None = None
    total_responses: int | None = None
    logs_delta: str | None = Field(default=None, repr=False)
    generation_task_id: str | None = None
    has_internal_error: bool = False
