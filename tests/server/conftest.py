"""A running server, a scripted model and an HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from elluminate_async.server import LocalServer
from elluminate_async.server.llms.forms import forget_endpoints
from tests.server.api import Api, ScriptedModel
from tests.server.endpoint import running_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.server.endpoint import Endpoint


@pytest.fixture(autouse=True)
def unknown_endpoints() -> None:
    """A port may be another endpoint's that was known before."""
    forget_endpoints()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # None is used again that the server may be closing, as it does after five idle seconds.
    connector = aiohttp.TCPConnector(keepalive_timeout=1.0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture
async def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def server(model: ScriptedModel) -> AsyncIterator[LocalServer]:
    async with LocalServer(model=model) as server:
        yield server


@pytest.fixture
async def api(session: aiohttp.ClientSession, server: LocalServer) -> Api:
    return Api(session, server)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running_endpoint() as endpoint:
        yield endpoint
