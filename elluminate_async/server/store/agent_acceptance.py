"""The part of an upload of agents' results that is taken, and what is told of the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elluminate_async.server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from elluminate_async.schemas import Criterion
    from elluminate_async.schemas.agent_results import (
        AgentResult,
        AgentResultMatch,
        CriterionRatingIn,
    )
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


@dataclass(frozen=True, slots=True)
class TakenResult:
    """A result that is stored.

    Attributes:
        ratings: Of its own, one by each criterion; the judge is not asked about it then.
    """

    task_id: int
    result: ReadResult
    ratings: Sequence[CriterionRatingIn]


def nothing_stored(tasks: Tasks, matches: Sequence[AgentResultMatch]) -> Problem:
    """The refusal of an upload none of whose results is of a task of the experiment."""
    reasons = capped(_line(match, str(match.reason)) for match in matches)
    gone = any(tasks.is_gone(match.task_id) for match in matches)
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


def accepted(
    matches: Sequence[AgentResultMatch], results: Sequence[ReadResult], asked: Iterable[Criterion]
) -> tuple[list[TakenResult], list[str]]:
    """The results that are stored, and a line for each thing that is not.

    A result without a task, with two ratings by one criterion, or of which there is nothing, or
    nothing left, is not stored at all, so that it can be sent again.
    """
    known = {criterion.id for criterion in asked}
    taken: list[TakenResult] = []
    errors: list[str] = []
    for match, one in zip(matches, results, strict=True):
        if match.reason is not None:
            errors.append(_line(match, match.reason))
            continue
        own, rejected = _ratings_of(one.given, known)
        lost = [] if one.dropped is None else [f"trajectory dropped: {one.dropped}"]
        lost.extend(rejected)
        refusal = _refusal(one, own, lost)
        if refusal is not None:
            errors.append(_line(match, f"not stored: {refusal}"))
            continue
        errors.extend(_line(match, reason) for reason in lost)
        taken.append(TakenResult(match.task_id or 0, one, own))
    return taken, errors


def _ratings_of(
    given: AgentResult, known: Container[int]
) -> tuple[list[CriterionRatingIn], list[str]]:
    """The ratings of a result that are taken, and why the others are not."""
    if given.error is not None and given.criterion_ratings:
        return [], ["ratings rejected: the result has an error, and what failed is not rated"]
    own: list[CriterionRatingIn] = []
    rejected: list[str] = []
    for rating in given.criterion_ratings:
        if rating.criterion_id is None:
            reason = f"its criterion is named by the label {rating.label!r:.60} alone"
            rejected.append(f"rating rejected: {reason}; give criterion_id")
        elif rating.criterion_id not in known:
            reason = f"the experiment has no criterion {rating.criterion_id}"
            rejected.append(f"rating rejected: {reason}")
        else:
            own.append(rating)
    return own, rejected


def _refusal(one: ReadResult, own: Sequence[CriterionRatingIn], lost: Sequence[str]) -> str | None:
    """Why a result is not stored, of which ``lost`` is not taken; None for one that is."""
    named = Counter(
        rating.criterion_id
        for rating in one.given.criterion_ratings
        if rating.criterion_id is not None
    )
    twice = [criterion_id for criterion_id, count in named.items() if count > 1]
    if twice:
        return f"it has {named[twice[0]]} ratings by the criterion {twice[0]}: give one"
    if one.is_to_judge or one.given.error is not None or own:
        return None
    # Stored all the same it would be a response that neither failed nor is ever rated.
    if lost:
        return f"nothing is left of it ({lost[0]})"
    return "it has no text: give messages, a trajectory, criterion_ratings, or the error"


def _line(match: AgentResultMatch, reason: str) -> str:
    name = "" if match.task_name is None else f" (task {match.task_name!r:.100})"
    return f"result {match.index}{name}: {reason}"


def capped(lines: Iterable[str]) -> list[str]:
    """The first of them, and how many more there are."""
    whole = list(lines)
    more = len(whole) - MOST_TOLD
    return [*whole[:MOST_TOLD], f"and {more} more"] if more > 0 else whole
