"""The refusals of operations, as the server's description of itself tells them."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel


class InvalidPart(BaseModel):
    """A part of a request that is not as it should be."""

    loc: list[str | int]
    msg: str
    type: str


class Refusal(BaseModel):
    """The body of every refusal."""

    detail: str | list[InvalidPart]


class EqualTemplate(Refusal):
    """409 of a new template, where there is an equal one."""

    prompt_template_id: int | None = None


class References(BaseModel):
    """How much that was paid for, or is being made, would go with what is to be deleted."""

    responses: int
    ratings: int
    experiments: int
    in_flight: int


class InUse(Refusal):
    """409 of a deletion without ``cascade``."""

    references: References | None = None


class KeyConflicts(Refusal):
    """422 of a batch, some of whose keys stand for something else.

    Attributes:
        key_conflicts: The places of these items in the request, from 0.
    """

    key_conflicts: list[int] | None = None


class AcceptedTask(BaseModel):
    """A task that results may be of."""

    task_id: int
    task_name: str


class NothingStored(Refusal):
    """400 of an upload, none of whose results is of a task of the experiment."""

    kind: Literal["nothing_stored", "unmatched_tasks"] | None = None
    accepted_tasks: list[AcceptedTask] | None = None
    accepted_tasks_total: int | None = None
    results: list[str] | None = None


Statuses = dict[int | str, dict[str, Any]]

_MEANINGS: Final = {
    400: "The request contradicts itself, or what is there",
    401: "The API key is missing or not valid",
    403: "It comes from another site, or what it changes is read-only",
    404: "The project has no such object",
    405: "This server cancels nothing",
    409: "The name is taken, what refers to it would go with it, it is being worked on, or a "
    "request with this key is",
    410: "It was cancelled under its key",
    413: "The body is too large, or made of too many parts",
    415: "The body is not of the type that is read here",
    421: "The host name is not this server's",
    422: "The request is not as described, or names what is not possible",
    424: "The model failed, or its answer cannot be used",
    503: "The server ends, or its database is locked or damaged: see Retry-After",
    507: "There is no room for the database, or for its keys",
}


def refused(*statuses: int, body: type[Refusal] = Refusal) -> Statuses:
    """How an operation declares that it can refuse with these statuses."""
    return {one: {"description": _MEANINGS[one], "model": body} for one in statuses}


OF_BATCH: Final = refused(409) | refused(422, body=KeyConflicts)
"""A batch to be done, whose items may have keys."""

OF_ALL: Final = refused(400, 401, 403, 413, 421, 422, 503, 507)
"""Any request may be refused so, before its handler begins or by the database."""

IN_PROJECT: Final = refused(404)
"""Beside those: there may be no such project."""
