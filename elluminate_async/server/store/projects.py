"""Projects, and the default model configuration that each starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

from elluminate_async.schemas import CreateProjectRequest, Organization, Project
from elluminate_async.server.problems import not_found, taken
from elluminate_async.server.store import llm_configs, tables
from elluminate_async.server.store.rows import AnyRow, now, reserve_ids

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_ORGANIZATION = 1


def ensure_first(connection: Connection, model_name: str) -> list[int]:
    """Make sure there is a project and every default configuration names the model.

    Returns:
        The ids of all projects.
    """
    ids = list(connection.scalars(select(tables.projects.c.id)))
    if not ids:
        body = CreateProjectRequest(name="Local", organization_id=_ORGANIZATION)
        ids = [create(connection, body, model_name).id]
    llm_configs.rename_defaults(connection, model_name)
    return ids


def create(connection: Connection, body: CreateProjectRequest, model_name: str) -> Project:
    """A new project, with its default configuration."""
    if body.organization_id != _ORGANIZATION:
        raise not_found("organization", body.organization_id)
    same_name = select(tables.projects.c.id).where(tables.projects.c.name == body.name)
    if connection.execute(same_name).first() is not None:
        raise taken("project", body.name)
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
