"""The SDK on the embedded server, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.server import LocalServer, WireProfile
from tests.flow.bench import EchoModel, Recorder, Stage, set_stage

Staging: TypeAlias = Callable[..., AbstractAsyncContextManager[Stage]]


@asynccontextmanager
async def staged(
    profile: WireProfile | None = None, options: BatchOptions | None = None, **arguments: Any
) -> AsyncGenerator[Stage]:
    model, recorder = EchoModel(), Recorder()
    async with (
        LocalServer(model=model, profile=profile, wrap=recorder.wrap) as server,
        AsyncClient(
            base_url=server.url, api_key=server.api_key, options=options, **arguments
        ) as client,
    ):
        yield await set_stage(client, server, model, recorder)


@pytest.fixture
def staging() -> Staging:
    """A factory of stages, for a test that needs a profile or options of its own."""
    return staged


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    """A stage on a server with keys and results, in chunks of ten."""
    async with staged(options=BatchOptions(chunk_size=10)) as stage:
        yield stage


@pytest.fixture
async def hosted() -> AsyncGenerator[Stage]:
    """A stage on a server that answers as the hosted service: no keys, no results."""
    profile = WireProfile.hosted(page_size=7, listing_seed=11)
    async with staged(profile, BatchOptions(chunk_size=10, settle=0.5)) as stage:
        yield stage
