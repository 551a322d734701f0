"""Collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from elluminate_async.schemas import (
    Collection,
    CollectionWithEntries,
    CreateCollectionRequest,
    Page,
)
from elluminate_async.schemas.collections import UpdateCollectionRequest
from elluminate_async.server.acceptance import MOST_ITEMS, BoundedRoute
from elluminate_async.server.idempotency import Telling, Told, answer_once
from elluminate_async.server.problems import check_count
from elluminate_async.server.routes.deps import (
    Cascade,
    Id,
    InProject,
    OptionalId,
    OptionalName,
    PageNumber,
)
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.store import collections as store
from elluminate_async.server.store import prompt_templates, sizes, template_variables
from elluminate_async.server.store.idempotency import read_ids, written_ids
from elluminate_async.server.store.template_variables import NewRows

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(prefix="/collections", tags=["collections"], route_class=BoundedRoute)

_LARGE_ROWS: Final = 100


@router.post("", status_code=201, response_model=CollectionWithEntries, responses=refused(409))
async def create(project: InProject, request: Request, body: CreateCollectionRequest) -> Response:
    """A new collection with its rows; 409 when the name is taken."""
    check_count(len(body.variables or ()), MOST_ITEMS, "rows")
    rows = NewRows.of(body.variables or ())

    def make(connection: Connection) -> CollectionWithEntries:
        made = template_variables.create_collection(connection, project.id, body, rows)
        return template_variables.whole_collection(connection, project.id, made)

    def told(made: CollectionWithEntries) -> Told:
        # Of many rows the answer may be large: of what it is about it can be told again.
        is_large = len(made.variables) > _LARGE_ROWS
        return Told(to_json(made).decode(), written_ids([made.id]) if is_large else None)

    def tell_again(connection: Connection, kept: str) -> str:
        (made,) = read_ids(kept)
        return to_json(template_variables.whole_collection(connection, project.id, made)).decode()

    telling = Telling(told, tell_again)
    return await answer_once(request, project, make, status=201, telling=telling)


@router.get("", response_model=Page[Collection])
async def find(
    project: InProject,
    name: OptionalName = None,
    compatible_prompt_template_id: OptionalId = None,
    page: PageNumber = 1,
) -> Response:
    """Without their rows, in order of creation."""

    def ids(connection: Connection, project_id: int) -> list[int]:
        needed: frozenset[str] = frozenset()
        if compatible_prompt_template_id is not None:
            template = prompt_templates.get(connection, project_id, compatible_prompt_template_id)
            needed = frozenset(template.placeholders)
        return store.find_ids(connection, project_id, name, needed)

    return await project.page(page, ids, store.documents, sizes.largest("collection"))


@router.get("/{collection_id}")
async def get(project: InProject, collection_id: Id) -> CollectionWithEntries:
    """One collection with all its rows."""
    return await project.read(template_variables.whole_collection, collection_id)


@router.put("/{collection_id}", responses=refused(409))
async def edit(project: InProject, collection_id: Id, body: UpdateCollectionRequest) -> Collection:
    """Change what is given."""
    return await project.write(store.edit, collection_id, body)


@router.delete("/{collection_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, collection_id: Id, cascade: Cascade = False) -> None:
    """Delete one with its rows; 409 when there are responses, unless they are to go too."""
    await project.remove(store.remove, collection_id, project.deletion(cascade=cascade))
