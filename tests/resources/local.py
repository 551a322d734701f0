"""A client of an embedded server, for a test of its nouns."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer
from tests.flow.bench import EchoModel


@asynccontextmanager
async def local() -> AsyncGenerator[AsyncClient]:
    """A server of its own, whose model echoes."""
    async with (
        LocalServer(model=EchoModel()) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        yield client
