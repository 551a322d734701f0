"""Applications behind a real uvicorn on a real socket, and callers that hang up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class DidNotStartError(Exception):
    """The application ended its own start."""


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise DidNotStartError from None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(slots=True)
class Hosted:
    """An application that is served.

    Attributes:
        port: Where.
        session: Asks it.
    """

    port: int
    session: aiohttp.ClientSession

    async def get(self, path: str, **rest: Any) -> Answer:
        """The whole answer to a GET."""
        return await self.ask("GET", path, **rest)

    async def ask(self, method: str, path: str, **rest: Any) -> Answer:
        """The whole answer to a request."""
        async with self.session.request(method, path, **rest) as response:
            return Answer(response.status, response.headers, await response.read())

    async def connect(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which this was sent; closing its writer hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.replace("\n", "\r\n").encode())
        await writer.drain()
        return reader, writer


@dataclass(slots=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: Any
    body: bytes


@asynccontextmanager
async def hosted(app: ASGIApp) -> AsyncGenerator[Hosted]:
    """Serve it in this event loop, its lifespan included."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    config = uvicorn.Config(app, lifespan="on", ws="none", log_config=None, access_log=False)
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        with anyio.fail_after(30):
            while not server.started:
                if running.done():
                    raise DidNotStartError
                await anyio.sleep(0.01)
        if running.done():
            running.result()
        url = f"http://127.0.0.1:{port}"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(url, connector=connector) as session:
            yield Hosted(port, session)
    finally:
        server.should_exit = True
        await asyncio.wait({running})
        listening.close()
        running.result()


def hang_up(writer: asyncio.StreamWriter) -> None:
    """End the connection without a word."""
    writer.transport.abort()


@dataclass(slots=True)
class Work:
    """Something long that tells whether it runs, and how it ended."""

    begun: int = 0
    ended: list[str] = field(default_factory=list[str])

    async def forever(self) -> None:
        """Until it is cancelled, which takes a moment."""
        self.begun += 1
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.ended.append("cancelled")
            raise

    async def wait_begun(self, count: int) -> None:
        """Return when so many were begun."""
        with anyio.fail_after(30):
            while self.begun < count:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    async def wait_ended(self, count: int) -> None:
        """Return when so many have ended."""
        with anyio.fail_after(30):
            while len(self.ended) < count:  # noqa: ASYNC110
                await anyio.sleep(0.01)
