"""Prompt templates."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import CreatePromptTemplateRequest, Page, PromptTemplate
from elluminate_async.server.acceptance import BoundedRoute, check_template
from elluminate_async.server.idempotency import answer_once
from elluminate_async.server.routes.deps import (
    Cascade,
    Id,
    InProject,
    OptionalId,
    OptionalName,
    PageNumber,
)
from elluminate_async.server.routes.refusals import EqualTemplate, InUse, refused
from elluminate_async.server.store import prompt_templates as store
from elluminate_async.server.store import sizes

router = APIRouter(prefix="/prompt_templates", tags=["prompt_templates"], route_class=BoundedRoute)


@router.post(
    "", status_code=201, response_model=PromptTemplate, responses=refused(409, body=EqualTemplate)
)
async def create(
    project: InProject, request: Request, body: CreatePromptTemplateRequest
) -> Response:
    """A new template or version; 409 with ``prompt_template_id`` when there is an equal one."""
    check_template(body)
    made = partial(store.create, project_id=project.id, body=body)
    return await answer_once(request, project, made, status=201)


@router.get("", response_model=Page[PromptTemplate])
async def find(
    project: InProject,
    name: OptionalName = None,
    version: OptionalId = None,
    criterion_set_id: OptionalId = None,
    compatible_collection_id: OptionalId = None,
    page: PageNumber = 1,
) -> Response:
    """All of them, or the versions of a name, newest first."""
    ids = partial(
        store.find_ids,
        name=name,
        version=version,
        criterion_set_id=criterion_set_id,
        compatible_collection_id=compatible_collection_id,
    )
    return await project.page(page, ids, store.documents, sizes.largest("prompt template"))


@router.get("/{template_id}")
async def get(project: InProject, template_id: Id) -> PromptTemplate:
    """One version."""
    return await project.read(store.get, template_id)


@router.delete("/{template_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, template_id: Id, cascade: Cascade = False) -> None:
    """Delete one version; 409 when there are responses to it, unless they are to go too."""
    await project.remove(store.remove, template_id, project.deletion(cascade=cascade))
