"""The part of an upload of agents' results that is taken, and what is told of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elluminate_async.server.problems import Problem
from elluminate_async.server.store import ratings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from elluminate_async.schemas import Criterion
    from elluminate_async.schemas.agent_results import AgentResult, AgentResultMatch
    from elluminate_async.schemas.trajectories import Trajectory
    from elluminate_async.server.store.agent_tasks import Tasks

MOST_TOLD: Final = 1_000
"""Errors of one upload that are told one by one."""

_ACCEPTED_TOLD = 10


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A result whose trajectory has been looked at.

    Attributes:
        trajectory: None where there is none, or it was dropped.
        dropped: Why it was.
    """

    given: AgentResult
    trajectory: Trajectory | None
    dropped: str | None

    @property
    def is_to_judge(self) -> bool:
        """Whether there is something to judge, and it is no failure."""
        has_text = self.trajectory is not None or bool(self.given.messages)
        return has_text and self.given.error is None


def nothing_stored(tasks: Tasks, matches: Sequence[AgentResultMatch]) -> Problem:
    """The refusal of an upload none of whose results is of a task of the experiment."""
    reasons = capped(_line(match, str(match.reason)) for match in matches)
    gone = any(match.task_id in tasks for match in matches if match.task_id is not None)
    accepted = [task for task in tasks.all if task.values is not None]
    names = ", ".join(repr(task.name) for task in accepted[:_ACCEPTED_TOLD]) or "none"
    return Problem(
        400,
        f"none of the {len(matches)} results is of a task of the experiment, and nothing was "
        f"stored; the first: {reasons[0] if reasons else 'there is none'}; its tasks: {names}",
        extra={
            "kind": "nothing_stored" if gone else "unmatched_tasks",
            "accepted_tasks": [
                {"task_id": task.id, "task_name": task.name} for task in accepted[:_ACCEPTED_TOLD]
            ],
            "accepted_tasks_total": len(accepted),
            "results": reasons,
        },
    )


def verdicts(
    asked: Iterable[Criterion],
    ids: Sequence[int],
    stored: Sequence[tuple[AgentResultMatch, ReadResult]],
) -> tuple[list[ratings.JudgeVerdict], list[str]]:
    """The ratings that came along, and what was wrong with those that are not taken."""
    known = {criterion.id for criterion in asked}
    verdicts: list[ratings.JudgeVerdict] = []
    errors: list[str] = []
    for response_id, (match, one) in zip(ids, stored, strict=True):
        for rating in one.given.criterion_ratings:
            if rating.criterion_id is None:
                reason = f"its criterion is named by the label {rating.label!r:.60} alone"
                errors.append(_line(match, f"rating rejected: {reason}; give criterion_id"))
            elif rating.criterion_id not in known:
                reason = f"the experiment has no criterion {rating.criterion_id}"
                errors.append(_line(match, f"rating rejected: {reason}"))
            else:
                verdict = ratings.JudgeVerdict(
                    response_id, rating.criterion_id, rating.rating, rating.reasoning or None
                )
                verdicts.append(verdict)
    return verdicts, errors


def errors(matches: Sequence[AgentResultMatch], results: Sequence[ReadResult]) -> Iterable[str]:
    """A line for each result, or trajectory, that is not taken."""
    for match, one in zip(matches, results, strict=True):
        if match.reason is not None:
            yield _line(match, match.reason)
        elif one.dropped is not None:
            yield _line(match, f"trajectory dropped: {one.dropped}")


def _line(match: AgentResultMatch, reason: str) -> str:
    name = "" if match.task_name is None else f" (task {match.task_name!r:.100})"
    return f"result {match.index}{name}: {reason}"


def capped(lines: Iterable[str]) -> list[str]:
    """The first of them, and how many more there are."""
    whole = list(lines)
    more = len(whole) - MOST_TOLD
    return [*whole[:MOST_TOLD], f"and {more} more"] if more > 0 else whole
