"""Scenarios: the rows of a scenario set."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import Page, Scenario, ScenarioIn
from elluminate_async.schemas.scenarios import ScenarioBatchRequest
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.idempotency import answer_once
from elluminate_async.server.routes.deps import Id, InProject, PageNumber
from elluminate_async.server.routes.refusals import refused
from elluminate_async.server.store import scenarios as store

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(
    prefix="/scenario-sets/{set_id}/scenarios", tags=["scenarios"], route_class=BoundedRoute
)


@router.get("", response_model=Page[Scenario])
async def find(project: InProject, set_id: Id, page: PageNumber = 1) -> Response:
    """In order of creation."""

    def ids(connection: Connection, project_id: int) -> list[int]:
        return store.find_ids(connection, project_id, set_id)

    def largest(connection: Connection, _project_id: int) -> int:
        return store.largest(connection, set_id)

    return await project.page(page, ids, store.documents, largest)


@router.post("", status_code=201, response_model=Scenario, responses=refused(409))
async def add(project: InProject, request: Request, set_id: Id, body: ScenarioIn) -> Response:
    """A new scenario, also where an equal one exists."""

    def make(connection: Connection) -> Scenario:
        (made,) = store.add(connection, project.id, set_id, [body])
        return made

    return await answer_once(request, project, make, status=201)


@router.post("/batch", status_code=201, response_model=list[Scenario], responses=refused(409))
async def add_many(
    project: InProject, request: Request, set_id: Id, body: ScenarioBatchRequest
) -> Response:
    """New scenarios, in their order; with ``skip_existing`` without those that exist."""
    make = partial(
        store.add_many,
        project_id=project.id,
        set_id=set_id,
        items=body.scenarios,
        skip_existing=body.skip_existing,
    )
    return await answer_once(request, project, make, status=201)


@router.get("/{scenario_id}")
async def get(project: InProject, set_id: Id, scenario_id: Id) -> Scenario:
    """One scenario."""
    return await project.read(store.get, set_id, scenario_id)


@router.put("/{scenario_id}")
async def edit(project: InProject, set_id: Id, scenario_id: Id, body: ScenarioIn) -> Scenario:
    """Replace all of a scenario; fields left out get their default again."""
    return await project.write(store.edit, set_id, scenario_id, body)


@router.delete("/{scenario_id}", status_code=204)
async def remove(project: InProject, set_id: Id, scenario_id: Id) -> None:
    """Delete a scenario."""
    await project.write(store.remove, set_id, scenario_id)
