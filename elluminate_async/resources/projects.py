"""``client.projects``."""

from __future__ import annotations

from typing import TypeAlias

from elluminate_async.errors import NotFoundError
from elluminate_async.operations.connection import decode, encode, id_of
from elluminate_async.operations.json_input import check_lookup
from elluminate_async.resources.base import Resource
from elluminate_async.schemas.base import Page
from elluminate_async.schemas.projects import CreateProjectRequest, Project
from elluminate_async.transport.exchange import Request

_PATH = ("api", "v0", "projects")


Projects: TypeAlias = list[Project]
"""Within the class ``list`` is its method."""


class ProjectsResource(Resource):
    """The projects that the key sees. The client works in one of them."""

    async def current(self) -> Project:
        """The project this client works in."""
        return await self._connection.open()

    async def list(self) -> Projects:
        """All projects that the key sees; the service does not page them."""
        answer = await self._connection.send(Request("GET", _PATH))
        return decode(Page[Project], answer).items

    async def get(self, name: str | None = None, *, id: int | None = None) -> Project:
        """The project of that name or id.

        Raises:
            NotFoundError: The key sees no such project.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "a project")
        if id is not None:
            path = (*_PATH, id_of(id, "id"))
            return decode(Project, await self._connection.send(Request("GET", path)))
        for project in await self.list():
            if project.name == name:
                return project
        raise NotFoundError(f"no project named {name!r}", status=404)

    async def create(
        self,
        name: str,
        *,
        organization_id: int,
        description: str = "",
        public_in_org: bool | None = None,
    ) -> Project:
        """Create a project. This client stays in its own."""
        body = CreateProjectRequest(
            name=name,
            description=description,
            organization_id=organization_id,
            public_in_org=public_in_org,
        )
        request = Request("POST", _PATH, body=encode(body, omit_nulls=True))
        return decode(Project, await self._connection.send(request))
