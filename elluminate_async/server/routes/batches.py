"""The shared part of the endpoints of response batches and rating batches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from fastapi import Response

from elluminate_async.schemas import JobStatusName
from elluminate_async.server.answers import LARGE_ROWS, EventStream
from elluminate_async.server.idempotency import begun_under_key
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes.deps import CurrentProject, json_response
from elluminate_async.server.sse import Status, job_stream
from elluminate_async.server.store import job_statuses, revoking
from elluminate_async.server.store.jobs import JobKind

if TYPE_CHECKING:
    from fastapi import Request


async def poll(project: CurrentProject, kind: JobKind, task_id: str) -> Response:
    """The status document."""
    status = await _status(project, kind, task_id)
    return json_response(status.document, held=status.held)


async def stream(
    project: CurrentProject, kind: JobKind, task_id: str, interval: float
) -> EventStream:
    """The status documents as they come."""
    return await job_stream(
        project.service.jobs, task_id, lambda: _status(project, kind, task_id), interval
    )


async def revoke(project: CurrentProject, kind: JobKind, task_id: str) -> None:
    """End it as it is.

    Raises:
        Problem: 404 when there is no such job; 405 as the hosted service answers.
    """
    require_cancellation(project)
    await project.read(revoking.require, kind, task_id)
    await project.service.jobs.revoke(task_id)


async def revoke_keyed(request: Request, project: CurrentProject) -> None:
    """End the job that a POST to this path began under the key of this request, if any did."""
    require_cancellation(project)
    answer = await begun_under_key(request, project)
    if isinstance(answer, dict):  # an experiment
        answer = cast("dict[str, object]", answer).get("generation_task_id")
    if isinstance(answer, str):
        await project.service.jobs.revoke(answer)


def require_cancellation(project: CurrentProject) -> None:
    """405 where the server answers as one that cannot cancel anything."""
    if not project.service.profile.cancellation:
        raise Problem(405, "method not allowed")


async def _status(project: CurrentProject, kind: JobKind, task_id: str) -> Status:
    full = project.service.profile.results_with_status
    job = project.service.jobs.running(project.id, task_id)
    if job is not None and job.plan.kind is kind:
        name = JobStatusName.STARTED
        return Status(name, job_statuses.batch_document(name, None, job.progress if full else None))

    told = partial(job_statuses.batch_status, revoked_as=project.revoked_as)
    name, document = await project.read(told, kind, task_id, full=full, most_rows=LARGE_ROWS)
    if document is not None:
        return Status(name, document)

    async def make() -> bytes:
        _, whole = await project.read(told, kind, task_id, full=full)
        assert whole is not None, "without a bound it is always told"
        return whole.encode()

    large = project.service.large_answers
    return Status(name, *await large.make(make, is_wanted=project.is_awaited))
