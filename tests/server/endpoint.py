"""A small endpoint that speaks the OpenAI chat protocol, on loopback."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

Reply = Callable[[dict[str, Any]], JSONResponse]


class Endpoint:
    """An OpenAI-compatible endpoint: remembers requests and answers as told.

    Attributes:
        delay: Seconds that an answer takes.
        holds_after: So many requests are answered; later ones wait until ``released``.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.delay = 0.0
        self.holds_after = math.inf
        self.released = asyncio.Event()
        self._asked = asyncio.Condition()
        self.reply: Reply = lambda body: completion(body["messages"][-1]["content"].upper())

    async def reached(self, requests: int) -> None:
        """Wait until so many requests have come."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= requests)

    async def handle(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.requests.append(body)
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


def refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": {"message": text, "type": "x", "code": "y"}}, status)


@asynccontextmanager
async def running_endpoint() -> AsyncGenerator[Endpoint, None]:
    endpoint = Endpoint()
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", endpoint.handle, methods=["POST"])
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", http="h11")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        # Below `serve`, which would take the signals of the test's process.
        running = asyncio.create_task(server._serve(sockets=[listening]))
        yield endpoint
        server.should_exit = True
        await running
