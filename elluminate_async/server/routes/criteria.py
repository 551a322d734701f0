"""Criteria."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from elluminate_async.schemas import AddCriteriaRequest, Criterion, CriterionIn, Page
from elluminate_async.schemas.criteria import EditCriterionRequest
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.generator import propose_criteria
from elluminate_async.server.idempotency import answer_once, answer_prepared_once
from elluminate_async.server.problems import Problem, check_count
from elluminate_async.server.routes.deps import Cascade, Id, InProject, OptionalId, PageNumber
from elluminate_async.server.routes.refusals import InUse, refused
from elluminate_async.server.store import criteria as store
from elluminate_async.server.store import criterion_sets, prompt_templates, sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from elluminate_async.schemas import PromptTemplate
    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.in_flight import Call
    from elluminate_async.server.store.references import Deletion

router = APIRouter(prefix="/criteria", tags=["criteria"], route_class=BoundedRoute)


@router.post(
    "",
    status_code=201,
    response_model=list[Criterion],
    responses=refused(409, body=InUse) | refused(424),
)
async def add(
    project: InProject, request: Request, body: AddCriteriaRequest, cascade: Cascade = False
) -> Response:
    """Add criteria to a set or a template's set; without any, let the model propose them.

    Of those that delete_existing replaces, the ones with ratings are kept for these, also for such
    as are on their way.
    """
    if (body.prompt_template_id is None) == (body.criterion_set_id is None):
        raise Problem(400, "give either prompt_template_id or criterion_set_id")
    if body.template_variables_id is not None:
        raise Problem(
            422, "template_variables_id: a criterion is asked of all rows here; leave it out"
        )
    answer = await _answer(project, request, body, project.deletion(cascade=cascade))
    if body.delete_existing and cascade:
        await project.service.jobs.look_for_deleted(project.id)
    return answer


@router.get("", response_model=Page[Criterion])
async def find(
    project: InProject, prompt_template_id: OptionalId = None, page: PageNumber = 1
) -> Response:
    """In order of creation."""
    ids = partial(store.find_ids, prompt_template_id=prompt_template_id)
    return await project.page(page, ids, store.documents, sizes.largest("criterion"))


@router.get("/{criterion_id}")
async def get(project: InProject, criterion_id: Id) -> Criterion:
    """One criterion."""
    return await project.read(store.get, criterion_id)


@router.put("/{criterion_id}", responses=refused(409))
async def edit(project: InProject, criterion_id: Id, body: EditCriterionRequest) -> Criterion:
    """Change its text or label; ratings stay with the text that they answer."""
    return await project.write(store.edit, criterion_id, body, project.service.calls)


@router.delete("/{criterion_id}", status_code=204, responses=refused(409, body=InUse))
async def remove(project: InProject, criterion_id: Id, cascade: Cascade = False) -> None:
    """Delete one; 409 when it has ratings, unless they are to go with it."""
    await project.remove(store.remove, criterion_id, project.deletion(cascade=cascade))


async def _answer(
    project: CurrentProject, request: Request, body: AddCriteriaRequest, deletion: Deletion
) -> Response:
    if body.criteria is not None:
        check_count(len(body.criteria), store.MOST_CRITERIA, "criteria")
        new = body.criteria
        made = partial(_add, project_id=project.id, body=body, new=new, deletion=deletion)
        return await answer_once(request, project, made, status=201)
    if body.prompt_template_id is None:
        raise Problem(400, "only for a prompt template can criteria be generated")
    template_id = body.prompt_template_id

    with project.service.calls.begin() as call:

        async def prepare() -> Callable[[Connection], list[Criterion]]:
            template = await project.write(_template, template_id, call)
            # Before the model is asked, and again with what it says: others may have been faster.
            await project.read(_require_none, body)
            models = project.service.models
            new = await propose_criteria(models, template, models.caller(project.id))
            return partial(
                _add_generated, project_id=project.id, body=body, new=new, deletion=deletion
            )

        return await answer_prepared_once(request, project, prepare, status=201, is_paid=True)
    raise AssertionError("unreachable")


def _template(
    connection: Connection, project_id: int, template_id: int, call: Call
) -> PromptTemplate:
    """The template that the model is asked about, which is to stay meanwhile."""
    template = prompt_templates.get(connection, project_id, template_id)
    call.put_into("prompt template", template_id)
    return template


def _add(
    connection: Connection,
    project_id: int,
    body: AddCriteriaRequest,
    new: list[CriterionIn],
    deletion: Deletion,
) -> list[Criterion]:
    if body.prompt_template_id is not None:
        set_id = criterion_sets.of_template(connection, project_id, body.prompt_template_id)
    else:
        set_id = body.criterion_set_id or 0
        criterion_sets.require(connection, project_id, set_id)
    if body.delete_existing:
        store.clear(connection, set_id, deletion)
    return store.add(connection, project_id, set_id, new)


def _add_generated(
    connection: Connection,
    project_id: int,
    body: AddCriteriaRequest,
    new: list[CriterionIn],
    deletion: Deletion,
) -> list[Criterion]:
    _require_none(connection, project_id, body)
    return _add(connection, project_id, body, new, deletion)


def _require_none(connection: Connection, project_id: int, body: AddCriteriaRequest) -> None:
    if not body.delete_existing and store.find_ids(connection, project_id, body.prompt_template_id):
        raise Problem(409, "the prompt template has criteria already")
