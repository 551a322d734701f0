"""Criterion sets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import CreateCriterionSetRequest, CriterionSet, Page
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.idempotency import answer_once
from elluminate_async.server.problems import check_count
from elluminate_async.server.routes.deps import Cascade, Id, InProject, OptionalName, PageNumber
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.store import criteria, prompt_templates, sizes
from elluminate_async.server.store import criterion_sets as store

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/criterion_sets", tags=["criterion_sets"], route_class=BoundedRoute)


@router.post("", status_code=201, response_model=CriterionSet, responses=refused(409))
async def create(project: InProject, request: Request, body: CreateCriterionSetRequest) -> Response:
    """A new set; 409 when the name is taken."""
    check_count(len(body.criteria or ()), criteria.MOST_CRITERIA, "criteria")
    made = partial(store.create, project_id=project.id, body=body)
    return await answer_once(request, project, made, status=201)


@router.get("", response_model=Page[CriterionSet])
async def find(project: InProject, name: OptionalName = None, page: PageNumber = 1) -> Response:
    """In order of creation."""
    return await project.page(
        page, partial(store.find_ids, name=name), store.documents, sizes.largest("criterion set")
    )


@router.get("/{set_id}")
async def get(project: InProject, set_id: Id) -> CriterionSet:
    """One set with its criteria and templates."""
    return await project.read(store.get, set_id)


@router.delete("/{set_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, set_id: Id, cascade: Cascade = False) -> None:
    """Delete a set with its criteria; 409 when there are responses or ratings of it."""
    await project.remove(store.remove, set_id, project.deletion(cascade=cascade))


@router.put("/{set_id}/prompt_templates/{template_id}")
async def link(project: InProject, set_id: Id, template_id: Id) -> CriterionSet:
    """Let the set rate the template's responses."""

    def run(connection: Connection, project_id: int) -> CriterionSet:
        store.require(connection, project_id, set_id)
        prompt_templates.link(connection, project_id, template_id, set_id)
        return store.get(connection, project_id, set_id)

    return await project.write(run)


@router.delete("/{set_id}/prompt_templates/{template_id}", status_code=204)
async def unlink(project: InProject, set_id: Id, template_id: Id) -> None:
    """Take the link away, if there is one."""

    def run(connection: Connection, project_id: int) -> None:
        store.require(connection, project_id, set_id)
        template = prompt_templates.get(connection, project_id, template_id)
        if template.criterion_set_id == set_id:
            prompt_templates.link(connection, project_id, template_id, None)

    await project.write(run)
