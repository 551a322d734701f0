"""Experiments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from elluminate_async.schemas import (
    CreateExperimentRequest,
    Experiment,
    ExperimentMap,
    GenerationStatus,
    JobStatusName,
    Page,
    RetryFailedRequest,
    RunExperimentRequest,
)
from elluminate_async.server.acceptance import BoundedRoute, check_epochs, check_params
from elluminate_async.server.answers import EventStream
from elluminate_async.server.intake import take_new, take_retry, take_run
from elluminate_async.server.routes.batches import require_cancellation, revoke_keyed
from elluminate_async.server.routes.deps import (
    Id,
    InProject,
    OptionalId,
    OptionalName,
    OptionalText,
    PageNumber,
    Waiter,
    json_response,
)
from elluminate_async.server.routes.refusals import refused
from elluminate_async.server.sse import (
    DEFAULT_INTERVAL,
    PollingInterval,
    Status,
    job_stream,
    streamed,
)
from elluminate_async.server.store import experiment_maps, job_statuses, revoking, sizes
from elluminate_async.server.store import experiments as store
from elluminate_async.server.store.cells import CellFilter
from elluminate_async.server.store.jobs import JobKind
from elluminate_async.server.store.rows import PageRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elluminate_async.server.routes.deps import CurrentProject

MOST_SAMPLES: Final = 500
"""Of one page of a map."""

router = APIRouter(prefix="/experiments", tags=["experiments"], route_class=BoundedRoute)


@router.post("", status_code=201, response_model=Experiment, responses=refused(409))
async def create(project: InProject, request: Request, body: CreateExperimentRequest) -> Response:
    """A new experiment, run at once with ``generate``; 409 when the name is taken."""
    check_epochs(body.n_epochs)
    check_params(body.generation_params)

    if not body.generate:
        return await take_new(request, project, body)
    options = RunExperimentRequest(
        rating_mode=body.rating_mode,
        n_epochs=body.n_epochs,
        generation_params=body.generation_params,
    )
    make = partial(store.create, project_id=project.id, body=body)
    rows = partial(store.count_in, collection_id=body.collection_id)
    return await take_run(request, project, make, options, rows=rows, is_new=True)


@router.delete("", status_code=204, responses=refused(405))
async def revoke_new_run(project: InProject, request: Request) -> None:
    """End the run of the experiment that was made under this request's idempotency key."""
    await revoke_keyed(request, project)


@router.get("", response_model=Page[Experiment])
async def find(
    project: InProject,
    experiment_name: OptionalName = None,
    prompt_template_id: OptionalId = None,
    collection_id: OptionalId = None,
    llm_config_id: OptionalId = None,
    page: PageNumber = 1,
) -> Response:
    """In order of creation, with their results."""
    ids = partial(
        store.find_ids,
        name=experiment_name,
        prompt_template_id=prompt_template_id,
        collection_id=collection_id,
        llm_config_id=llm_config_id,
    )
    documents = partial(store.documents, legacy=project.is_legacy, official=project.is_official)
    return await project.page(page, ids, documents, sizes.largest("experiment"))


@router.get("/{experiment_id}", response_model=Experiment)
async def get(
    project: InProject, experiment_id: Id, categorical_filters: OptionalText = None
) -> Response:
    """One experiment with its results; with filters, those over the rows that match."""
    found = await project.read(
        store.get,
        experiment_id,
        legacy=project.is_legacy,
        official=project.is_official,
        cells=CellFilter.of(categorical_filters),
    )
    return json_response(found)


@router.get("/{experiment_id}/map")
async def show_map(
    project: InProject,
    experiment_id: Id,
    page: PageNumber = 1,
    limit: Annotated[int, Query(ge=1, le=MOST_SAMPLES)] = 50,
) -> ExperimentMap:
    """A page of its samples, without texts."""
    return await project.read(experiment_maps.page, experiment_id, PageRequest(page, limit))


