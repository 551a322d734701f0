"""Projects, and the default model configuration that each starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from elluminate_async.schemas import CreateProjectRequest, Organization, Project
from elluminate_async.server.problems import not_found, taken
from elluminate_async.server.store import llm_configs, tables
from elluminate_async.server.store.rows import AnyRow, now, reserve_ids

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_ORGANIZATION = 1


def ensure_first(connection: Connection, model_name: str) -> None:
    """Make sure there is a project and every default configuration names the model."""
    if connection.execute(select(tables.projects.c.id)).first() is None:
        body = CreateProjectRequest(name="Local", organization_id=_ORGANIZATION)
        create(connection, body, model_name)
    llm_configs.rename_defaults(connection, model_name)


def create(connection: Connection, body: CreateProjectRequest, model_name: str) -> Project:
    """A new project, with its default configuration."""
    if body.organization_id != _ORGANIZATION:
        raise not_found("organization", body.organization_id)
    same_name = select(tables.projects.c.id).where(tables.projects.c.name == body.name)
    if connection.execute(same_name).first() is not None:
        raise taken("a project", body.name)
    (project_id,) = reserve_ids(connection, tables.projects)
    time = now()
    connection.execute(
        insert(tables.projects),
        {
            "id": project_id,
            "name": body.name,
            "description": body.description,
            "public_in_org": bool(body.public_in_org),
            "created_at": time,
            "updated_at": time,
        },
    )
    llm_configs.create_default(connection, project_id, model_name)
    return get(connection, project_id)


def rename(connection: Connection, project_id: int, name: str) -> None:
    """Give a project another name.

    Raises:
        Problem: 409 when the name is taken.
    """
    same_name = select(tables.projects.c.id).where(tables.projects.c.name == name)
    if connection.scalars(same_name.where(tables.projects.c.id != project_id)).first() is not None:
        raise taken("a project", name)
    one = tables.projects.c.id == project_id
    connection.execute(update(tables.projects).where(one).values(name=name, updated_at=now()))


def find(connection: Connection, wanted: str) -> int | None:
    """The id of the project of this name, or else of this id; None when there is none."""
    names = {row.id: row.name for row in connection.execute(select(tables.projects))}
    by_name = (project_id for project_id, name in names.items() if name == wanted)
    by_id = (project_id for project_id in names if str(project_id) == wanted)
    return next(by_name, next(by_id, None))


def model_name(connection: Connection) -> str | None:
    """The model that the default configurations name; None before there is a project."""
    document = connection.scalars(
        select(tables.llm_configs.c.document).where(tables.llm_configs.c.is_default)
    ).first()
    return None if document is None else document["llm_model_name"]


def get(connection: Connection, project_id: int) -> Project:
    """One project; the caller has checked that the key may see it."""
    query = select(tables.projects).where(tables.projects.c.id == project_id)
    return _document(connection.execute(query).one())


def list_all(connection: Connection, allowed: AbstractSet[int]) -> list[Project]:
    """The projects that a key may see, oldest first: clients take the first."""
    query = select(tables.projects).order_by(tables.projects.c.id)
    return [_document(row) for row in connection.execute(query) if row.id in allowed]


def _document(row: AnyRow) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        description=row.description,
        organization=Organization(
            id=_ORGANIZATION,
            name="Local",
            domain="localhost",
            created_at=row.created_at,
            updated_at=row.created_at,
        ),
        public_in_org=row.public_in_org,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
