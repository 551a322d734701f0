"""Responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator

from elluminate_async.schemas import (
    Page,
    PromptResponse,
    ResponseBatchRequest,
    ResponseIn,
    ResponsesSample,
    ResponsesStats,
    SampleSort,
)
from elluminate_async.schemas.base import ListOf
from elluminate_async.schemas.jobs import ResponseJobStatus
from elluminate_async.schemas.responses import AnnotateRequest
from elluminate_async.server.acceptance import BoundedRoute, check_messages
from elluminate_async.server.answers import EventStream
from elluminate_async.server.generator import generate
from elluminate_async.server.idempotency import answer_prepared_once, begun_under_key
from elluminate_async.server.intake import take_batch
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes import batches
from elluminate_async.server.routes.deps import (
    MAX_ID,
    Id,
    InProject,
    OptionalFlag,
    OptionalFloat,
    OptionalId,
    OptionalText,
    PageNumber,
    json_response,
    none_if_nothing,
)
from elluminate_async.server.routes.queries import read_verdicts
from elluminate_async.server.routes.refusals import OF_BATCH, refused
from elluminate_async.server.sse import DEFAULT_INTERVAL, PollingInterval, streamed
from elluminate_async.server.store import item_keys, new_responses, samples, usage
from elluminate_async.server.store import responses as store
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.cells import CellFilter
from elluminate_async.server.store.jobs import JobKind
from elluminate_async.server.store.rows import PageRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.responses import GeneratedResponse
    from elluminate_async.server.store.wire_json import WireText

router = APIRouter(prefix="/responses", tags=["responses"], route_class=BoundedRoute)


async def _bounds(
    duration_seconds_min: OptionalFloat = None,
    duration_seconds_max: OptionalFloat = None,
    input_tokens_min: OptionalFloat = None,
    input_tokens_max: OptionalFloat = None,
    output_tokens_min: OptionalFloat = None,
    output_tokens_max: OptionalFloat = None,
) -> tuple[tuple[str, float], ...]:
    given = {
        "duration_seconds_min": duration_seconds_min,
        "duration_seconds_max": duration_seconds_max,
        "input_tokens_min": input_tokens_min,
        "input_tokens_max": input_tokens_max,
        "output_tokens_min": output_tokens_min,
        "output_tokens_max": output_tokens_max,
    }
    return tuple((name, value) for name, value in given.items() if value is not None)


async def _filter(
    bounds: Annotated[tuple[tuple[str, float], ...], Depends(_bounds)],
    experiment_id: OptionalId = None,
    prompt_template_id: OptionalId = None,
    template_variables_id: OptionalId = None,
    collection_id: OptionalId = None,
    prompt_id: OptionalId = None,
    llm_model_name: OptionalText = None,
    epoch: OptionalId = None,
    response_ids: Annotated[ListOf[int] | None, Query()] = None,
) -> store.ResponseFilter:
    return store.ResponseFilter(
        experiment_id=experiment_id,
        prompt_template_id=prompt_template_id,
        template_variables_id=template_variables_id,
        collection_id=collection_id,
        prompt_id=prompt_id,
        llm_model_name=llm_model_name,
        epoch=epoch,
        response_ids=None if response_ids is None else tuple(response_ids),
        bounds=bounds,
    )


@router.get("", response_model=Page[PromptResponse])
async def find(
    project: InProject,
    wanted: Annotated[store.ResponseFilter, Depends(_filter)],
    page: PageNumber = 1,
) -> Response:
    """Finished responses with their ratings, in the order of the inputs."""
    profile = project.service.profile
    request = PageRequest(page, profile.page_size)
    return json_response(await project.read(store.page, wanted, request, profile.listing_seed))


@router.post("", status_code=201, response_model=PromptResponse, responses=refused(409, 410))
async def add(project: InProject, request: Request, body: ResponseIn) -> Response:
    """Store a response as given; without messages, generate it."""
    return await _make(project, request, body)


@router.post(
    "/generate", status_code=201, response_model=PromptResponse, responses=refused(409, 410)
)
async def generate_one(project: InProject, request: Request, body: ResponseIn) -> Response:
    """Generate a response and wait for it."""
    return await _make(project, request, body.model_copy(update={"messages": []}))


@router.delete("/generate", status_code=204, responses=refused(405))
async def abandon_one(project: InProject, request: Request) -> None:
    """Abandon the generation that goes on under this request's idempotency key."""
    batches.require_cancellation(project)
    await begun_under_key(request, project)


@router.post("/batches", status_code=202, response_model=str | None, responses=OF_BATCH)
async def start_batch(project: InProject, request: Request, body: ResponseBatchRequest) -> Response:
    """Accept a batch of responses to generate or to store."""
    for item in body.prompt_response_ins:
        check_messages(item.messages)

    items: Sequence[ResponseIn] = body.prompt_response_ins
    if not project.service.profile.item_keys:
        items = [item_keys.without(item) for item in items]

    def make(connection: Connection, project_id: int) -> NewJob:
        ids = new_responses.place_responses(
            connection, project_id, items, retry_failed=body.retry_failed
        )
        return NewJob(JobKind.RESPONSES, ids)

    return await take_batch(request, project, make, items, retry_failed=body.retry_failed)


