"""A gateway before the embedded server: it passes bytes on, or does to them what a test asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing.raw import Connection, RawServer, Received, Script
from tests.flow.bench import EchoModel, Recorder, Stage, set_stage

HOSTED = WireProfile.hosted(page_size=50, listing_seed=5)
SETTLING = BatchOptions(chunk_size=2, max_concurrency=40, settle=0.4)

Choose = Callable[[Received], "Script | None"]
"""The script for a request; None passes it on."""


class Gateway(RawServer):
    """Passes each request on, whole, and its answer back, also whole.

    Attributes:
        choose: Names the script of a request that is not just passed on.
        keeps: Whether connections are kept after an answer that was passed on.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(self._work)
        self.choose: Choose = lambda received: None
        self.keeps = True
        self._port = urlsplit(upstream).port

    async def _work(self, received: Received, connection: Connection) -> bytes | None:
        if script := self.choose(received):
            return await script(received, connection)
        answer = await self.passed(received)
        if self.keeps:
            return answer
        await connection.send(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        return None

    async def passed(self, received: Received) -> bytes:
        """The server's answer to the request; its connection with the client is kept."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            host = f"127.0.0.1:{self._port}"
            headers = received.headers | {"connection": "close", "host": host}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"{received.method} {received.target} HTTP/1.1\r\n{lines}\r\n"
            writer.write(head.encode("latin-1") + received.body)
            answer = await reader.read()
        finally:
            writer.close()
        return answer.replace(b"Connection: close\r\n", b"", 1)

    def posts(self, noun: str = "responses") -> list[Received]:
        """The chunks that came in, in order."""
        return [seen for seen in self.requests if is_post(seen, noun)]


def is_post(received: Received, noun: str = "responses") -> bool:
    """Whether it carries a chunk."""
    return received.method == "POST" and received.path.endswith(f"/{noun}/batches")


def is_stream(received: Received) -> bool:
    """Whether it asks for a job's event stream."""
    return received.path.endswith("/stream")


def in_turn(matches: Callable[[Received], bool], scripts: Iterable[Script | None]) -> Choose:
    """The scripts one after the other for requests that match; afterwards they are passed on."""
    left = iter(scripts)
    return lambda received: next(left, None) if matches(received) else None


@asynccontextmanager
async def behind_gateway(
    profile: WireProfile | None = HOSTED, options: BatchOptions = SETTLING, **arguments: Any
) -> AsyncGenerator[tuple[Stage, Gateway]]:
    """A stage whose client reaches the server through a gateway."""
    model, recorder = EchoModel(), Recorder()
    async with (
        LocalServer(model=model, profile=profile, wrap=recorder.wrap) as server,
        Gateway(server.url) as gateway,
        AsyncClient(
            base_url=gateway.url, api_key=server.api_key, options=options, **arguments
        ) as client,
    ):
        stage = await set_stage(client, server, model, recorder)
        gateway.requests.clear()
        yield stage, gateway
