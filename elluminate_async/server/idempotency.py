"""Doing a request once, however often it is sent."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fastapi import Response
from pydantic_core import to_json

from elluminate_async.schemas.version import IDEMPOTENCY_HEADER, REPLAYED_HEADER
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import idempotency
from elluminate_async.server.store.idempotency import RequestKey, StoredAnswer
from elluminate_async.server.store.trouble import until_it_works
from elluminate_async.server.store.wire_json import WireText

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request
    from sqlalchemy import Connection

    from elluminate_async.server.routes.deps import CurrentProject

T = TypeVar("T")
_JSON = "application/json"


def _of_none(_connection: Connection, _result: object) -> None:
    return None


async def answer_once(
    request: Request,
    project: CurrentProject,
    prepare: Callable[[], Awaitable[Callable[[Connection], T]]],
    *,
    status: int,
    body: bytes,
    after: Callable[[T], None] | None = None,
    asks_model: bool = True,
    is_paid: bool = False,
    experiment: Callable[[Connection, T], int | None] = _of_none,
) -> Response:
    """Answer a POST, or repeat the answer that its idempotency key got before.

    Args:
        request: The request, for its path and key.
        project: Where it goes.
        prepare: What comes before the database, like asking a model; gives the
            statements, which run in one transaction with the storing of the answer.
        status: Of a new answer.
        body: What must be equal when the key is used again.
        after: Gets the statements' result once it is committed.
        asks_model: Whether ``prepare`` costs so much that the key is looked for before.
        is_paid: Whether ``prepare`` asks a model: its answer waits until it can be kept.
        experiment: Of the statements' result: what the key's record goes with.

    Raises:
        Problem: 409 while the same request is being worked on, 422 when its key was used
            with another body.
    """
    service = project.service
    key = _key(request, project, body)
    work = partial(
        _work,
        project,
        prepare,
        status=status,
        key=key,
        after=after,
        is_paid=is_paid,
        experiment=experiment,
    )
    if key is None:
        return await work()
    in_flight = (key.project_id, key.route, key.key)
    if in_flight in service.in_flight:
        raise Problem(
            409, "a request with this key is being worked on", headers={"Retry-After": "1"}
        )
    service.in_flight.add(in_flight)
    try:
        if asks_model:
            stored = await service.database.read(idempotency.find, key)
            if stored is not None:
                return _response(stored, {REPLAYED_HEADER: "true"})
        return await work()
    finally:
        service.in_flight.discard(in_flight)


async def _work(
    project: CurrentProject,
    prepare: Callable[[], Awaitable[Callable[[Connection], T]]],
    *,
    status: int,
    key: RequestKey | None,
    after: Callable[[T], None] | None,
    is_paid: bool,
    experiment: Callable[[Connection, T], int | None],
) -> Response:
    database = project.service.database
    if is_paid:
        database.require_writable()
    statements = await prepare()

    def run(connection: Connection) -> StoredAnswer | tuple[T, StoredAnswer]:
        if key is not None and (stored := idempotency.find(connection, key)) is not None:
            return stored
        result = statements(connection)
        text = result if isinstance(result, WireText) else to_json(result).decode()
        answer = StoredAnswer(status, text)
        if key is not None:
            idempotency.keep(connection, key, answer, experiment(connection, result))
        return result, answer

    def committed(done: StoredAnswer | tuple[T, StoredAnswer]) -> None:
        if after is not None and not isinstance(done, StoredAnswer):
            after(done[0])

    def write() -> Awaitable[StoredAnswer | tuple[T, StoredAnswer]]:
        return database.write_then(committed, run)

    # The client may come again meanwhile for what was paid, by its key.
    done = await (until_it_works(write) if is_paid else write())
    if isinstance(done, StoredAnswer):
        return _response(done, {REPLAYED_HEADER: "true"})
    return _response(done[1], {})


def _key(request: Request, project: CurrentProject, body: bytes) -> RequestKey | None:
    value = request.headers.get(IDEMPOTENCY_HEADER)
    if value is None or not project.service.profile.idempotency_keys:
        return None
    return RequestKey(project.id, request.url.path, value, hashlib.sha256(body).hexdigest())


def _response(answer: StoredAnswer, headers: dict[str, str]) -> Response:
    return Response(answer.text, answer.status, headers, _JSON)
