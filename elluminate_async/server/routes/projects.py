"""Projects."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import CreateProjectRequest, Page, Project
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes.deps import InProject, InService, json_response
from elluminate_async.server.routes.refusals import refused
from elluminate_async.server.store import projects as store

router = APIRouter(prefix="/projects", tags=["projects"], route_class=BoundedRoute)


@router.get("", response_model=Page[Project])
async def list_all(service: InService, request: Request) -> Response:
    """The projects that the key opens, on one page."""
    allowed: frozenset[int] = request.state.allowed_projects
    items = await service.database.read(store.list_all, allowed)
    return json_response(Page[Project](items=items, count=len(items)))


@router.post("", status_code=201, responses=refused(404, 409))
async def create(service: InService, request: Request, body: CreateProjectRequest) -> Project:
    """A new project; for keys that open all of them."""
    project_ids = service.keys.project_ids
    if request.state.allowed_projects != project_ids:
        raise Problem(403, "this key is for one project")

    def note(project: Project) -> None:
        project_ids.add(project.id)

    return await service.database.write_then(note, store.create, body, service.models.default.name)


@router.get("/{project_id}", responses=refused(404))
async def get(project: InProject) -> Project:
    """One project."""
    return await project.service.database.read(store.get, project.id)
