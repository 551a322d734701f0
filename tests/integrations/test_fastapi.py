"""One client in a web application: over real sockets, with FastAPI and with Starlette alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from elluminate_async import (
    AsyncClient,
    ClientClosedError,
    ConfigurationError,
    GenerationError,
    InputError,
    MissingExtraError,
    RateLimitError,
    ServerError,
)
from elluminate_async.integrations.fastapi import (
    Client,
    alive,
    client_of,
    lifespan,
    problem_handlers,
    problem_responses,
    ready,
    run_until_disconnect,
)
from elluminate_async.server import LocalServer
from elluminate_async.testing import FaultProxy
from tests.integrations.hosting import DidNotStartError, Hosted, Work, hang_up, hosted

PROBLEM = "application/problem+json"
POST = "POST {path} HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 2\n\n{{}}"


async def test_a_lifespan_opens_one_client_and_closes_it() -> None:
    """All requests have the same one; after the end it is closed."""
    seen: list[AsyncClient] = []

    async with LocalServer() as server:
        app = FastAPI(lifespan=lifespan(base_url=server.url, api_key=server.api_key))

        @app.get("/")
        async def name(client: Client) -> str:
            seen.append(client)
            return (await client.projects.list())[0].name

        async with hosted(app) as served:
            answers = [await served.get("/") for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert seen[0] is seen[1]
        with pytest.raises(ClientClosedError):
            await seen[0].projects.list()


async def test_starlette_alone_will_do() -> None:
    """`client_of` is what `Client` is for FastAPI."""

    async def where(request: StarletteRequest) -> Response:
        return JSONResponse(client_of(request).base_url)

    async with LocalServer() as server:
        app = Starlette(
            routes=[Route("/", where), Route("/ready", ready)],
            lifespan=lifespan(lambda: AsyncClient(base_url=server.url, api_key=server.api_key)),
        )
        async with hosted(app) as served:
            assert json.loads((await served.get("/")).body) == server.url
            assert (await served.get("/ready")).status == 200


async def test_an_applications_own_lifespan_has_it_inside() -> None:
    """It enters the one here, has the client, and yields what it likes besides."""
    async with LocalServer() as server:
        settings: dict[str, Any] = {"base_url": server.url, "api_key": server.api_key}

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncGenerator[Mapping[str, Any]]:
            async with lifespan(**settings)(app) as state:
                seconds = await client_of(state).ping()
                yield {**state, "pinged": seconds > 0}

        app = FastAPI(lifespan=own)

        @app.get("/")
        async def both(request: Request, client: Client) -> list[Any]:
            return [request.state.pinged, client.base_url]

        async with hosted(app) as served:
            assert json.loads((await served.get("/")).body) == [True, server.url]


async def test_a_wrong_key_ends_the_start() -> None:
    """It would fail all requests: a deployment is to notice."""
    async with LocalServer() as server:
        app = FastAPI(lifespan=lifespan(base_url=server.url, api_key="wrong"))
        with pytest.raises(DidNotStartError):
            async with hosted(app):
                pass


async def test_a_client_and_its_settings_are_not_both_given() -> None:
    """One of them would be ignored."""
    with pytest.raises(ConfigurationError, match="or settings"):
        lifespan(lambda: AsyncClient(api_key="k"), project="p")


async def test_without_the_lifespan_the_error_names_it() -> None:
    """A `TestClient` that is not entered does the same."""
    app = FastAPI()

    @app.get("/")
    async def where(request: Request) -> str:
        with pytest.raises(ConfigurationError, match=r"FastAPI\(lifespan=lifespan\(\)\)"):
            client_of(request)
        return "said"

    async with hosted(app) as served:
        assert (await served.get("/")).body == b'"said"'


async def test_it_starts_without_the_service_and_is_ready_once_that_is_there() -> None:
    """No crash loop: 503 until the service answers, and then all is well without a restart."""
    async with LocalServer() as server, FaultProxy(server.url) as proxy:
        await proxy.down()
        app = FastAPI(
            lifespan=lifespan(base_url=proxy.url, api_key=server.api_key),
            exception_handlers=problem_handlers(),
        )
        app.add_api_route("/ready", ready)
        app.add_api_route("/healthz", alive)

        @app.get("/")
        async def name(client: Client) -> str:
            return (await client.projects.list())[0].name

        async with hosted(app) as served:
            refused = await served.get("/ready")
            assert refused.status == 503
            assert refused.headers["Content-Type"] == PROBLEM
            assert int(refused.headers["Retry-After"]) >= 1
            assert json.loads(refused.body)["retryable"] is True
            assert (await served.get("/healthz")).status == 200

            await proxy.up()
            assert (await served.get("/ready")).status == 200
            assert (await served.get("/")).status == 200


async def test_probes_at_once_share_a_ping() -> None:
    """However many ask, the service is asked once; one that gives up takes it from nobody."""
    pings = 0
    answer = asyncio.Event()

    class Slow(AsyncClient):
        async def ping(self, timeout: float = 2.0) -> float:
            nonlocal pings
            pings += 1
            assert timeout == 2.0
            await answer.wait()
            return await super().ping(timeout)

    async with LocalServer() as server:
        app = Starlette(
            routes=[Route("/ready", ready)],
            lifespan=lifespan(lambda: Slow(base_url=server.url, api_key=server.api_key)),
        )
        async with hosted(app) as served:
            _, writer = await served.connect("GET /ready HTTP/1.1\nHost: x\n\n")
            probes = [asyncio.create_task(served.get("/ready")) for _ in range(5)]
            while pings == 0:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            hang_up(writer)
            await anyio.sleep(0.1)
            answer.set()

            assert {(await probe).status for probe in probes} == {200}
            assert pings == 1


# Errors


def failing(error: Exception, **handlers: Any) -> FastAPI:
    app = FastAPI(exception_handlers=problem_handlers(**handlers), responses=problem_responses())

    @app.get("/")
    async def fail() -> None:
        raise error

    return app


async def test_an_error_of_the_sdk_is_a_problem_document() -> None:
    """With its status, its time, and not a word of the service's."""
    error = RateLimitError("quota of secret-team", status=429, retry_after=6.2, request_id="r-1")

    async with hosted(failing(error)) as served:
        answer = await served.get("/")

    assert answer.status == 429
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.headers["Retry-After"] == "7"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "The service behind this one is asked for too much now.",
        "code": "http_429",
        "retryable": True,
        "retry_after": 7,
        "request_id": "r-1",
    }


