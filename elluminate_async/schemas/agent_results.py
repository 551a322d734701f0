"""Agent results: what agents did with the tasks of an experiment, as it is uploaded."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from elluminate_async.schemas.base import ItemsOf, ListOf, WireModel
from elluminate_async.schemas.ratings import RatingValue
from elluminate_async.schemas.trajectories import MOST_SECONDS, Cost, Tokens, TrajectoryObject

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]

NoEmptyText = Annotated[str | None, BeforeValidator(lambda given: None if given == "" else given)]


class CriterionRatingIn(WireModel):
    """A rating that was made elsewhere.

    Attributes:
        criterion_id: Of `AgentResultsDefinition`; a label alone selects no criterion.
    """

    rating: RatingValue
    criterion_id: Id | None = None
    label: Annotated[str, Field(max_length=25)] | None = None
    description: str = ""
    reasoning: str = ""

    @model_validator(mode="after")
    def _names_a_criterion(self) -> Self:
        if self.criterion_id is None and not (self.label or "").strip():
            raise ValueError("give criterion_id")
        return self


class AgentTaskRef(WireModel):
    """Which task a result is of.

    Attributes:
        task_id: Of `AgentResultsDefinition`.
        task_name: As it was when the experiment was made, or as it is; beside ``task_id`` it is to
            be that task's.
    """

    task_id: Id | None = None
    task_name: str | None = None

    @model_validator(mode="after")
    def _names_a_task(self) -> Self:
        if self.task_id is None and not (self.task_name or "").strip():
            raise ValueError("give task_id or task_name")
        return self


class AgentResult(AgentTaskRef):
    """An agent's work on a task, as it is uploaded.

    Attributes:
        messages: Of the conversation, as chat messages.
        trajectory: Its steps, in the Agent Trajectory Interchange Format: with
            ``schema_version`` such as ``ATIF-v1.7``, ``agent`` and ``steps``.
        reward: From 0 to 1.
        steps: How many it took.
        cost_usd: What it cost.
        duration_seconds: How long it took.
        input_tokens: All of them, those from a cache included.
        output_tokens: All of them.
        cached_tokens: Those of the input that came from a cache.
        error: Why it failed; such a result is kept and never judged. An empty text is none.
        metadata: Anything else; ``termination_reason`` in it is shown with the response.
        criterion_ratings: Made elsewhere, one by each criterion; the judge is not asked then. Not
            beside ``error``, as what failed is not rated.
    """

    messages: ListOf[dict[str, Any]] = []
    trajectory: TrajectoryObject | None = None
    reward: Annotated[float, Field(ge=0, le=1)] | None = None
    steps: Tokens | None = None
    cost_usd: Cost | None = None
    duration_seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS)] | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    error: NoEmptyText = None
    metadata: dict[str, Any] | None = None
    criterion_ratings: ListOf[CriterionRatingIn] = []


class AgentResultsUploadRequest(WireModel):
    """Body of ``POST experiments/{id}/agent-results``."""

    results: ItemsOf[AgentResult]
    epoch: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    evaluate: bool = True


class AgentResultsPreviewRequest(WireModel):
    """Body of ``POST experiments/{id}/agent-results/preview``."""

    results: ItemsOf[AgentTaskRef]


class AgentResultMatch(WireModel):
    """The task that a result would be stored for, or the reason why there is none.

    Attributes:
        index: Of the result in the request, from 0.
    """

    index: int
    task_id: int | None = None
    task_name: str | None = None
    reason: str | None = None

    @property
    def matched(self) -> bool:
        """Whether there is one."""
        return self.reason is None


class AgentResultsPreview(WireModel):
    """Which tasks an upload's results would be stored for; nothing is.

    Attributes:
        task_name_column: The collection's column of the names; None without one.
        results: One for each result, in order.
    """

    task_name_column: str | None = None
    matched: int
    unmatched: int
    results: ListOf[AgentResultMatch]

    @property
    def unmatched_results(self) -> list[AgentResultMatch]:
        """Those of no task."""
        return [one for one in self.results if not one.matched]


class AgentResultsUpload(WireModel):
    """The service's answer to an upload: how much of it is stored.

    Attributes:
        errors: What was not taken of it, and why.
        pending_evaluations: Responses that the judge is asked about.
        evaluation_task_id: The job in which that happens; None when there is nothing to judge.
    """

    created_responses: int
    created_ratings: int
    errors: ListOf[str] = []
    pending_evaluations: int = 0
    evaluation_task_id: str | None = None


class AgentCriterion(WireModel):
    """A criterion as it applies to one task.

    Attributes:
        rendered_criterion_str: With the task's values in the place of placeholders.
    """

    criterion_id: int
    label: str = ""
    scope: Literal["system", "shared", "task"] | str = "shared"
    rendered_criterion_str: str


class AgentTask(WireModel):
    """A task that results are accepted for.

    Attributes:
        task_id: The id of its row in the collection.
        task_name: As it was when the experiment was made.
        row_exists: False once the row is deleted: then nothing is stored for it any more.
        current_task_name: The row's name where it is another now.
    """

    task_id: int
    task_name: str
    criteria: ListOf[AgentCriterion] = []
    row_exists: bool = True
    current_task_name: str | None = None


class AgentResultsDefinition(WireModel):
    """The tasks and criteria that uploads to an experiment may name."""

    version: int = 1
    task_name_column: str
    tasks: ListOf[AgentTask]
