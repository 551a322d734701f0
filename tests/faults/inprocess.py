"""A client and a scripted service in one process, without a socket between them.

What stands in is aiohttp's session alone: all of the package runs, and thousands of cases in
virtual time take seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from elluminate_async import AsyncClient, BatchOptions, Experiment
from elluminate_async.testing import ScriptedService
from elluminate_async.testing.exchange import ConnectionCut, Exchange, Reply, route_of


class _Response:
    """As much of aiohttp's response as the transport reads."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.content_type = reply.content_type
        length = {} if reply.events is not None else {"Content-Length": str(len(reply.body))}
        framing = length or {"Transfer-Encoding": "chunked"}
        self.headers = CIMultiDict({"Content-Type": reply.content_type, **framing, **reply.headers})
        self.content = self
        self._parts = _parts(reply)

    async def readany(self) -> bytes:
        try:
            return await anext(self._parts, b"")
        except ConnectionCut:
            raise aiohttp.ClientPayloadError("cut") from None

    def is_eof(self) -> bool:
        """Nothing of it is under way: what comes next comes at once."""
        return True

    def release(self) -> None:
        pass


async def _parts(reply: Reply) -> AsyncIterator[bytes]:
    if reply.events is not None:
        async for event in reply.events:
            yield event
    else:
        yield reply.body[: reply.sent_bytes]
        if reply.sent_bytes is not None:
            raise ConnectionCut


class _Session:
    """As much of aiohttp's session as the transport uses."""

    def __init__(self, service: ScriptedService, latency: float) -> None:
        self._service = service
        self._latency = latency

    async def request(
        self,
        method: str,
        url: URL,
        *,
        data: bytes | None,
        headers: dict[str, str],
        trace_request_ctx: SimpleNamespace,
        **_: Any,
    ) -> _Response:
        service = self._service
        trace_request_ctx.sent = True
        await asyncio.sleep(self._latency / 2)
        route, ids = route_of(method, url.path)
        number = service.traffic.begin(route)
        request: Any = SimpleNamespace(query_string=url.raw_query_string, transport=None)
        exchange = Exchange(
            number, method, url.path, route, CIMultiDict(headers), data or b"", request
        )

        async def process() -> Reply:
            return await service._process(exchange, ids)

        status: int | None = None
        try:
            reply = await service._reply(exchange, process)
            status = reply.status
        except ConnectionCut:
            raise aiohttp.ServerDisconnectedError from None
        finally:
            service.traffic.end(status)
        await asyncio.sleep(self._latency / 2)
        return _Response(reply)

    async def close(self) -> None:
        pass


@asynccontextmanager
async def client_of(
    service: ScriptedService, options: BatchOptions | None = None, *, latency: float = 0.0
) -> AsyncGenerator[AsyncClient]:
    """A client whose requests go straight to ``service``, ``latency`` seconds there and back."""
    client = AsyncClient(
        base_url="http://127.0.0.1:9", api_key=service.api_key, options=options or BatchOptions()
    )
    session = cast(Any, _Session(service, latency))
    client._connection.transport._session._sessions |= {False: session, True: session}
    try:
        yield client
    finally:
        await client.close()


async def experiment_of(client: AsyncClient) -> Experiment:
    """An experiment on a template with one placeholder, and no entries of its own."""
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
    collection, _ = await client.collections.get_or_create("values")
    experiment, _ = await client.experiments.get_or_create(
        "run", prompt_template=template, collection=collection
    )
    return experiment