async def test_its_log_has_no_text_that_may_quote(caplog: pytest.LogCaptureFixture) -> None:
    """Of what a model said there is the class, the code and the request; of an outage the words."""
    said = GenerationError(
        "cannot talk about Ann", position=0, operation="generate", request_id="r-7"
    )
    for error in (said, ServerError("gateway is down", status=502)):
        async with hosted(failing(error)) as served:
            await served.get("/")

    assert "answered 502: GenerationError generation_failed, request r-7" in caplog.text
    assert "Ann" not in caplog.text
    assert "gateway is down" in caplog.text


async def test_a_bug_stays_one() -> None:
    """An argument that cannot work is the program's own fault, unless it says otherwise."""
    error = InputError("question is empty")

    async with hosted(failing(error)) as served:
        assert (await served.get("/")).status == 500
    async with hosted(failing(error, statuses={InputError: 422})) as served:
        answer = await served.get("/")

    assert answer.status == 422
    assert json.loads(answer.body)["detail"] == "question is empty"


async def test_a_group_with_an_error_of_another_kind_stays_one() -> None:
    """It is not hidden behind a problem of the service's."""
    known, other = RateLimitError("slow", status=429), ValueError("bug")

    async with hosted(failing(ExceptionGroup("two", [known, other]))) as served:
        assert (await served.get("/")).status == 500
    async with hosted(failing(ExceptionGroup("one", [known]))) as served:
        assert (await served.get("/")).status == 429


async def test_openapi_tells_of_the_problems() -> None:
    """With their media type, their schema and the header."""
    async with hosted(failing(InputError("no"))) as served:
        document = json.loads((await served.get("/openapi.json")).body)

    told = document["paths"]["/"]["get"]["responses"]
    assert {"429", "502", "503", "504"} <= told.keys()
    assert "retryable" in told["503"]["content"][PROBLEM]["schema"]["properties"]
    assert "Retry-After" in told["503"]["headers"]


# Hanging up


class Pass(BaseHTTPMiddleware):
    """A middleware as there are many; it may have read the body."""

    reads = False

    async def dispatch(self, request: StarletteRequest, call_next: RequestResponseEndpoint) -> Any:
        if self.reads:
            await request.body()
        return await call_next(request)


class ReadAndPass(Pass):
    reads = True


class Asked(BaseModel):
    pass


def working(work: Work, *middleware: type[Pass]) -> FastAPI:
    app = FastAPI(
        exception_handlers=problem_handlers(), middleware=[Middleware(one) for one in middleware]
    )

    @app.get("/")
    @app.post("/unread")
    async def unread(request: Request) -> None:
        await run_until_disconnect(request, work.forever())

    @app.post("/read")
    async def read(request: Request, asked: Asked) -> None:
        await run_until_disconnect(request, work.forever())

    @app.post("/within")
    async def within(request: Request) -> None:
        async def both() -> None:
            assert await request.json() == {}
            await work.forever()

        await run_until_disconnect(request, both())

    @app.post("/streamed")
    async def streamed(request: Request) -> None:
        assert b"".join([part async for part in request.stream()]) == b"{}"
        await run_until_disconnect(request, work.forever())

    @app.post("/task")
    async def task(request: Request) -> None:
        await run_until_disconnect(request, asyncio.create_task(work.forever()))

    return app


async def hung_up(served: Hosted, work: Work, request: str) -> None:
    begun, ended = work.begun, len(work.ended)
    _, writer = await served.connect(request)
    await work.wait_begun(begun + 1)
    assert len(work.ended) == ended
    hang_up(writer)
    await work.wait_ended(ended + 1)


