"""Model configurations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import CreateLLMConfigRequest, LLMConfig, Page
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.idempotency import answer_prepared_once
from elluminate_async.server.routes.deps import Cascade, Id, InProject, OptionalName, PageNumber
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.store import llm_configs as store
from elluminate_async.server.store import sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

router = APIRouter(prefix="/llm_configs", tags=["llm_configs"], route_class=BoundedRoute)


@router.post("", status_code=201, response_model=LLMConfig, responses=refused(409))
async def create(project: InProject, request: Request, body: CreateLLMConfigRequest) -> Response:
    """A new configuration; its key is kept, encrypted, and never shown again."""
    models = project.service.models

    async def prepare() -> Callable[[Connection], LLMConfig]:
        key = body.api_key.get_secret_value() if body.api_key is not None else None
        sealed = models.endpoints.admit(body.llm_base_url, key)
        return partial(store.create, project_id=project.id, body=body, sealed_key=sealed)

    def expect(made: LLMConfig) -> None:
        if made.llm_base_url is not None:
            models.expect(made.llm_base_url)

    return await answer_prepared_once(request, project, prepare, status=201, after=expect)


@router.get("", response_model=Page[LLMConfig])
async def find(project: InProject, name: OptionalName = None, page: PageNumber = 1) -> Response:
    """In order of creation."""
    return await project.page(
        page, partial(store.find_ids, name=name), store.documents, sizes.largest("LLM config")
    )


@router.get("/{config_id}")
async def get(project: InProject, config_id: Id) -> LLMConfig:
    """One configuration, without its key."""
    return await project.read(store.get, config_id)


@router.delete("/{config_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, config_id: Id, cascade: Cascade = False) -> None:
    """Delete one; 409 when responses were made with it, unless it is to go all the same."""
    await project.write(store.remove, config_id, project.deletion(cascade=cascade))
