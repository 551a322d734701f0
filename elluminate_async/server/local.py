"""A whole server inside the caller's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import uvicorn

from elluminate_async.errors import ConfigurationError
from elluminate_async.errors.loops import running_loop
from elluminate_async.server.app import create_app
from elluminate_async.server.connections import (
    ACCEPTED_AT_ONCE,
    MOST_REQUEST_LINE_BYTES,
    Connection,
    Connections,
)
from elluminate_async.server.jobs import ENDING_SECONDS, wait_for_ends
from elluminate_async.server.keyring import new_key
from elluminate_async.server.llms.addresses import Reach
from elluminate_async.server.llms.base import checked_model
from elluminate_async.server.llms.offline import OfflineModel
from elluminate_async.server.profile import WireProfile
from elluminate_async.server.security import LOOPBACK_NAMES
from elluminate_async.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from starlette.types import ASGIApp

    from elluminate_async.server.keyring import KeyRing
    from elluminate_async.server.llms.base import Model

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_BACKLOG = 2_048
_GRACE_SECONDS = 0.2


def is_bound_to_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    return host in _LOOPBACK_HOSTS


def _is_news(record: logging.LogRecord) -> bool:
    # A request that ends because the program does is no fault of the application.
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


logging.getLogger("uvicorn.error").addFilter(_is_news)


class LocalServer:
    """The embedded server, in process.

    ::

        async with LocalServer() as server, AsyncClient(
            base_url=server.url, api_key=server.api_key
        ) as client:
            ...

    Args:
        db: The database file, kept; jobs it holds unfinished are taken up. None is a
            private file that is removed at the end.
        model: Answers prompts: any object with a ``name`` and ``async def complete(request)``,
            see `Model`; None is the offline stand-in. The caller closes it.
        judge: Rates; None is ``model``. The caller closes it.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        api_key: The key that opens this server; None makes one.
        profile: How it answers on the wire.
        max_model_calls: Calls of models in flight, over all jobs and requests.
        allow_private_endpoints: Whether configurations may name endpoints on this machine
            and in private networks; one that listens on loopback allows those on this
            machine anyway. ``model`` and ``judge`` may be anywhere.
        wrap: Put around the application, to count requests or to make faults.

    Raises:
        ConfigurationError: The settings cannot work; on entering, also when another
            server has the database. ``OSError`` when the port is in use.

    Attributes:
        url: Where it listens, once entered.
        api_key: The key that opens it.
        db: The database file, once entered.
    """

    def __init__(
        self,
        *,
        db: str | os.PathLike[str] | None = None,
        model: Model | None = None,
        judge: Model | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        profile: WireProfile | None = None,
        max_model_calls: int = 64,
        allow_private_endpoints: bool = False,
        wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        if max_model_calls < 1:
            raise ConfigurationError("max_model_calls must be at least 1")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
            raise ConfigurationError("api_key must be printable ASCII, and not empty")
        if not is_bound_to_loopback(host) and api_key is None:
            raise ConfigurationError(
                f"to listen on {host}, where others can reach it, choose a key yourself: "
                "api_key=, on the command line --api-key-file"
            )
        if db is not None and str(db) == ":memory:":
            raise ConfigurationError(
                "a server keeps its data in a file: give its path, or db=None for a private "
                "database that is gone with the server"
            )
        self.api_key = api_key if api_key is not None else new_key()
        self.url = ""
        self.db = Path() if db is None else Path(db)
        self._keeps_db = db is not None
        self._model = OfflineModel() if model is None else checked_model(model, "model")
        self._judge = self._model if judge is None else checked_model(judge, "judge")
        self._address = (host, port)
        self._profile = profile if profile is not None else WireProfile()
        self._max_model_calls = max_model_calls
        self._reach = Reach(loopback=is_bound_to_loopback(host), private=allow_private_endpoints)
        self._wrap = wrap
        self._stack = contextlib.AsyncExitStack()
        self._service: Service | None = None

    def __repr__(self) -> str:
        return f"<LocalServer {self.url or 'not entered'}>"

    @property
    def keys(self) -> KeyRing:
        """The keys that open this server, once entered."""
        assert self._service is not None, "not entered"
        return self._service.keys

    async def drain(self) -> None:
        """Begin no call of a model any more, and return when those in flight have ended.

        For an end in order: what was paid for is kept, and the next start goes on with the rest
        of the jobs. It waits for the slowest call: put a timeout around it.
        """
        assert self._service is not None, "not entered"
        await self._service.models.drain()
        # Who got the last answer hands it over to be kept in this turn of the loop.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        """Listen; when this returns, requests are answered.

        Raises:
            WrongEventLoopError: No event loop of asyncio's runs here, as under trio.
        """
        running_loop("this server")
        async with contextlib.AsyncExitStack() as stack:
            if not self._keeps_db:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="elluminate-"))
                self.db = Path(folder) / "server.db"
            listening = _listen(*self._address)
            stack.callback(listening.close)
            self._service = service = Service(
                self.db,
                # Nobody reads the private file after a crash.
                durable=self._keeps_db,
                model=self._model,
                judge=self._judge,
                max_model_calls=self._max_model_calls,
                profile=self._profile,
                reach=self._reach,
            )
            await service.open()
            stack.push_async_callback(service.close)
            service.keys.accept(self.api_key)
            await self._serve(stack, service, listening)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening, end streams, stop jobs where they are, give everything back."""
        await self._stack.aclose()

    async def _serve(
        self, stack: contextlib.AsyncExitStack, service: Service, listening: socket.socket
    ) -> None:
        host, port = self._address[0], listening.getsockname()[1]
        names = LOOPBACK_NAMES if is_bound_to_loopback(host) else None
        app: ASGIApp = create_app(service, host_names=names)
        connections = Connections()
        stack.callback(connections.close)
        server = _Server(self._wrap(app) if self._wrap is not None else app, connections)
        running = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
        stack.push_async_callback(_stop, server, running, service)
        await server.ready.wait()
        # More than are accepted at once, which is what this number was for until now.
        listening.listen(_BACKLOG)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """Uvicorn as a task among others: the process's signals stay its own."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", partial(Connection, connections)),
                h11_max_incomplete_event_size=MOST_REQUEST_LINE_BYTES,
                backlog=ACCEPTED_AT_ONCE,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve`, which then ends the connections."""
        self.should_exit = True
        self._stopping.set()

    def abandon(self) -> None:
        """Have `serve` end without those that do not."""
        self.force_exit = True
        for connection in list(self.server_state.connections):
            cast("Connection", connection).give_up()

    async def main_loop(self) -> None:
        # The original looks ten times a second whether it is to end.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _stop(server: _Server, running: asyncio.Task[None], service: Service) -> None:
    service.jobs.close_streams()
    server.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await asyncio.shield(running)
    requests = list(server.server_state.tasks)
    if requests:
        service.models.stop()
        for task in requests:
            task.cancel()
        await wait_for_ends(requests)
    if all(task.done() for task in requests):
        # Their answers are on the way to those who read them.
        await asyncio.wait([running], timeout=ENDING_SECONDS)
    server.abandon()
    await running


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is:
    # left on, it holds each answer back by 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening
