"""The shared part of the endpoints of response batches and rating batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from fastapi import Request, Response

from elluminate_async.schemas import JobStatusName, ResponseIn
from elluminate_async.server.answers import LARGE_ROWS, EventStream
from elluminate_async.server.idempotency import answer_once
from elluminate_async.server.placement import is_large, placed
from elluminate_async.server.routes.deps import CurrentProject, json_response
from elluminate_async.server.sse import Status, job_stream
from elluminate_async.server.store import accepting, new_responses
from elluminate_async.server.store import jobs as store
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.jobs import JobKind

if TYPE_CHECKING:
    from sqlalchemy import Connection


async def start(
    request: Request,
    project: CurrentProject,
    make: Callable[[Connection, int], NewJob],
    items: Sequence[ResponseIn] = (),
) -> Response:
    """Accept a batch: its rows, its job and its key are committed before the answer.

    The answer is the task id, or null when there is nothing to do.

    Args:
        request: The request.
        project: Where it goes.
        make: Makes the rows and tells of which job they are.
        items: Rows to make in slices instead, where they are many.
    """
    in_slices = is_large(len(items))

    def accept(connection: Connection) -> str | None:
        job = make(connection, project.id)
        return accepting.accept(connection, project.id, job) if job.response_ids else None

    async with AsyncExitStack() as taking_back:

        async def prepare() -> Callable[[Connection], str | None]:
            if not in_slices:
                return accept
            new = NewJob(JobKind.RESPONSES, ())
            job = await project.write(accepting.begin, new, len(items))
            hidden = await taking_back.enter_async_context(placed(project, job, items))

            def accept_placed(connection: Connection) -> str:
                new_responses.show(connection, hidden)
                experiments = {one.experiment_id for one in items}
                owner = experiments.pop() if len(experiments) == 1 else None
                return accepting.accept_placed(connection, job, owner)

            return accept_placed

        def begin(task_id: str | None) -> None:
            if task_id is not None:
                project.service.jobs.submit(task_id)

        body = await request.body()
        return await answer_once(
            request,
            project,
            prepare,
            status=202,
            body=body,
            after=begin,
            asks_model=in_slices,
            experiment=accepting.experiment_of,
        )
    raise AssertionError("unreachable")


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


async def _status(project: CurrentProject, kind: JobKind, task_id: str) -> Status:
    full = project.service.profile.results_with_status
    job = project.service.jobs.running(project.id, task_id)
    if job is not None and job.plan.kind is kind:
        name = JobStatusName.STARTED
        return Status(name, store.batch_document(name, None, job.progress if full else None))

    name, document = await project.read(
        store.batch_status, kind, task_id, full=full, most_rows=LARGE_ROWS
    )
    if document is not None:
        return Status(name, document)

    async def make() -> bytes:
        _, whole = await project.read(store.batch_status, kind, task_id, full=full)
        assert whole is not None, "without a bound it is always told"
        return whole.encode()

    large = project.service.large_answers
    return Status(name, *await large.make(make, is_wanted=project.is_awaited))
