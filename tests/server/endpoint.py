"""A small endpoint that speaks the OpenAI chat protocol, on loopback."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

Reply = Callable[[dict[str, Any]], Response]


class Endpoint:
    """An OpenAI-compatible endpoint: remembers requests and answers as told.

    Attributes:
        at: When each request came, on `time.monotonic`.
        delay: Seconds that an answer takes.
        holds_after: So many requests are answered; later ones wait until ``released``.
    """

    def __init__(self) -> None:
        self.url = ""
        self.server: uvicorn.Server | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at: list[float] = []
        self.delay = 0.0
        self.holds_after = math.inf
        self.released = asyncio.Event()
        self._asked = asyncio.Condition()
        self.reply: Reply = lambda body: completion(body["messages"][-1]["content"].upper())

    async def reached(self, requests: int) -> None:
        """Wait until so many requests have come."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= requests)

    async def deserted(self) -> None:
        """Wait until nobody is connected, and all has come that was sent.

        Of a process that has ended, what it sent is in the kernel: some rounds of the loop take the
        connection, the request and its end from there.
        """
        assert self.server is not None
        for _ in range(10):
            await asyncio.sleep(0)
        state = self.server.server_state
        while state.connections or state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def handle(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.at.append(time.monotonic())
        number = len(self.requests)
        self.keys.append(request.headers.get("authorization"))
        async with self._asked:
            self._asked.notify_all()
        await asyncio.sleep(self.delay)
        if number > self.holds_after:
            await self.released.wait()
        return self.reply(body)


def completion(text: str | None, **message: Any) -> JSONResponse:
    return JSONResponse(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text, **message},
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        }
    )


def refusal(status: int, text: str, **headers: str) -> JSONResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": text, "type": "x", "code": "y"}}
    return JSONResponse(body, status, headers=named)


def streamed(*pieces: str, seconds: float = 0, ends: bool = True) -> Response:
    """An answer in pieces, each after so many seconds."""

    async def events() -> AsyncGenerator[str]:
        for piece in pieces:
            await asyncio.sleep(seconds)
            yield _event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        await asyncio.sleep(seconds if ends else math.inf)
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 5, "completion_tokens": len(pieces)}
        yield _event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps({'id': '1', 'object': 'chat.completion.chunk', **document})}\n\n"


@asynccontextmanager
async def running_endpoint(port: int = 0) -> AsyncGenerator[Endpoint, None]:
    endpoint = Endpoint()
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", endpoint.handle, methods=["POST"])
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", http="h11")
    server = endpoint.server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listening:
        endpoint.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        # Below `serve`, which would take the signals of the test's process.
        running = asyncio.create_task(server._serve(sockets=[listening]))
        yield endpoint
        server.should_exit = True
        await running
