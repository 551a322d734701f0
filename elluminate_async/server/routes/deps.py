"""Shared by endpoints: the project of the path, lenient queries, pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID
from weakref import ref

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BeforeValidator, Field
from pydantic_core import to_json
from sqlalchemy import Connection

from elluminate_async.schemas import JobStatusName, Page
from elluminate_async.server.answers import LARGE_BODY, HeldBytes, LargeResponse
from elluminate_async.server.connections import Connection as ClientConnection
from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.service import Service
from elluminate_async.server.store import sizes
from elluminate_async.server.store.references import Deletion
from elluminate_async.server.store.rows import PageRequest
from elluminate_async.server.store.wire_json import WireText

P = ParamSpec("P")
T = TypeVar("T")

MAX_ID = 2**63 - 1
"""The highest id that a database has room for."""

_NOTHING = frozenset({"", "None", "null", "latest"})
_ID = re.compile(r"0|[1-9][0-9]*")
_OTHER_NUMBER = re.compile(r"[\s0-9_.+]*[0-9][\s0-9_.+]*")
_OWN_AGENT = "elluminate-async/"
_LEGACY_SDK = re.compile(r"(0|1\.0)(\.|$)")


def none_if_nothing(value: object) -> object:
    """None for the words that say so: official clients send Python's None, and "latest"."""
    return None if isinstance(value, str) and value in _NOTHING else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _canonical(value: object) -> object:
    # "01" and "+1" would be further names of one object, and keys are kept by path.
    if isinstance(value, str) and not _ID.fullmatch(value) and _OTHER_NUMBER.fullmatch(value):
        raise Problem(404, f"{value!r} is no id as it is written here")
    return value


Id = Annotated[int, Path(ge=0, le=MAX_ID), BeforeValidator(_canonical)]
OptionalId = Annotated[
    Annotated[int, Field(ge=0, le=MAX_ID)] | None, BeforeValidator(none_if_nothing)
]
OptionalText = Annotated[str | None, BeforeValidator(none_if_nothing)]
OptionalName = Annotated[str | None, BeforeValidator(_none_if_empty)]
"""A name to look up: each of those words may be one."""

OptionalFlag = Annotated[bool | None, BeforeValidator(none_if_nothing)]
OptionalFloat = Annotated[float | None, BeforeValidator(none_if_nothing)]
Waiter = Annotated[UUID | None, BeforeValidator(none_if_nothing)]
"""One of those who poll the same job."""

Cascade = Annotated[bool, Query()]
"""Whether what refers to a deleted object goes with it, responses and ratings included."""

PageNumber = Annotated[int, Query(alias="page", ge=1, le=MAX_ID)]


@dataclass(frozen=True, slots=True)
class CurrentProject:
    """The project of the path, which the request's key opens.

    Attributes:
        is_legacy: Whether the client is an official one up to 1.0.6.
        is_official: Whether it is an official one, of any version.
        revoked_as: The status that it is told of a cancelled job: an official client knows of no
            end but two, and would ask for ever.
        connection: Where the request came from, where that is known.
    """

    service: Service
    id: int
    is_legacy: bool
    is_official: bool = False
    revoked_as: JobStatusName = JobStatusName.REVOKED
    connection: ref[ClientConnection] | None = None

    def is_awaited(self) -> bool:
        """Whether the client is still there to be answered."""
        if self.connection is None:
            return True
        there = self.connection()
        return there is not None and not there.transport.is_closing()

    async def read(
        self,
        work: Callable[Concatenate[Connection, int, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run statements on this project's data."""

        def run(connection: Connection) -> T:
            return work(connection, self.id, *args, **kwargs)

        return await self.service.database.read(run)

    async def write(
        self,
        work: Callable[Concatenate[Connection, int, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run statements on this project's data, in one transaction."""

        def run(connection: Connection) -> T:
            return work(connection, self.id, *args, **kwargs)

        return await self.service.database.write(run)

    def deletion(self, *, cascade: bool) -> Deletion:
        """How an object of this server is to be deleted."""
        return Deletion(self.service.calls, cascade)

    async def remove(
        self,
        work: Callable[Concatenate[Connection, int, P], None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """`write` a deletion, and let running jobs know of it."""
        await self.write(work, *args, **kwargs)
        await self.service.jobs.look_for_deleted(self.id)

    async def page(
        self,
        number: int,
        find: Callable[[Connection, int], list[int]],
        documents: Callable[[Connection, int, Iterable[int]], dict[int, Any]],
        largest: Callable[[Connection, int], int] | None = None,
    ) -> Response:
        """One page of a listing, of fewer rows where the largest ones would not fit."""
        asked = PageRequest(number, self.service.profile.page_size)

        def run(connection: Connection, project_id: int) -> Page[Any]:
            ids = find(connection, project_id)
            wanted = sizes.fitting(asked, largest(connection, project_id) if largest else 0)
            shown = wanted.of(ids)
            found = documents(connection, project_id, shown)
            return Page[Any](items=[found[row_id] for row_id in shown], count=len(ids))

        return json_response(await self.read(run))


def json_response(value: object, status: int = 200, *, held: HeldBytes | None = None) -> Response:
    """An answer as it is, documents within documents included; ``held`` of a large one."""
    if not isinstance(value, bytes):
        value = value.encode() if isinstance(value, WireText) else to_json(value)
    if len(value) > LARGE_BODY:
        return LargeResponse(value, held=held, status=status)
    return Response(value, status, media_type="application/json")


async def service_of(request: Request) -> Service:
    """The server that got the request."""
    return request.state.service


async def _current_project(project_id: Id, request: Request) -> CurrentProject:
    # A project of others and one that is not there are told apart by nothing.
    if project_id not in request.state.allowed_projects:
        raise not_found("project", project_id)
    sdk = request.headers.get("sdk-version", "")
    is_official = sdk != "" and not request.headers.get("user-agent", "").startswith(_OWN_AGENT)
    return CurrentProject(
        request.state.service,
        project_id,
        is_legacy=_LEGACY_SDK.match(sdk) is not None,
        is_official=is_official,
        revoked_as=JobStatusName.FAILURE if is_official else JobStatusName.REVOKED,
        connection=getattr(request.state, "connection", None),
    )


InService = Annotated[Service, Depends(service_of)]
InProject = Annotated[CurrentProject, Depends(_current_project)]