@pytest.mark.parametrize("middleware", [(), (Pass,), (ReadAndPass,), (Pass, ReadAndPass)])
async def test_the_work_ends_when_the_caller_hangs_up(middleware: tuple[type[Pass], ...]) -> None:
    """Whoever has read the body, or not, and through a middleware that wraps the request."""
    work = Work()

    async with hosted(working(work, *middleware)) as served:
        await hung_up(served, work, "GET / HTTP/1.1\nHost: x\n\n")
        for path in ("/unread", "/read", "/within", "/streamed", "/task"):
            await hung_up(served, work, POST.format(path=path))

    assert work.ended == ["cancelled"] * 6


async def test_half_of_a_hundred_hang_up() -> None:
    """The work of those ends, and that of no other."""
    work, go = Work(), asyncio.Event()
    app = Starlette(exception_handlers=problem_handlers())

    async def answer(request: StarletteRequest) -> Response:
        if "stay" in request.query_params:
            await run_until_disconnect(request, go.wait())
            return Response("stayed")
        await run_until_disconnect(request, work.forever())
        raise AssertionError

    app.add_route("/", answer)
    async with hosted(app) as served:
        staying = [asyncio.create_task(served.get("/?stay=1")) for _ in range(50)]
        leaving = [await served.connect("GET / HTTP/1.1\nHost: x\n\n") for _ in range(50)]
        await work.wait_begun(50)
        for _, writer in leaving:
            hang_up(writer)
        await work.wait_ended(50)
        go.set()

        assert [(await one).body for one in staying] == [b"stayed"] * 50
    assert work.ended == ["cancelled"] * 50


async def test_what_it_returns_or_raises_is_that_of_the_awaitable() -> None:
    """As of a plain await."""
    app = FastAPI()

    @app.post("/")
    async def answer(request: Request) -> str:
        async def fail() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await run_until_disconnect(request, fail())
        assert await request.body() == b"{}"
        return await run_until_disconnect(request, asyncio.sleep(0, "said"))

    async with hosted(app) as served:
        assert (await served.ask("POST", "/", data=b"{}")).body == b'"said"'


async def test_a_caller_who_leaves_in_the_midst_of_the_body_begins_nothing() -> None:
    """The coroutine is closed, without a warning that it was never awaited."""
    work, left = Work(), asyncio.Event()
    app = FastAPI(exception_handlers=problem_handlers())

    @app.post("/")
    async def answer(request: Request) -> None:
        try:
            await run_until_disconnect(request, work.forever())
        finally:
            left.set()

    async with hosted(app) as served:
        _, writer = await served.connect("POST / HTTP/1.1\nHost: x\nContent-Length: 9\n\n{")
        await anyio.sleep(0.05)
        hang_up(writer)
        with anyio.fail_after(30):
            await left.wait()
    assert work.begun == 0


async def test_a_cancellation_from_outside_is_one() -> None:
    """It ends the work and is raised, whoever has hung up or not."""
    work = Work()

    async def never() -> Any:
        await anyio.sleep_forever()

    async def no_body() -> Any:
        received.append(1)
        if len(received) == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        return await never()

    received: list[int] = []
    request = StarletteRequest({"type": "http", "headers": []}, no_body)
    running = asyncio.create_task(run_until_disconnect(request, work.forever()))
    await work.wait_begun(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert work.ended == ["cancelled"]


async def test_time_out_of_the_caller_is_its_own() -> None:
    """`asyncio.timeout` around it works as around a plain await."""
    work = Work()
    app = FastAPI()

    @app.get("/")
    async def answer(request: Request) -> str:
        try:
            async with asyncio.timeout(0.05):
                await run_until_disconnect(request, work.forever())
        except TimeoutError:
            return "late"
        return "never"

    async with hosted(app) as served:
        assert (await served.get("/")).body == b'"late"'
    assert work.ended == ["cancelled"]


# Without the extra


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_without_starlette_the_error_names_the_extra() -> None:
    """At the import, as without it there is nothing to use."""
    run(
        "import sys; sys.modules['starlette'] = sys.modules['starlette.requests'] = None\n"
        "try:\n    import elluminate_async.integrations.fastapi\n"
        "except ImportError as error:\n"
        "    assert \"pip install 'elluminate-async[fastapi]'\" in str(error), error\n"
        "else:\n    raise SystemExit(1)\n"
    )


def test_without_fastapi_all_but_the_dependency_is_there() -> None:
    """Starlette alone will do."""
    run(
        "import sys; sys.modules['fastapi'] = None\n"
        "from elluminate_async.integrations import fastapi as it\n"
        "assert it.lifespan and it.client_of and it.ndjson\n"
        "try:\n    it.Client\n"
        "except ImportError as error:\n"
        "    assert \"pip install 'elluminate-async[fastapi]'\" in str(error), error\n"
        "else:\n    raise SystemExit(1)\n"
        "assert not hasattr(it, 'nothing')\n"
    )


def test_the_missing_extra_is_the_packages_own_error() -> None:
    """As that of every other extra."""
    assert issubclass(MissingExtraError, ImportError)
