"""Agents' results: matched with tasks, stored as responses, and their evaluation as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, update

from elluminate_async.schemas import RatingMode
from elluminate_async.schemas.agent_results import (
    AgentResultsDefinition,
    AgentResultsPreview,
    AgentResultsUpload,
    AgentTask,
)
from elluminate_async.schemas.prompt_templates import render
from elluminate_async.schemas.trajectories import MOST_TOKENS, Trajectory, text_in
from elluminate_async.server.problems import storing_values
from elluminate_async.server.store import (
    accepting,
    agent_acceptance,
    agent_tasks,
    criteria,
    experiments,
    llm_configs,
    prompt_templates,
    prompts,
    ratings,
    responses,
    sizes,
    tables,
)
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.agent_acceptance import ReadResult
from elluminate_async.server.store.jobs import JobKind
from elluminate_async.server.store.prompts import NewPrompt
from elluminate_async.server.store.rows import digest, reserve_ids, run_many
from elluminate_async.server.store.wire_json import dump, dump_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from elluminate_async.schemas import Criterion
    from elluminate_async.schemas.agent_results import AgentResult, AgentTaskRef
    from elluminate_async.server.store.agent_tasks import Task
    from elluminate_async.server.store.rows import AnyRow

_TRAJECTORY = """
UPDATE responses SET trajectory = ?, trajectory_ingest_error = ?, termination_reason = ?
WHERE id = ?"""
_RESULT = """
INSERT INTO agent_results (response_id, reward, steps, cost_usd, metadata) VALUES (?, ?, ?, ?, ?)"""


def definition(
    connection: Connection, project_id: int, experiment_id: int
) -> AgentResultsDefinition:
    """The tasks and criteria that uploads may name; 400 for an experiment without agents."""
    experiment = experiments.row(connection, project_id, experiment_id)
    tasks = agent_tasks.of_experiment(connection, project_id, experiment_id)
    asked = _criteria_of(connection, project_id, experiment)
    return AgentResultsDefinition(
        task_name_column=agent_tasks.NAME_COLUMN,
        tasks=[
            AgentTask(
                task_id=task.id,
                task_name=task.name,
                criteria=[agent_tasks.applied(one, task.values or {}) for one in asked],
                row_exists=task.values is not None,
                current_task_name=None if task.current_name == task.name else task.current_name,
            )
            for task in tasks.all
        ],
    )


def preview(
    connection: Connection, project_id: int, experiment_id: int, refs: Sequence[AgentTaskRef]
) -> AgentResultsPreview:
    """The tasks that an upload of such results would store them for."""
    experiment = experiments.row(connection, project_id, experiment_id)
    tasks = agent_tasks.of_experiment(connection, project_id, experiment_id)
    matches = [tasks.match(index, ref) for index, ref in enumerate(refs)]
    columns = prompt_templates.column_names(connection, project_id, experiment.collection_id or 0)
    has_names = agent_tasks.NAME_COLUMN in columns
    matched = sum(match.matched for match in matches)
    return AgentResultsPreview(
        task_name_column=agent_tasks.NAME_COLUMN if has_names else None,
        matched=matched,
        unmatched=len(matches) - matched,
        results=matches,
    )


def upload(
    connection: Connection,
    project_id: int,
    experiment_id: int,
    results: Sequence[ReadResult],
    *,
    epoch: int,
    evaluate: bool,
) -> AgentResultsUpload:
    """Store results as responses with their ratings, and begin the evaluation of the others.

    Raises:
        Problem: 400 when none is of a task of the experiment; 404 without such an experiment.
    """
    experiment = experiments.row(connection, project_id, experiment_id)
    tasks = agent_tasks.of_experiment(connection, project_id, experiment_id)
    matches = [tasks.match(index, one.given) for index, one in enumerate(results)]
    if not any(match.matched for match in matches):
        raise agent_acceptance.nothing_stored(tasks, matches)
    asked = _criteria_of(connection, project_id, experiment)
    taken, errors = agent_acceptance.accepted(matches, results, asked)
    of_tasks = [(tasks[one.task_id], one.result) for one in taken]
    with storing_values():
        ids = _insert(connection, project_id, experiment, of_tasks, epoch) if taken else []
    verdicts = [
        ratings.JudgeVerdict(
            response_id, rating.criterion_id or 0, rating.rating, rating.reasoning or None
        )
        for response_id, one in zip(ids, taken, strict=True)
        for rating in one.ratings
    ]
    made = ratings.record(connection, project_id, verdicts)
    pending = [
        response_id
        for response_id, one in zip(ids, taken, strict=True)
        if one.result.is_to_judge and not one.ratings
    ]
    task_id = None
    if evaluate and pending and asked:
        task_id = _begin(connection, project_id, experiment, pending)
    return AgentResultsUpload(
        created_responses=len(ids),
        created_ratings=len(made),
        errors=agent_acceptance.capped(errors),
        pending_evaluations=len(pending) if task_id is not None else 0,
        evaluation_task_id=task_id,
    )


def _criteria_of(connection: Connection, project_id: int, experiment: AnyRow) -> list[Criterion]:
    set_id = experiment.criterion_set_id
    return criteria.of_sets(connection, project_id, [set_id])[set_id]


def _insert(
    connection: Connection,
    project_id: int,
    experiment: AnyRow,
    results: Sequence[tuple[Task, ReadResult]],
    epoch: int,
) -> list[int]:
    """The ids of the responses that the results became."""
    once = {task.id: task for task, _ in results}
    prompt_of = _prompts(connection, project_id, experiment, once)
    config_id = experiment.llm_config_id or llm_configs.default_id(connection, project_id)
    ids = list(reserve_ids(connection, tables.responses, len(results)))
    rows = [
        responses.NewRow(
            id=response_id,
            experiment_id=experiment.id,
            prompt_id=prompt_of[task.id],
            template_variables_id=task.id,
            llm_config_id=config_id,
            epoch=epoch,
            answer=_answer(one),
        )
        for response_id, (task, one) in zip(ids, results, strict=True)
    ]
    responses.insert_all(connection, project_id, rows)
    _insert_rest(connection, ids, [one for _, one in results])
    return ids


def _insert_rest(connection: Connection, ids: Sequence[int], results: Sequence[ReadResult]) -> None:
    kept = [
        (
            dump(one.given.trajectory) if one.trajectory is not None else None,
            one.dropped,
            _termination_reason(one.given),
            response_id,
        )
        for response_id, one in zip(ids, results, strict=True)
    ]
    run_many(connection, _TRAJECTORY, kept)
    sizes.note(
        connection,
        "answer",
        (
            (response_id, (trajectory, dropped, dump(one.given.messages), one.given.error))
            for (trajectory, dropped, _, response_id), one in zip(kept, results, strict=True)
        ),
    )
    figures = [
        (response_id, one.reward, one.steps, one.cost_usd, dump_or_none(one.metadata))
        for response_id, one in zip(ids, (result.given for result in results), strict=True)
    ]
    run_many(connection, _RESULT, figures)


def _answer(one: ReadResult) -> responses.GeneratedResponse:
    given, told = one.given, _tokens_of(one.trajectory)
    messages = given.messages
    if not messages and one.trajectory is not None:
        messages = _last_words(one.trajectory)
    return responses.GeneratedResponse(
        messages=messages,
        error=given.error,
        config=None,
        duration_seconds=given.duration_seconds,
        input_tokens=told[0] if given.input_tokens is None else given.input_tokens,
        output_tokens=told[1] if given.output_tokens is None else given.output_tokens,
        cached_tokens=told[2] if given.cached_tokens is None else given.cached_tokens,
    )


def _tokens_of(trajectory: Trajectory | None) -> tuple[int | None, int | None, int | None]:
    """Tokens of the prompts, of the answers and from a cache, as the trajectory tells them."""
    if trajectory is None:
        return None, None, None
    if (final := trajectory.final_metrics) is not None:
        return (
            final.total_prompt_tokens,
            final.total_completion_tokens,
            final.total_cached_tokens,
        )
    steps = [step.metrics for step in trajectory.steps if step.metrics is not None]
    return (
        _sum(metrics.prompt_tokens for metrics in steps),
        _sum(metrics.completion_tokens for metrics in steps),
        _sum(metrics.cached_tokens for metrics in steps),
    )


def _sum(figures: Iterable[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return min(sum(known), MOST_TOKENS) if known else None


def _last_words(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The last that the agent said, as the response's one message."""
    said = [text_in(step.message) for step in trajectory.steps if step.source == "agent"]
    last = next((text for text in reversed(said) if text.strip()), None)
    return [] if last is None else [{"role": "assistant", "content": last, "tool_calls": None}]


