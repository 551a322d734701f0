"""Template variables: the entries of a collection."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from elluminate_async.schemas import EntryRequest, Page, TemplateVariables
from elluminate_async.server import aside
from elluminate_async.server.acceptance import MOST_ITEMS, BoundedRoute, check_body
from elluminate_async.server.generator import invent_variables
from elluminate_async.server.idempotency import Telling, Told, answer_prepared_once
from elluminate_async.server.problems import Problem, check_count
from elluminate_async.server.routes.deps import Cascade, Id, InProject, PageNumber, json_response
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.security import MAX_BODY_BYTES
from elluminate_async.server.store import collections, prompt_templates
from elluminate_async.server.store import template_variables as store
from elluminate_async.server.store.idempotency import read_ids, written_ids
from elluminate_async.server.store.rows import PageRequest
from elluminate_async.server.store.template_variables import NewRows, TakenRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from elluminate_async.server.store.in_flight import Call
    from elluminate_async.server.store.wire_json import WireText

router = APIRouter(
    prefix="/collections/{collection_id}/entries",
    tags=["template_variables"],
    route_class=BoundedRoute,
)


# Read by hand, as a form's parser is no match for its size.
_JSONL_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                },
                "encoding": {"file": {"contentType": "application/jsonl"}},
            }
        },
    }
}


@router.get("", response_model=Page[TemplateVariables])
async def find(project: InProject, collection_id: Id, page: PageNumber = 1) -> Response:
    """In order of creation."""
    asked = PageRequest(page, project.service.profile.page_size)
    return json_response(await project.read(store.page, collection_id, asked))


@router.post(
    "", status_code=201, response_model=TemplateVariables, responses=refused(409, 410, 424)
)
async def add(
    project: InProject, request: Request, collection_id: Id, body: EntryRequest
) -> Response:
    """Add a row, or let the model make one for a template."""
    if (body.input_values is None) == (body.prompt_template_id is None):
        raise Problem(400, "give either input_values or prompt_template_id")

    with project.service.calls.begin() as call:

        async def prepare() -> Callable[[Connection], TemplateVariables]:
            values = body.input_values
            if values is None:
                await project.write(_expect_row, collection_id, call)
                template = await project.read(prompt_templates.get, body.prompt_template_id or 0)
                models = project.service.models
                values = await invent_variables(models, template, models.caller(project.id))
            return partial(
                store.add,
                project_id=project.id,
                collection_id=collection_id,
                values=values,
                environment_config=body.environment_config,
            )

        is_paid = body.input_values is None
        return await answer_prepared_once(request, project, prepare, status=201, is_paid=is_paid)
    raise AssertionError("unreachable")


def _expect_row(connection: Connection, project_id: int, collection_id: int, call: Call) -> None:
    """Have a collection stay until the model has made its row."""
    collections.require_writable(connection, project_id, collection_id)
    call.put_into("collection", collection_id)


@router.post(
    "/batches",
    status_code=201,
    response_model=list[TemplateVariables],
    responses=refused(409, 415),
    openapi_extra=_JSONL_FILE,
)
async def add_many(
    project: InProject,
    request: Request,
    collection_id: Id,
    skip_existing: bool = False,
    return_existing: bool = False,
) -> Response:
    """Add the rows of a JSONL file, in its order.

    With ``skip_existing`` those that the collection has are left out, and with ``return_existing``
    besides that they are in the answer all the same, which has one row for each that was sent.
    """
    data = await _file_of(request)
    await aside.of_body(data, check_body)
    check_count(data.count(b"\n"), MOST_ITEMS, "rows")
    rows = await aside.of_body(data, lambda data: NewRows.of(_rows_of(data)))

    whole = return_existing and project.service.profile.item_keys

    async def prepare() -> Callable[[Connection], TakenRows]:
        return partial(
            store.add_many,
            project_id=project.id,
            collection_id=collection_id,
            rows=rows,
            skip_existing=skip_existing,
            return_existing=whole,
        )

    def tell_again(connection: Connection, kept: str) -> WireText:
        return store.retold(connection, project.id, collection_id, read_ids(kept))

    def told(taken: TakenRows) -> Told:
        return Told(taken.text, written_ids(taken.ids) if skip_existing else None)

    body = (b"skip all " if whole else b"skip ") + data if skip_existing else data
    return await answer_prepared_once(
        request, project, prepare, status=201, body=body, telling=Telling(told, tell_again)
    )


@router.get("/{entry_id}")
async def get(project: InProject, collection_id: Id, entry_id: Id) -> TemplateVariables:
    """One row."""
    return await project.read(store.get, collection_id, entry_id)


@router.put("/{entry_id}")
async def edit(
    project: InProject, collection_id: Id, entry_id: Id, body: EntryRequest
) -> TemplateVariables:
    """Replace a row's values; a null of environment_config clears it."""
    if body.input_values is None:
        raise Problem(400, "give input_values")
    return await project.write(store.edit, collection_id, entry_id, body)


@router.delete("/{entry_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(
    project: InProject, collection_id: Id, entry_id: Id, cascade: Cascade = False
) -> None:
    """Delete a row; 409 when responses were made from it, unless they are to go with it."""
    await project.remove(store.remove, collection_id, entry_id, project.deletion(cascade=cascade))


@router.delete("", status_code=204, responses=refused(409, body=InUse))
async def clear(project: InProject, collection_id: Id, cascade: Cascade = False) -> None:
    """Delete all rows; 409 when responses were made from them, unless these are to go too."""
    await project.remove(store.clear, collection_id, project.deletion(cascade=cascade))


class _InMemoryParser(MultiPartParser):
    # The body's size is capped already; a file on disk would need a thread to write it.
    spool_max_size = MAX_BODY_BYTES + 1


async def _file_of(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Problem(415, "send the rows as multipart/form-data, in a part named file")
    try:
        form = await _InMemoryParser(request.headers, request.stream(), max_files=1).parse()
    except MultiPartException as error:
        raise Problem(400, error.message) from None
    try:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise Problem(400, "there is no file part named file")
        return await part.read()
    finally:
        await form.close()


def _rows_of(data: bytes) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line)
        except (ValueError, RecursionError):
            raise Problem(400, f"line {number} of the file is not JSON") from None
        if not isinstance(row, dict):
            raise Problem(400, f"line {number} of the file is not an object")
        yield cast("dict[str, Any]", row)