@router.get("/batches/{task_id}", response_model=ResponseJobStatus)
async def poll_batch(project: InProject, task_id: str) -> Response:
    """How far a batch is."""
    return await batches.poll(project, JobKind.RESPONSES, task_id)


@router.delete("/batches", status_code=204, responses=refused(405))
async def revoke_batch_by_key(project: InProject, request: Request) -> None:
    """End the batch that was begun under this request's idempotency key."""
    await batches.revoke_keyed(request, project)


@router.delete("/batches/{task_id}", status_code=204, responses=refused(405))
async def revoke_batch(project: InProject, task_id: str) -> None:
    """End a batch: what is done stays, and no model is asked for the rest."""
    await batches.revoke(project, JobKind.RESPONSES, task_id)


@router.get(
    "/batches/{task_id}/stream",
    response_class=StreamingResponse,
    responses=streamed(ResponseJobStatus),
)
async def stream_batch(
    project: InProject, task_id: str, polling_interval: PollingInterval = DEFAULT_INTERVAL
) -> EventStream:
    """How far a batch is, as it goes."""
    return await batches.stream(project, JobKind.RESPONSES, task_id, polling_interval)


@router.get("/samples", response_model=list[ResponsesSample])
async def list_samples(
    project: InProject,
    experiment_id: Annotated[int, Query(ge=0, le=MAX_ID)],
    bounds: Annotated[tuple[tuple[str, float], ...], Depends(_bounds)],
    *,
    criteria_filter_by: OptionalText = None,
    exclude_perfect_responses: OptionalFlag = None,
    show_only_annotated_responses: OptionalFlag = None,
    sort_by: Annotated[SampleSort | None, BeforeValidator(none_if_nothing)] = None,
) -> Response:
    """An experiment's responses by the rows that they are to."""
    wanted = samples.SampleFilter(
        experiment_id,
        read_verdicts(criteria_filter_by),
        bounds,
        not_perfect=exclude_perfect_responses or False,
        annotated=show_only_annotated_responses or False,
    )
    return json_response(await project.read(samples.listed, wanted, sort_by))


@router.get("/comparison/samples", response_model=list[ResponsesSample])
async def compare_samples(
    project: InProject,
    experiment_a_id: Annotated[int, Query(ge=0, le=MAX_ID)],
    experiment_b_id: Annotated[int, Query(ge=0, le=MAX_ID)],
    filter_samples_by: Annotated[
        Literal["improved", "regressed"] | None, BeforeValidator(none_if_nothing)
    ] = None,
    criterion_ids: Annotated[ListOf[int] | None, Query()] = None,
    categorical_filters: OptionalText = None,
) -> Response:
    """The samples of two experiments on the same rows, side by side."""
    return json_response(
        await project.read(
            samples.compared,
            experiment_a_id,
            experiment_b_id,
            filter_samples_by,
            criterion_ids,
            CellFilter.of(categorical_filters),
        )
    )


@router.get("/stats")
async def stats(
    project: InProject,
    days: Annotated[int, Query(ge=1, le=90)] = 30,
    llm_config_id: OptionalId = None,
) -> ResponsesStats:
    """Usage of the last days, of one configuration or of all."""
    return await project.read(usage.of_days, days, llm_config_id)


@router.get("/{response_id}", response_model=PromptResponse)
async def get(project: InProject, response_id: Id) -> Response:
    """One response with its ratings."""
    return json_response(await project.read(store.get, response_id))


@router.patch("/{response_id}", response_model=PromptResponse, responses=refused(409))
async def annotate(project: InProject, response_id: Id, body: AnnotateRequest) -> Response:
    """Set its annotation; 409 while a retry is about to replace a failed one."""
    return json_response(await project.write(store.annotate, response_id, body.annotation))


@router.delete("/{response_id}", status_code=204)
async def remove(project: InProject, response_id: Id) -> None:
    """Delete one, with its ratings."""
    await project.remove(store.remove, response_id)


async def _make(project: CurrentProject, request: Request, item: ResponseIn) -> Response:
    check_messages(item.messages)
    if not project.service.profile.item_keys:
        item = item_keys.without(item)
    elif item.item_key is not None:
        raise Problem(422, "item_key is for the items of batches: send it as a batch of one")
    with project.service.calls.begin() as call:

        async def prepare() -> Callable[[Connection], WireText]:
            # Nothing is kept until there is an answer: a request that is cut off leaves no row.
            answer = None
            if not item.messages:
                models = project.service.models
                work = await project.write(new_responses.preview, item, call)
                answer = await generate(models, work, models.caller(project.id))
            return partial(_keep, project_id=project.id, item=item, answer=answer)

        return await answer_prepared_once(
            request,
            project,
            prepare,
            status=201,
            is_paid=not item.messages,
            experiment=lambda _connection, _document: item.experiment_id,
        )
    raise AssertionError("unreachable")


def _keep(
    connection: Connection, project_id: int, item: ResponseIn, answer: GeneratedResponse | None
) -> WireText:
    (response_id,) = new_responses.create_responses(connection, project_id, [item], answered=True)
    if answer is not None:
        store.complete(connection, [(response_id, answer)])
    return store.get(connection, project_id, response_id)
