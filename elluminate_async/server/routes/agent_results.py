"""Agents' results of an experiment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas.agent_results import (
    AgentResultsDefinition,
    AgentResultsPreview,
    AgentResultsPreviewRequest,
    AgentResultsUpload,
    AgentResultsUploadRequest,
)
from elluminate_async.schemas.trajectories import read_trajectory
from elluminate_async.server import aside
from elluminate_async.server.acceptance import BoundedRoute, check_messages
from elluminate_async.server.idempotency import answer_prepared_once
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes.deps import Id, InProject
from elluminate_async.server.routes.refusals import NothingStored, refused
from elluminate_async.server.store import agent_results as store
from elluminate_async.server.store.agent_acceptance import ReadResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from elluminate_async.schemas.agent_results import AgentResult

router = APIRouter(
    prefix="/experiments/{experiment_id}/agent-results",
    tags=["agent_results"],
    route_class=BoundedRoute,
)

_ROLES = ("assistant", "tool", "user", "system")


@router.get("/definition")
async def define(project: InProject, experiment_id: Id) -> AgentResultsDefinition:
    """The tasks and criteria that uploads may name."""
    return await project.read(store.definition, experiment_id)


@router.post("/preview")
async def preview(
    project: InProject, experiment_id: Id, body: AgentResultsPreviewRequest
) -> AgentResultsPreview:
    """The tasks that results would be stored for; nothing is."""
    return await project.read(store.preview, experiment_id, body.results)


@router.post(
    "", response_model=AgentResultsUpload, responses=refused(400, body=NothingStored) | refused(409)
)
async def upload(
    project: InProject, request: Request, experiment_id: Id, body: AgentResultsUploadRequest
) -> Response:
    """Store results, as far as they can be; 400 when none is of a task of the experiment."""
    data = await request.body()
    results = await aside.of_body(data, lambda _: [_read(one) for one in body.results])

    async def prepare() -> Callable[[Connection], AgentResultsUpload]:
        return partial(
            store.upload,
            project_id=project.id,
            experiment_id=experiment_id,
            results=results,
            epoch=body.epoch,
            evaluate=body.evaluate,
        )

    def begin(made: AgentResultsUpload) -> None:
        if made.evaluation_task_id is not None:
            project.service.jobs.submit(made.evaluation_task_id, project.id)

    return await answer_prepared_once(
        request,
        project,
        prepare,
        status=200,
        after=begin,
        experiment=lambda _connection, _made: experiment_id,
    )


def _read(one: AgentResult) -> ReadResult:
    check_messages(one.messages)
    for number, message in enumerate(one.messages, 1):
        # Official clients cannot read a response with any other.
        if message["role"] not in _ROLES:
            raise Problem(422, f"message {number} has the role {message['role']!r:.60}")
        if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise Problem(422, f"message {number} is of a tool and has no tool_call_id")
    if one.trajectory is None:
        return ReadResult(one, None, None)
    read = read_trajectory(one.trajectory)
    return ReadResult(one, None, read) if isinstance(read, str) else ReadResult(one, read, None)
