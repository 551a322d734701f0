"""A real model as an endpoint, and proxies to it that know fewer ways of asking for JSON."""

from __future__ import annotations

import json
import subprocess
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-realmodel" / "bin" / "python"
PROGRAM = Path(__file__).parent / "programs" / "serve_smollm2.py"


@contextmanager
def real_model() -> Generator[str]:
    """The address of llama.cpp's server with the small model, in a process of its own."""
    with subprocess.Popen(
        [str(PYTHON), str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("Listening on "), "the model did not start: make realmodel"
            yield line.split()[-1]
        finally:
            process.stdin.close()
            process.terminate()
            process.wait()


@dataclass
class Refusal:
    """What an endpoint says to a form that it does not know."""

    status: int
    text: str


# As llama-cpp-python's server answers, and one that knows no forms at all.
NO_SCHEMA = Refusal(500, "Input should be 'text' or 'json_object'")
NO_FORM = Refusal(400, "response_format is not supported by this model")
NO_TOOLS = Refusal(400, "tools are not supported by this model")


def refusal(route: str, body: dict[str, Any]) -> Refusal | None:
    """Whether an endpoint that can only be asked by that route refuses the request."""
    kind = body.get("response_format", {}).get("type")
    if route == "text":
        return NO_FORM if kind else NO_TOOLS if body.get("tools") else None
    return NO_SCHEMA if route == "json_object" and kind == "json_schema" else None


@dataclass
class Proxy:
    """A proxy that is running.

    Attributes:
        url: Where it is asked, ``/v1`` included.
        refused: Requests whose form it did not know.
    """

    url: str = ""
    refused: int = 0


@asynccontextmanager
async def proxy(target: str, route: str) -> AsyncGenerator[Proxy]:
    """An endpoint in front of ``target`` that can only be asked by that route."""
    running = Proxy()

    async def handle(request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        if (no := refusal(route, body)) is not None:
            running.refused += 1
            return web.json_response({"error": {"message": no.text}}, status=no.status)
        async with session.post(f"{target}{request.path}", data=json.dumps(body)) as answer:
            passed = web.StreamResponse(status=answer.status)
            passed.content_type = answer.content_type
            await passed.prepare(request)
            async for part in answer.content.iter_any():
                await passed.write(part)
            await passed.write_eof()
            return passed

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    runner = web.AppRunner(app)
    # A connection for each: the model's server closes those that were idle.
    async with ClientSession(connector=TCPConnector(force_close=True)) as session:
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            running.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            yield running
        finally:
            await runner.cleanup()
