"""Ratings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from elluminate_async.schemas import Page, Rating, RatingBatchRequest, RatingRequest
from elluminate_async.schemas.jobs import RatingJobStatus
from elluminate_async.server import judge
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.answers import EventStream
from elluminate_async.server.idempotency import answer_prepared_once, begun_under_key
from elluminate_async.server.intake import take_batch
from elluminate_async.server.problems import Problem, model_failed
from elluminate_async.server.routes import batches
from elluminate_async.server.routes.deps import InProject, OptionalId, PageNumber
from elluminate_async.server.routes.refusals import OF_BATCH, refused
from elluminate_async.server.sse import DEFAULT_INTERVAL, PollingInterval, streamed
from elluminate_async.server.store import job_inputs, rating_runs, sizes
from elluminate_async.server.store import ratings as store
from elluminate_async.server.store.accepting import NewJob, experiment_of_responses
from elluminate_async.server.store.jobs import JobKind

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elluminate_async.server.store.in_flight import Call
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.ratings import JudgeVerdict

router = APIRouter(prefix="/ratings", tags=["ratings"], route_class=BoundedRoute)


@router.get("", response_model=Page[Rating])
async def find(
    project: InProject, prompt_response_id: OptionalId = None, page: PageNumber = 1
) -> Response:
    """The current ratings of a response, in the order of its criteria."""
    ids = partial(store.find_ids, response_id=prompt_response_id)
    return await project.page(page, ids, store.documents, sizes.largest("rating"))


@router.post("", status_code=201, response_model=list[Rating], responses=refused(409, 410, 424))
async def rate(project: InProject, request: Request, body: RatingRequest) -> Response:
    """Rate one response and wait for it; 424 when the judge gives no complete verdict."""

    def experiment(connection: Connection, _: list[Rating]) -> int | None:
        return experiment_of_responses(connection, [body.prompt_response_id])

    with project.service.calls.begin() as call:

        async def prepare() -> Callable[[Connection], list[Rating]]:
            one = await project.write(_ratable, body.prompt_response_id, call)
            models = project.service.models
            judgement = await judge.judge(models, one, body.rating_mode, models.caller(project.id))
            if judgement.failure is not None:
                raise model_failed(judgement.failure)
            return partial(_keep, project_id=project.id, verdicts=judgement.verdicts)

        return await answer_prepared_once(
            request, project, prepare, status=201, is_paid=True, experiment=experiment
        )
    raise AssertionError("unreachable")


@router.delete("", status_code=204, responses=refused(405))
async def abandon_one(project: InProject, request: Request) -> None:
    """Abandon the rating that goes on under this request's idempotency key."""
    batches.require_cancellation(project)
    await begun_under_key(request, project)


@router.post("/batches", status_code=202, response_model=str | None, responses=OF_BATCH)
async def start_batch(project: InProject, request: Request, body: RatingBatchRequest) -> Response:
    """Accept a batch of responses to rate."""
    ids, mode = body.prompt_response_ids, body.rating_mode
    run = body.run if project.service.profile.item_keys else None

    def make(connection: Connection, project_id: int) -> NewJob:
        job_inputs.require_ratable(connection, project_id, ids)
        if run is None:
            return NewJob(JobKind.RATINGS, ids, mode)
        run_id = rating_runs.begin(connection, project_id, run, mode, ids)
        return NewJob(JobKind.RATINGS, ids, mode, run_id=run_id)

    return await take_batch(request, project, make)


@router.get("/batches/{task_id}", response_model=RatingJobStatus)
async def poll_batch(project: InProject, task_id: str) -> Response:
    """How far a batch is."""
    return await batches.poll(project, JobKind.RATINGS, task_id)


@router.delete("/batches", status_code=204, responses=refused(405))
async def revoke_batch_by_key(project: InProject, request: Request) -> None:
    """End the batch that was begun under this request's idempotency key."""
    await batches.revoke_keyed(request, project)


@router.delete("/batches/{task_id}", status_code=204, responses=refused(405))
async def revoke_batch(project: InProject, task_id: str) -> None:
    """End a batch: what is done stays, and no model is asked for the rest."""
    await batches.revoke(project, JobKind.RATINGS, task_id)


@router.get(
    "/batches/{task_id}/stream",
    response_class=StreamingResponse,
    responses=streamed(RatingJobStatus),
)
async def stream_batch(
    project: InProject, task_id: str, polling_interval: PollingInterval = DEFAULT_INTERVAL
) -> EventStream:
    """How far a batch is, as it goes."""
    return await batches.stream(project, JobKind.RATINGS, task_id, polling_interval)


def _ratable(connection: Connection, project_id: int, response_id: int, call: Call) -> Work:
    job_inputs.require_ratable(connection, project_id, [response_id])
    (one,) = job_inputs.load(connection, project_id, [response_id])
    if one.obstacle is not None:
        raise Problem(400, one.obstacle)
    call.refer(connection, response_id, (criterion.id for criterion in one.criteria))
    return one


def _keep(connection: Connection, project_id: int, verdicts: list[JudgeVerdict]) -> list[Rating]:
    ids = store.record(connection, project_id, verdicts)
    if not ids:
        raise Problem(404, "the response, or what it was rated by, was deleted meanwhile")
    return store.by_ids(connection, project_id, ids)