def _termination_reason(given: AgentResult) -> str | None:
    reason = (given.metadata or {}).get("termination_reason")
    return reason if isinstance(reason, str) and reason else None


def _prompts(
    connection: Connection, project_id: int, experiment: AnyRow, tasks: Mapping[int, Task]
) -> dict[int, int]:
    """By task, the id of the prompt that has its instruction."""
    template_id = experiment.prompt_template_id
    template = None
    if template_id is not None:
        template = prompt_templates.get(connection, project_id, template_id).messages
    made: dict[int, NewPrompt] = {}
    for task_id, task in tasks.items():
        messages = _instruction(task) if template is None else render(template, task.values or {})
        content = digest(template_id, task_id, messages)
        made[task_id] = NewPrompt(template_id, task_id, dump(messages), content, None, None)
    ids = prompts.kept(connection, project_id, {one.digest: one for one in made.values()})
    sized = ((one.messages, dump(tasks[task_id].values)) for task_id, one in made.items())
    sizes.note(connection, "prompt", ((experiment.id, texts) for texts in sized))
    return {task_id: ids[one.digest] for task_id, one in made.items()}


def _instruction(task: Task) -> list[dict[str, Any]]:
    text = (task.values or {}).get(agent_tasks.INSTRUCTION_COLUMN)
    return [{"role": "user", "content": task.name if text in (None, "") else str(text)}]


def _begin(
    connection: Connection, project_id: int, experiment: AnyRow, pending: Sequence[int]
) -> str:
    """Keep the evaluation, so that it will be done; its task id."""
    job = NewJob(JobKind.EXPERIMENT, pending, RatingMode(experiment.rating_mode), experiment.id)
    task_id = accepting.accept(connection, project_id, job)
    jobs = tables.jobs
    connection.execute(update(jobs).where(jobs.c.task_id == task_id).values(generated=jobs.c.total))
    experiments.started(connection, experiment.id, task_id)
    return task_id
