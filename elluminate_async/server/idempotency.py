"""Doing a request once, however often it is sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from fastapi import Response
from pydantic_core import to_json

from elluminate_async.schemas.version import IDEMPOTENCY_HEADER, REPLAYED_HEADER
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import idempotency
from elluminate_async.server.store.idempotency import RequestKey, StoredAnswer
from elluminate_async.server.store.trouble import until_it_works
from elluminate_async.server.store.wire_json import WireText

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from fastapi import Request
    from sqlalchemy import Connection

    from elluminate_async.server.routes.deps import CurrentProject

T = TypeVar("T")


class Told(NamedTuple):
    """An answer.

    Attributes:
        brief: Of which it can be told again, and which is kept in its place; None for none.
    """

    text: str
    brief: str | None = None


@dataclass(frozen=True, slots=True)
class Telling(Generic[T]):
    """How a result is told.

    Attributes:
        told: As an answer.
        again: Of what was kept in the answer's place.
    """

    told: Callable[[T], Told]
    again: Callable[[Connection, str], str]


_JSON = "application/json"


def _of_none(_connection: Connection, _result: object) -> None:
    return None


async def answer_once(
    request: Request,
    project: CurrentProject,
    statements: Callable[[Connection], T],
    *,
    status: int,
    after: Callable[[T], None] | None = None,
    experiment: Callable[[Connection, T], int | None] = _of_none,
    telling: Telling[T] | None = None,
) -> Response:
    """Answer a POST, or repeat the answer that its idempotency key got before.

    Args:
        request: The request, for its path, body and key.
        project: Where it goes.
        statements: Run in one transaction with the storing of their result as the answer.
        status: Of a new answer.
        after: Gets the statements' result once it is committed.
        experiment: Of the statements' result: what the key's record goes with.
        telling: How the result is told; None where it is the answer itself.

    Raises:
        Problem: 409 while the same request is being worked on, 422 when its key was used
            with another body.
    """

    async def nothing_to_prepare() -> Callable[[Connection], T]:
        return statements

    work = _Work(request, project, nothing_to_prepare, status, after, experiment, telling=telling)
    return await _once(work, _key(request, project, await request.body()), looks_first=False)


async def answer_prepared_once(
    request: Request,
    project: CurrentProject,
    prepare: Callable[[], Awaitable[Callable[[Connection], T]]],
    *,
    status: int,
    body: bytes | None = None,
    after: Callable[[T], None] | None = None,
    is_paid: bool = False,
    experiment: Callable[[Connection, T], int | None] = _of_none,
    telling: Telling[T] | None = None,
) -> Response:
    """`answer_once`, where something comes before the database; the key is looked for first.

    Args:
        request: The request, for its path, body and key.
        project: Where it goes.
        prepare: What comes before, like asking a model; gives the statements.
        status: Of a new answer.
        body: What must be equal when the key is used again; None for the request's body.
        after: Gets the statements' result once it is committed.
        is_paid: Whether ``prepare`` asks a model: its answer waits until it can be kept, and the
            call is abandoned once nobody wants it, as `_Work._while_wanted` says. That the model
            failed is kept as an answer too.
        experiment: Of the statements' result: what the key's record goes with.
        telling: How the result is told; None where it is the answer itself.

    Raises:
        Problem: As of `answer_once`; 410 where nobody wants the answer any more.
    """
    work = _Work(request, project, prepare, status, after, experiment, is_paid, telling)
    known = body if body is not None else await request.body()
    return await _once(work, _key(request, project, known), looks_first=True)


async def _once(work: _Work[Any], key: RequestKey | None, *, looks_first: bool) -> Response:
    if key is None:
        return await work.run(None, InFlight())
    service = work.project.service
    place = (key.project_id, key.route, key.key)
    if place in service.in_flight:
        raise Problem(
            409, "a request with this key is being worked on", headers={"Retry-After": "1"}
        )
    service.in_flight[place] = in_flight = InFlight()
    try:
        if looks_first:
            stored = await service.database.read(work.find, key)
            if stored is not None:
                return _response(stored, {REPLAYED_HEADER: "true"})
        return await work.run(key, in_flight)
    finally:
        del service.in_flight[place]
        in_flight.over.set()


async def begun_under_key(request: Request, project: CurrentProject) -> object:
    """The answer to a POST to this path under the key of this request; None where there is none.

    One that is being worked on is waited for; the call of a model that it waits for is abandoned.

    Raises:
        Problem: 422 without a key.
    """
    if (key := request.headers.get(IDEMPOTENCY_HEADER)) is None:
        raise Problem(422, f"the header {IDEMPOTENCY_HEADER} must name what is to be ended")
    service, place = project.service, (project.id, request.url.path, key)
    if (in_flight := service.in_flight.get(place)) is not None:
        in_flight.abandon()
        await in_flight.over.wait()
    stored = await service.database.read(idempotency.answer_under, *place)
    return None if stored is None else json.loads(stored)


class InFlight:
    """A request that is being worked on.

    Attributes:
        over: Set once it is not any more.
    """

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._clock: asyncio.Timeout | None = None
        self._is_abandoned = False

    def abandon(self) -> None:
        """Nobody wants it: what can be spared is."""
        self._is_abandoned = True
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def wanted(self) -> AsyncGenerator[None]:
        """Around what is to be spared.

        Raises:
            Problem: 410, where it was.
        """
        clock = asyncio.timeout(0.0 if self._is_abandoned else None)
        try:
            async with clock:
                self._clock = clock
                try:
                    yield
                finally:
                    self._clock = None
        except TimeoutError:
            if not clock.expired():
                raise
            raise Problem(410, "cancelled by who asked for it") from None


@dataclass(frozen=True, slots=True)
class _Work(Generic[T]):
    """One request's work, to be done at most once; see `answer_prepared_once`."""

    request: Request
    project: CurrentProject
    prepare: Callable[[], Awaitable[Callable[[Connection], T]]]
    status: int
    after: Callable[[T], None] | None
    experiment: Callable[[Connection, T], int | None]
    is_paid: bool = False
    telling: Telling[T] | None = None

    def find(self, connection: Connection, key: RequestKey) -> StoredAnswer | None:
        """The answer to an earlier request with this key."""
        stored = idempotency.find(connection, key)
        if stored is None or self.telling is None or not idempotency.is_brief(stored.text):
            return stored
        return StoredAnswer(stored.status, self.telling.again(connection, stored.text))

    async def run(self, key: RequestKey | None, in_flight: InFlight) -> Response:
        """Do it, and keep its answer under ``key``."""
        database = self.project.service.database
        if self.is_paid:
            database.require_writable()
            try:
                statements = await self._while_wanted(in_flight, is_keyed=key is not None)
            except Problem as problem:
                if problem.is_models_failure:
                    await self._keep_failure(key, problem)
                raise
        else:
            statements = await self.prepare()

        def write() -> Awaitable[StoredAnswer | tuple[T, StoredAnswer]]:
            return database.write_then(self._committed, self._keep, key, statements)

        # The client may come again meanwhile for what was paid, by its key.
        done = await (until_it_works(write) if self.is_paid else write())
        if isinstance(done, StoredAnswer):
            return _response(done, {REPLAYED_HEADER: "true"})
        return _response(done[1], {})

    async def _keep_failure(self, key: RequestKey | None, failure: Problem) -> None:
        """Keep it as the answer, since what the same request would then get is paid for too.

        Raises:
            Problem: 503 where it was the server's end, and the next one is to do the work.
        """
        service = self.project.service
        if service.models.has_stopped:
            raise Problem(503, "the server ends: send it again later") from None
        if key is not None:
            answer = StoredAnswer(failure.status, to_json(failure.body).decode())
            await until_it_works(
                lambda: service.database.write(idempotency.keep, key, answer, None)
            )

    async def _while_wanted(
        self, in_flight: InFlight, *, is_keyed: bool
    ) -> Callable[[Connection], T]:
        """Prepare, until nobody wants it any more.

        Who hangs up wants nothing any more, but under a key: a connection may break by itself,
        and what the same request would then get must not be paid for twice. Of a key it must be
        said.
        """
        leaving = None
        async with in_flight.wanted():
            if not is_keyed:
                leaving = asyncio.create_task(self._hung_up(in_flight))
            try:
                return await self.prepare()
            finally:
                if leaving is not None:
                    leaving.cancel()
        raise AssertionError("unreachable")

    async def _hung_up(self, in_flight: InFlight) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        in_flight.abandon()

    def _keep(
        self, connection: Connection, key: RequestKey | None, statements: Callable[[Connection], T]
    ) -> StoredAnswer | tuple[T, StoredAnswer]:
        if key is not None and (stored := self.find(connection, key)) is not None:
            return stored
        result = statements(connection)
        told = Told(_told(result)) if self.telling is None else self.telling.told(result)
        if key is not None:
            kept = StoredAnswer(self.status, told.text if told.brief is None else told.brief)
            idempotency.keep(connection, key, kept, self.experiment(connection, result))
        return result, StoredAnswer(self.status, told.text)

    def _committed(self, done: StoredAnswer | tuple[T, StoredAnswer]) -> None:
        if self.after is not None and not isinstance(done, StoredAnswer):
            self.after(done[0])


def _told(result: object) -> str:
    return result if isinstance(result, WireText) else to_json(result).decode()


def _key(request: Request, project: CurrentProject, body: bytes) -> RequestKey | None:
    value = request.headers.get(IDEMPOTENCY_HEADER)
    if value is None or not project.service.profile.idempotency_keys:
        return None
    return RequestKey(project.id, request.url.path, value, hashlib.sha256(body).hexdigest())


def _response(answer: StoredAnswer, headers: dict[str, str]) -> Response:
    return Response(answer.text, answer.status, headers, _JSON)
