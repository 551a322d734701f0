"""`ScriptedService`: a stand-in for the service that does what a test tells it to."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, get_args

from aiohttp import web

from elluminate_async.schemas.version import IDEMPOTENCY_HEADER, REPLAYED_HEADER
from elluminate_async.testing.exchange import (
    START_ROUTES,
    ConnectionCut,
    Exchange,
    Process,
    Reply,
    ServerLimit,
    Traffic,
    reset,
    route_of,
)
from elluminate_async.testing.ledger import Ledger, nonce_of
from elluminate_async.testing.routes import Routes
from elluminate_async.testing.store import Answer, Judge, Order, ServiceScript, Store
from elluminate_async.testing.wire import problem

_MAX_LINE = 4 << 20  # a listing by ids may name hundreds of them
_SHUTDOWN = 1.0  # seconds for answers that are under way when the service is left


class TakesExchanges(Protocol):
    """A fault, or a plan of them."""

    def take(self, exchange: Exchange) -> Behaviour | None:
        """The action to take instead of this exchange; None leaves it alone."""
        ...


class Behaviour(Protocol):
    """The effect of a fault on an exchange, and on the service's answer to it."""

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        """The answer to send.

        Raises:
            ConnectionCut: To reset the connection.
        """
        ...


class ScriptedService:
    """Listens on a free loopback port and speaks the service's protocol for the main flow.

    It has what makes and reads templates, criteria, collections, their rows, experiments,
    responses and ratings; criteria, collections and the notes of responses can be changed. It
    has no criterion sets, configurations and runs of experiments, and deletes nothing: those
    are 404, and `elluminate_async.server.LocalServer` has them. All routes are in
    `elluminate_async.testing.exchange.ROUTES`.

    ::

        async with (
            ScriptedService(keys=False, lag=0.5) as service,
            AsyncClient(base_url=service.url, api_key=service.api_key) as client,
        ):
            ...
        assert check_batch(batch, inputs, service.ledger).clean

    Args:
        keys: Advertise and honour idempotency keys.
        results: Advertise and send results with a job's terminal status.
        page_size: Rows of a listing's page.
        order: Of listings: ``"created"``, ``"reversed"`` or ``"shuffled"``.
        seed: Of the shuffled order.
        lag: Seconds from the acceptance of a chunk until its rows can be seen in listings.
        job_seconds: Seconds from acceptance until the job ends and its rows are made.
        answer: The model: values to text. What it raises becomes that response's error.
        judge: The judge: a response's and a criterion's text to a verdict. What it raises
            leaves the response without that rating.
        own_epochs: Number repetitions itself, whatever the request asks for.
        criteria: Criteria that a template gets when it is rated and has none.
        retain: Keep rows. Without, they go only into results, which are kept for the last
            jobs alone, and the ledger has totals only: for runs of a million items.
        variables: Values of an entry that nobody uploaded, by its id; None for 404.
        cancels: Advertise that jobs can be cancelled, and cancel them.
        maps: Have maps of experiments; services before 1.5 have none.
        limit: A limit on all requests.
        faults: Each exchange goes to the first that takes it, in `faults`' order.

    Raises:
        ValueError: An argument cannot work.

    Attributes:
        script: The arguments up to ``maps``; may be changed while it runs.
        limit: As the argument; may be replaced while it runs.
        ledger: What was really done.
        traffic: What arrived.
        api_key: The one key that is let in.
    """

    def __init__(
        self,
        *,
        keys: bool = True,
        results: bool = True,
        page_size: int = 100,
        order: Order = "created",
        seed: int = 0,
        lag: float = 0.0,
        job_seconds: float = 0.0,
        answer: Answer = nonce_of,
        judge: Judge = lambda response, criterion: True,
        own_epochs: bool = False,
        criteria: int = 2,
        retain: bool = True,
        variables: Callable[[int], Mapping[str, Any]] | None = None,
        cancels: bool = True,
        maps: bool = True,
        limit: ServerLimit | None = None,
        faults: Iterable[TakesExchanges] = (),
    ) -> None:
        if not retain and not results:
            raise ValueError("rows that are not retained can be sent only as results")
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, not {order!r}")
        self.script = ServiceScript(
            keys, results, page_size, order, seed, lag, job_seconds, answer, judge, own_epochs,
            criteria, retain, variables, cancels, maps,
        )  # fmt: skip
        self.limit = limit
        self._faults = list(faults)
        self.ledger = Ledger(totals_only=not retain)
        self.traffic = Traffic()
        self.api_key = secrets.token_hex(8)
        self._store = Store(self.script, self.ledger)
        self._routes = Routes(self._store)
        self._answered: dict[tuple[str, str], tuple[bytes, Reply]] = {}
        self._runner: web.ServerRunner | None = None
        self._port = 0

    @property
    def faults(self) -> list[TakesExchanges]:
        """The faults; may be changed while it runs."""
        return self._faults

    @faults.setter
    def faults(self, faults: Iterable[TakesExchanges]) -> None:
        self._faults = list(faults)

    @property
    def url(self) -> str:
        """Where it listens, once entered."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        server = web.Server(
            self._handle, access_log=None, max_line_size=_MAX_LINE, max_field_size=1 << 16
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN)
        await self._runner.setup()
        await self.come_back()
        return self

    async def go_away(self) -> None:
        """Refuse connections and cut those that are open, as when the process has ended.

        What was accepted before goes on, and is there when it comes back.
        """
        assert self._runner is not None, "not entered"
        assert self._runner.server is not None, "not entered"
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def come_back(self) -> None:
        """Listen again, at the same address."""
        assert self._runner is not None, "not entered"
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._store.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route, ids = route_of(request.method, request.path)
        number = self.traffic.begin(route)
        status: int | None = None
        try:
            body = await request.content.read()
            exchange = Exchange(
                number, request.method, request.path, route, request.headers, body, request
            )

            async def process() -> Reply:
                return await self._process(exchange, ids)

            reply = await self._reply(exchange, process)
            response = await _send(request, reply)
            status = reply.status
            return response
        except ConnectionCut:
            reset(request)
            return web.Response()
        except ConnectionError:
            # The client left, which is no fault of the service.
            return web.Response()
        finally:
            self.traffic.end(status)

    async def _reply(self, exchange: Exchange, process: Process) -> Reply:
        for fault in self.faults:
            if behaviour := fault.take(exchange):
                return await behaviour(exchange, process)
        return await process()

    async def _process(self, exchange: Exchange, ids: list[int | str]) -> Reply:
        if self.limit is not None and (refusal := self.limit.admit()):
            return refusal
        if exchange.route not in START_ROUTES or exchange.method == "GET":
            key = exchange.headers.get("X-API-Key", "")
            if not secrets.compare_digest(key.encode(), self.api_key.encode()):
                return problem(401, "no such key")
        key = exchange.headers.get(IDEMPOTENCY_HEADER)
        if exchange.method == "DELETE" and key is not None:
            # What is done at once is done by now: only a job can still be ended.
            begun = self._answered.get((exchange.path, key))
            if begun is not None and exchange.path.endswith("/batches"):
                ids = [job] if (job := json.loads(begun[1].body)) else []
        if exchange.method != "POST" or key is None or not self.script.keys:
            return await self._routes.handle(exchange, ids)
        digest = hashlib.sha256(exchange.body).digest()
        stored = self._answered.get((exchange.path, key))
        if stored is None:
            reply = await self._routes.handle(exchange, ids)
            if reply.status < 400:
                self.ledger.request(key)
                self._answered[exchange.path, key] = (digest, reply)
            return reply
        if stored[0] != digest:
            return problem(422, "this key was used with another body")
        first = stored[1]
        return Reply(first.status, first.body, headers={REPLAYED_HEADER: "true"})


async def _send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    if reply.events is not None:
        response = web.StreamResponse(status=reply.status, headers=headers)
        await response.prepare(request)
        async for event in reply.events:
            await response.write(event)
        await response.write_eof()
        return response
    if reply.sent_bytes is None:
        return web.Response(status=reply.status, body=reply.body, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: reply.sent_bytes])
    if request.transport is not None:
        request.transport.close()
    return response
