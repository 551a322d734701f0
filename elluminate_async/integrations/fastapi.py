"""One client in a web application, FastAPI's or Starlette's alone.

::

    app = FastAPI(lifespan=lifespan(), exception_handlers=problem_handlers())
    app.add_api_route("/ready", ready)

    @app.post("/answers")
    async def answer(request: Request, row: int, client: Client) -> PromptResponse:
        call = client.responses.generate(template_variables=row, experiment=7)
        return await run_until_disconnect(request, call)

Needs the extra ``fastapi``, or Starlette alone for all but `Client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final

from elluminate_async import AsyncClient
from elluminate_async.engine.tasks import mark_seen
from elluminate_async.errors import (
    ConfigurationError,
    DeadlineError,
    ElluminateError,
    MissingExtraError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.integrations.background import (
    Background,
    BackgroundStatus,
    Job,
    JobName,
    NameTakenError,
)
from elluminate_async.integrations.problems import (
    KINDS,
    MEDIA_TYPE,
    Problem,
    internal_problem,
    problem_of,
    quotes,
)

try:
    from starlette.requests import ClientDisconnect, HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
except ImportError as _error:
    raise MissingExtraError("the client in a web application", "fastapi") from _error

from elluminate_async.integrations.streaming import ndjson, run_until_disconnect, sse

__all__ = [
    "Background",
    "BackgroundStatus",
    "Client",
    "Job",
    "JobName",
    "NameTakenError",
    "Problem",
    "alive",
    "client_of",
    "lifespan",
    "ndjson",
    "problem_handlers",
    "problem_of",
    "problem_responses",
    "ready",
    "run_until_disconnect",
    "sse",
]

COALESCE: Final = 0.005
"""Seconds for which `lifespan` has single calls wait for others, to share a request with them."""

PING_SECONDS: Final = 2.0

_STATE: Final = "elluminate"

_log = logging.getLogger(__name__)


def lifespan(
    make: Callable[[], AsyncClient] | None = None,
    *,
    background: Sequence[Background] = (),
    **settings: Any,
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """The lifespan of an application with one client, which all its requests share.

    A key that is refused, or a project that is not there, ends the start. A service that does not
    answer does not: the application starts, `ready` says that it is not, and the first call that
    is answered sets the client up.

    With a lifespan of its own an application enters this one in there::

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncGenerator[Mapping[str, Any]]:
            async with lifespan()(app) as state:
                yield {**state, "greeting": await greeting_for(client_of(state))}

    Args:
        make: Makes the client, which is not to be entered. Called a second time where the service
            did not answer the first.
        background: Jobs that are done as long as the application runs.
        settings: Instead of ``make``: the arguments of `AsyncClient`. Single calls are coalesced,
            by `COALESCE`, unless ``coalesce`` says otherwise.

    Raises:
        ConfigurationError: Both are given.
    """
    if make is not None and settings:
        raise ConfigurationError("pass lifespan() a function that makes a client, or settings")
    made = make or partial(AsyncClient, **{"coalesce": COALESCE, **settings})

    @asynccontextmanager
    async def opened(app: object) -> AsyncGenerator[Mapping[str, Any]]:
        async with contextlib.AsyncExitStack() as stack:
            shared = _Shared(await _open(made))
            stack.push_async_callback(shared.close)
            for jobs in background:
                await stack.enter_async_context(jobs.running(shared.client))
            yield {_STATE: shared}

    return opened


async def _open(make: Callable[[], AsyncClient]) -> AsyncClient:
    try:
        return await make().__aenter__()
    except (
        DeadlineError,
        RateLimitError,
        ServerError,
        ServiceUnavailableError,
        TransportError,
    ) as error:
        if isinstance(error, TransportError) and not error.worth_repeating:
            raise
        _log.warning("started without the service, which does not answer: %s", error)
        # The first is closed; this one is set up by the first call that is answered.
        return make()


class _Shared:
    """The client of an application, and the ping that all who ask at once wait for."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self._ping: asyncio.Task[float] | None = None
        # Not that of a request, whose deadline would be everybody's.
        self._context = contextvars.copy_context()

    async def ping(self) -> None:
        if self._ping is None or self._ping.done():
            call = self.client.ping(timeout=PING_SECONDS)
            self._ping = asyncio.create_task(call, context=self._context.copy())
            self._ping.add_done_callback(mark_seen)
        # A probe that is given up takes it from nobody else.
        await asyncio.wait({ping := self._ping})
        ping.result()

    async def close(self) -> None:
        if self._ping is not None:
            self._ping.cancel()
        await self.client.close()


