"""Scenario sets and their fields."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import Page, ScenarioField, ScenarioSet
from elluminate_async.schemas.scenario_sets import (
    CreateScenarioSetRequest,
    ScenarioFieldRequest,
    UpdateScenarioSetRequest,
)
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.idempotency import answer_once
from elluminate_async.server.routes.deps import Cascade, Id, InProject, OptionalName, PageNumber
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.store import scenario_sets as store
from elluminate_async.server.store import sizes

router = APIRouter(prefix="/scenario-sets", tags=["scenario_sets"], route_class=BoundedRoute)


@router.post("", status_code=201, response_model=ScenarioSet, responses=refused(409))
async def create(project: InProject, request: Request, body: CreateScenarioSetRequest) -> Response:
    """A new set; 400 when a set or a collection has its name."""
    made = partial(store.create, project_id=project.id, body=body)
    return await answer_once(request, project, made, status=201)


@router.get("", response_model=Page[ScenarioSet])
async def find(
    project: InProject, name_search: OptionalName = None, page: PageNumber = 1
) -> Response:
    """In order of creation, those whose names have that text in them."""
    ids = partial(store.find_ids, name_search=name_search)
    return await project.page(page, ids, store.documents, sizes.largest("scenario set"))


@router.get("/{set_id}")
async def get(project: InProject, set_id: Id) -> ScenarioSet:
    """One set, without its scenarios."""
    return await project.read(store.get, set_id)


@router.put("/{set_id}")
async def edit(project: InProject, set_id: Id, body: UpdateScenarioSetRequest) -> ScenarioSet:
    """Change what is given."""
    return await project.write(store.edit, set_id, body)


@router.delete("/{set_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, set_id: Id, cascade: Cascade = False) -> None:
    """Delete a set, with its scenarios; 409 when responses would go, unless they are to."""
    await project.remove(store.remove, set_id, project.deletion(cascade=cascade))


@router.post(
    "/{set_id}/fields", status_code=201, response_model=ScenarioField, responses=refused(409)
)
async def add_field(
    project: InProject, request: Request, set_id: Id, body: ScenarioFieldRequest
) -> Response:
    """Declare a field, which all scenarios have from then on."""
    made = partial(store.add_field, project_id=project.id, set_id=set_id, body=body)
    return await answer_once(request, project, made, status=201)


@router.put("/{set_id}/fields/{field_id}")
async def edit_field(
    project: InProject, set_id: Id, field_id: Id, body: ScenarioFieldRequest
) -> ScenarioField:
    """Rename a field, and change its default where one is given."""
    return await project.write(store.edit_field, set_id, field_id, body)


@router.delete("/{set_id}/fields/{field_id}", status_code=204)
async def remove_field(project: InProject, set_id: Id, field_id: Id) -> None:
    """Delete a field, with the values that scenarios have for it."""
    await project.write(store.remove_field, set_id, field_id)
