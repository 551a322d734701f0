"""Projects: every other object belongs to one."""

from __future__ import annotations

from datetime import datetime

from elluminate_async.schemas.base import WireModel


class Organization(WireModel):
    """Who owns a project."""

    id: int
    name: str
    domain: str = ""
    stripe_subscription_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Project(WireModel):
    """A project, as listed and selected."""

    id: int
    name: str
    description: str = ""
    organization: Organization | None = None
    public_in_org: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateProjectRequest(WireModel):
    """Body of ``POST projects``."""

    name: str
    description: str = ""
    organization_id: int
    public_in_org: bool | None = None