@router.post("/{experiment_id}/run", response_model=Experiment, responses=refused(409))
async def run(
    project: InProject, request: Request, experiment_id: Id, body: RunExperimentRequest
) -> Response:
    """Generate and rate; 400 when it has run before."""
    check_epochs(body.n_epochs)
    check_params(body.generation_params)

    def there(_connection: Connection) -> int:
        return experiment_id

    rows = partial(store.count_to_run, experiment_id=experiment_id)
    return await take_run(request, project, there, body, rows=rows, is_new=False)


@router.delete("/{experiment_id}/run", status_code=204, responses=refused(405))
async def revoke_run(project: InProject, request: Request, experiment_id: Id) -> None:
    """End the run that was begun under this request's idempotency key."""
    del experiment_id
    await revoke_keyed(request, project)


@router.post("/{experiment_id}/retry-failed", response_model=Experiment, responses=refused(409))
async def retry_failed(
    project: InProject, request: Request, experiment_id: Id, body: RetryFailedRequest
) -> Response:
    """Generate failed responses again, and rate those that lack a verdict; the others stay.

    Without a ``generation_task_id`` there is nothing to do. 409 while a job works on them, or a
    judge on one alone, and where annotations of failed responses would be lost.
    """
    return await take_retry(request, project, experiment_id, body)


@router.delete("/{experiment_id}/retry-failed", status_code=204, responses=refused(405))
async def revoke_retry(project: InProject, request: Request, experiment_id: Id) -> None:
    """End the retry that was begun under this request's idempotency key."""
    del experiment_id
    await revoke_keyed(request, project)


@router.delete("/{experiment_id}", status_code=204)
async def remove(project: InProject, experiment_id: Id) -> None:
    """Delete one, with its responses."""
    await project.remove(store.remove, experiment_id)


@router.get("/{experiment_id}/generation/{task_id}", response_model=GenerationStatus)
async def poll_generation(
    project: InProject, experiment_id: Id, task_id: str, connection_uuid: Waiter = None
) -> Response:
    """How far it is; and for one who says who asks, the log since that one asked before."""
    document = await _status(project, experiment_id, task_id)
    if connection_uuid is not None:
        log = await project.read(store.logs, experiment_id)
        cursors = project.service.log_cursors
        document["logs_delta"] = cursors.delta(experiment_id, connection_uuid, log)
    return json_response(document)


@router.delete("/{experiment_id}/generation/{task_id}", status_code=204, responses=refused(405))
async def revoke_generation(project: InProject, experiment_id: Id, task_id: str) -> None:
    """End it: what is done stays, and no model is asked for the rest."""
    require_cancellation(project)
    await project.read(revoking.require, JobKind.EXPERIMENT, task_id, experiment_id)
    await project.service.jobs.revoke(task_id)


@router.get(
    "/{experiment_id}/generation/{task_id}/stream",
    response_class=StreamingResponse,
    responses=streamed(GenerationStatus),
)
async def stream_generation(
    project: InProject,
    experiment_id: Id,
    task_id: str,
    polling_interval: PollingInterval = DEFAULT_INTERVAL,
) -> EventStream:
    """How far it is, as it goes."""
    logs_seen = 0

    async def status() -> Status:
        nonlocal logs_seen
        document = await _status(project, experiment_id, task_id)
        logs: str = await project.read(store.logs, experiment_id)
        document["logs_delta"], logs_seen = logs[logs_seen:] or None, len(logs)
        return Status(document["status"], to_json(document).decode())

    return await job_stream(project.service.jobs, task_id, status, polling_interval)


async def _status(project: CurrentProject, experiment_id: int, task_id: str) -> dict[str, Any]:
    job = project.service.jobs.running(project.id, task_id)
    if job is not None and job.plan.experiment_id == experiment_id:
        # It may have been deleted meanwhile: its job goes on for a while.
        await project.read(store.logs, experiment_id)
        return job_statuses.generation_document(task_id, JobStatusName.STARTED, None, job.progress)
    return await project.read(
        job_statuses.generation_status, experiment_id, task_id, revoked_as=project.revoked_as
    )
