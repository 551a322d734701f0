"""Agents' results to upload: made of what a caller passes, and what an upload's answer says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from elluminate_async.errors import InputError, PartialUploadError, RejectedError, TaskMatchError
from elluminate_async.operations.json_input import check_json, checked_input, made_of, several
from elluminate_async.schemas.agent_results import AgentResult, AgentTaskRef
from elluminate_async.schemas.base import WireModel

if TYPE_CHECKING:
    from elluminate_async.schemas.agent_results import AgentResultsUpload

NewResult: TypeAlias = AgentResult | Mapping[str, Any]
"""An `AgentResult`, or a mapping of its fields."""

NewResults: TypeAlias = Iterable[NewResult]

TaskRefs: TypeAlias = Iterable[AgentTaskRef | Mapping[str, Any]]
"""Results, or as much of them as names their tasks."""

M = TypeVar("M", bound=WireModel)

logger = logging.getLogger("elluminate_async")

_SHOWN = 5


def results_of(results: NewResults) -> list[AgentResult]:
    """Results as they are sent.

    Raises:
        InputError: It is no list of them, or one of them is none.
    """
    return [_result(one, f"results[{index}]") for index, one in enumerate(_many(results))]


def refs_of(results: TaskRefs) -> list[AgentTaskRef]:
    """As much of results as tells their tasks.

    Raises:
        InputError: It is no list of them, or one of them is none.
    """
    found: list[AgentTaskRef] = []
    for index, one in enumerate(_many(results)):
        given = (
            one.model_dump(include={"task_id", "task_name"})
            if isinstance(one, AgentTaskRef)
            else one
        )
        found.append(_made(AgentTaskRef, given, f"results[{index}]"))
    return found


def refused(error: RejectedError) -> RejectedError:
    """The error of an upload that was refused; one of no task has them as data."""
    body = error.body or {}
    if error.status != 400 or body.get("kind") != "unmatched_tasks":
        return error
    tasks: dict[int, str] = {}
    for one in _list(body.get("accepted_tasks")):
        if isinstance(one, dict):
            task = cast("dict[str, Any]", one)
            if isinstance(task.get("task_id"), int):
                tasks[task["task_id"]] = str(task.get("task_name"))
    total = body.get("accepted_tasks_total")
    return TaskMatchError.of(
        error,
        accepted_tasks=tasks,
        accepted_tasks_total=total if isinstance(total, int) else len(tasks),
        reasons=[str(reason) for reason in _list(body.get("results"))],
    )


def check_whole(upload: AgentResultsUpload, *, raises: bool) -> None:
    """Tell of what was not taken of an upload, by an error or by a warning.

    Raises:
        PartialUploadError: Something was not, and ``raises``.
    """
    if not upload.errors:
        return
    shown = "; ".join(upload.errors[:_SHOWN])
    more = len(upload.errors) - _SHOWN
    text = f"{shown}; and {more} more" if more > 0 else shown
    if raises:
        raise PartialUploadError(
            f"not all of the upload was taken, and the rest is stored: do not send all of it again "
            f"({upload.created_responses} responses, {upload.created_ratings} ratings): {text}",
            upload=upload,
        )
    logger.warning("not all of an upload of agents' results was taken: %s", text)


def _many(results: object) -> Iterable[object]:
    return several(results, "results", "results", AgentTaskRef)


def _result(given: object, where: str) -> AgentResult:
    if isinstance(given, Mapping):
        fields = cast("Mapping[object, object]", given)
        given = made_of(AgentResult, fields, where, "put it into metadata")
    made = _made(AgentResult, given, where)
    check_json(made.model_dump(), where)
    return made


def _made(kind: type[M], given: object, where: str) -> M:
    if isinstance(given, Mapping):
        with checked_input(where):
            return kind.model_validate(dict(cast("Mapping[str, object]", given)))
    if not isinstance(given, kind):
        raise InputError(
            f"{where} must be {kind.__name__}, or a mapping with task_id or task_name, not "
            f"{given!r:.60}"
        )
    return given


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