def client_of(connection: HTTPConnection | Mapping[str, Any]) -> AsyncClient:
    """The client of the application that a request or a websocket is of.

    Args:
        connection: It, or what `lifespan` yields.

    Raises:
        ConfigurationError: The application was not started by `lifespan`.
    """
    return _shared(connection).client


def _shared(connection: HTTPConnection | Mapping[str, Any]) -> _Shared:
    if isinstance(connection, HTTPConnection):
        connection = connection.scope.get("state", {})
    try:
        return connection[_STATE]
    except KeyError:
        raise ConfigurationError(
            "this application has no client: make it by FastAPI(lifespan=lifespan()), and for "
            "tests enter it, as by `with TestClient(app)`"
        ) from None


def _client(connection: HTTPConnection) -> AsyncClient:
    return client_of(connection)


try:
    from fastapi import Depends
except ImportError:
    # Starlette alone.
    def __getattr__(name: str) -> object:
        if name == "Client":
            raise MissingExtraError("the dependency Client", "fastapi")
        raise AttributeError(name)
else:
    Client = Annotated[AsyncClient, Depends(_client)]
    """The application's client, as a parameter of FastAPI's: ``client: Client``."""


async def ready(request: Request) -> Response:
    """A route that says whether the service answers: 200, or 503 with a problem.

    It asks by `AsyncClient.ping`, and has an answer within 2 s; who asks meanwhile shares it.
    """
    try:
        await _shared(request).ping()
    except ElluminateError as error:
        _log.warning("not ready: %s", error)
        problem = problem_of(error) or internal_problem()
        return _answer(problem.model_copy(update={"status": 503, "title": "Service Unavailable"}))
    return JSONResponse({"status": "ready"}, headers={"Cache-Control": "no-store"})


async def alive(request: Request) -> Response:
    """A route that answers as long as the event loop does; it asks nobody."""
    return JSONResponse({"status": "alive"}, headers={"Cache-Control": "no-store"})


def problem_handlers(
    statuses: Mapping[type[Exception], int] | None = None,
) -> dict[int | type[Exception], Callable[[Any, Any], Coroutine[Any, Any, Response]]]:
    """Handlers that answer with a problem document where the service failed.

    The table is in `elluminate_async.integrations.problems`. The error is logged, with its own text
    where that quotes neither an input nor an answer, and that text is told nobody. What is a
    bug stays one: it is raised, and answered with 500 by the framework.

    Args:
        statuses: For other statuses, by class: ``{InputError: 422, NotFoundError: 404}`` where the
            input, or the id, is that of who asks. Of a `NameTakenError` it is 409.
    """
    chosen: dict[type[Exception], int] = {NameTakenError: 409, **(statuses or {})}

    async def handle(request: HTTPConnection, error: Exception) -> Response:
        problem = problem_of(error, chosen)
        if problem is None:
            raise error
        # A log is read by more people than may read prompts.
        told = "" if quotes(error) else f": {error}"
        exchange = f", request {problem.request_id}" if problem.request_id else ""
        name = type(error).__name__
        _log.warning("answered %d: %s %s%s%s", problem.status, name, problem.code, exchange, told)
        return _answer(problem)

    async def leave(request: HTTPConnection, error: Exception) -> Response:
        # Nobody is there to read it.
        return Response(status_code=499)

    return {**dict.fromkeys((*KINDS, ExceptionGroup, *chosen), handle), ClientDisconnect: leave}


def _answer(problem: Problem) -> Response:
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems for an application's OpenAPI: ``FastAPI(responses=problem_responses())``.

    Args:
        statuses: Those that there are; without any, the four of `problem_handlers`.
    """
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    header = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    told = {
        429: "The service behind this one is asked for too much now",
        502: "The service behind this one failed",
        503: "The service behind this one does not answer now",
        504: "There was no answer in time",
    }
    return {
        status: {"description": told.get(status, "Problem"), "content": content, "headers": header}
        for status in statuses or told
    }
