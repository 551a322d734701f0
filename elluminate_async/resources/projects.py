"""``client.projects``."""

from __future__ import annotations

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import optional_flag
from elluminate_async.operations.chunk_log import in_doubt
from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import check_lookup, check_name, checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import id_of
from elluminate_async.operations.singles import one_sending
from elluminate_async.resources.base import Resource
from elluminate_async.schemas.projects import CreateProjectRequest, Project


class ProjectsResource(Resource):
    """The projects that the key sees. The client works in one of them, for as long as it lives.

    Another client works in another: ``AsyncClient(project=other.id)``.
    """

    async def current(self) -> Project:
        """The project this client works in."""
        return await self._connection.open()

    def list(self, *, strict: bool = False) -> Listing[Project]:
        """All projects that the key sees.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, Project, "projects", strict=strict, of_project=False)

    async def get(self, name: str | None = None, *, id: int | None = None) -> Project:
        """The project of that name or id.

        Raises:
            NotFoundError: The key sees no such project.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "a project")
        if id is not None:
            path = ("projects", id_of(id, Project, "id"))
            return decode(Project, await self._connection.call("GET", *path, of_project=False))
        return await self.list().named("project", name)

    async def create(
        self,
        name: str,
        *,
        organization_id: int | None = None,
        description: str = "",
        public_in_org: bool | None = None,
    ) -> Project:
        """Create a project. This client stays in its own.

        Args:
            name: Of the project.
            organization_id: Whose it is; None for that of the projects that the key sees.
            description: What it is for.
            public_in_org: Whether all of the organization see it; None leaves it to the service.

        Raises:
            InputError: The name is no text; or there is no telling the organization, as the
                projects are of several or of none.
            PermissionDeniedError: The key may not create projects.
            OutcomeUnknownError: It was sent, and whether it was created is not known.
        """
        check_name(name, "a project")
        is_public = optional_flag(public_in_org, "public_in_org")
        if organization_id is None:
            organization_id = await self._only_organization()
        with checked_input("the project"):
            body = CreateProjectRequest(
                name=name,
                description=description,
                organization_id=organization_id,
                public_in_org=is_public,
            )
        # Under no key, as a key is of a project.
        with one_sending("create a project"):
            answer = await self._connection.call(
                "POST", "projects", body=body, omit_nulls=True, of_project=False
            )
            with in_doubt():
                return decode(Project, answer)

    async def _only_organization(self) -> int:
        owners = {
            project.organization.id: project.organization.name
            for project in await self.list()
            if project.organization is not None
        }
        if len(owners) == 1:
            return next(iter(owners))
        seen = ", ".join(f"{id} {name!r}" for id, name in owners.items()) or "none"
        raise InputError(
            self._connection.blotted(
                f"organization_id must be given: the projects that the key sees are of {seen}"
            )
        )
