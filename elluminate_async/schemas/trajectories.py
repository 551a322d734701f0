"""Trajectories of agents, in the Agent Trajectory Interchange Format, as uploads may have them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from elluminate_async.schemas.base import KeysOf, ListOf, WireModel

MOST_TOKENS: Final = 2**31 - 1
MOST_COST_USD: Final = 1e9
MOST_SECONDS: Final = 1e10

_VERSION: Final = r"^ATIF-v1\.\d+$"
_MOST_STEPS: Final = 10_000
_MOST_SUBAGENTS: Final = 1_000

Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
"""A count of tokens, or of steps."""

Cost = Annotated[float, Field(ge=0, le=MOST_COST_USD)]
"""US dollars."""


class TextPart(WireModel):
    """Text within a message or an observation."""

    type: Literal["text"]
    text: str


class ImageSource(WireModel):
    """Where an image is."""

    media_type: str
    path: str


class ImagePart(WireModel):
    """An image within a message or an observation."""

    type: Literal["image"]
    source: ImageSource


Content = str | ListOf[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class SubagentReference(WireModel):
    """Where the trajectory of a subagent is: within this one, or in a file."""

    trajectory_id: str | None = None
    trajectory_path: str | None = None
    session_id: str | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if not (self.trajectory_id or self.trajectory_path):
            raise ValueError("give trajectory_id or trajectory_path")
        return self


class ObservationResult(WireModel):
    """The result of one tool call."""

    source_call_id: str | None = None
    content: Content | None = None
    subagent_trajectory_ref: ListOf[SubagentReference] | None = None


class Observation(WireModel):
    """The environment's answer to a step."""

    results: ListOf[ObservationResult]


class ToolCall(WireModel):
    """One call of a tool."""

    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]


class StepMetrics(WireModel):
    """Figures of one step."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    cost_usd: Cost | None = None


class FinalMetrics(WireModel):
    """Figures of the whole."""

    total_prompt_tokens: Tokens | None = None
    total_completion_tokens: Tokens | None = None
    total_cached_tokens: Tokens | None = None
    total_cost_usd: Cost | None = None
    total_steps: Tokens | None = None


class TrajectoryStep(WireModel):
    """One step, of the agent or of who speaks to it."""

    step_id: int
    source: Literal["system", "user", "agent"]
    message: Content
    timestamp: str | None = None
    model_name: Annotated[str, Field(max_length=256)] | None = None
    reasoning_effort: str | float | None = None
    reasoning_content: str | None = None
    tool_calls: ListOf[ToolCall] | None = None
    observation: Observation | None = None
    metrics: StepMetrics | None = None


class TrajectoryAgent(WireModel):
    """Whose trajectory it is."""

    name: str
    version: str
    model_name: str | None = None


class Trajectory(WireModel):
    """A whole trajectory; further keys are kept as they are, and not looked at."""

    schema_version: Annotated[str, Field(pattern=_VERSION)]
    agent: TrajectoryAgent
    steps: Annotated[ListOf[TrajectoryStep], Field(max_length=_MOST_STEPS)]
    trajectory_id: str | None = None
    session_id: str | None = None
    final_metrics: FinalMetrics | None = None
    notes: str | None = None
    extra: dict[str, Any] | None = None
    subagent_trajectories: (
        Annotated[ListOf[Trajectory], Field(max_length=_MOST_SUBAGENTS)] | None
    ) = None

    @model_validator(mode="after")
    def _tells_subagents_apart(self) -> Self:
        ids = [one.trajectory_id for one in self.subagent_trajectories or ()]
        if not all(ids):
            raise ValueError("a trajectory in subagent_trajectories has no trajectory_id")
        if len(set(ids)) < len(ids):
            raise ValueError("two trajectories in subagent_trajectories have one trajectory_id")
        return self


TrajectoryObject: TypeAlias = Annotated[dict[str, Any], KeysOf(Trajectory)]
"""A trajectory as it is given, be it one or not."""


def read_trajectory(trajectory: dict[str, Any]) -> Trajectory | str:
    """A trajectory, or what is wrong with it in one line."""
    try:
        return Trajectory.model_validate(trajectory)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def messages_of(trajectory: Trajectory) -> list[dict[str, Any]]:
    """A trajectory as chat messages, those of its subagents behind it."""
    messages = [message for step in trajectory.steps for message in _of_step(step)]
    for one in trajectory.subagent_trajectories or ():
        name = f"The trajectory of the subagent {one.agent.name} ({one.trajectory_id}):"
        messages += [{"role": "system", "content": name}, *messages_of(one)]
    return messages


def text_in(content: Content | None) -> str:
    """The text of a content; an image is named by its path."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        part.text if isinstance(part, TextPart) else f"[image {part.source.path}]"
        for part in content
    )


def _of_step(step: TrajectoryStep) -> list[dict[str, Any]]:
    role = "assistant" if step.source == "agent" else step.source
    text = text_in(step.message)
    if step.reasoning_content:
        text = f"(reasoning: {step.reasoning_content})\n{text}"
    said: dict[str, Any] = {"role": role, "content": text}
    if step.tool_calls:
        said["tool_calls"] = [
            {"id": call.tool_call_id, "name": call.function_name, "arguments": call.arguments}
            for call in step.tool_calls
        ]
    results = step.observation.results if step.observation else []
    return [
        said,
        *(
            {"role": "tool", "content": text_in(result.content), "tool_call_id": call_id}
            for result in results
            for call_id in [result.source_call_id or ""]
        ),
    ]
