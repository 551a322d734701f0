"""What the embedded server answers, changed on its way to the client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.flow.bench import Seen, Stage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Change: TypeAlias = Callable[[Seen, Any], Any]
"""Gets a request and the document that answers it; what it returns is sent."""


def rewrite(stage: Stage, change: Change) -> None:
    """Have every JSON answer and event of the stage's server go through ``change``."""
    assert stage.recorder.app is not None
    stage.recorder.app = _Rewriting(stage.recorder.app, change)


def is_listing(seen: Seen) -> bool:
    """Whether a page of responses was asked for."""
    return seen.method == "GET" and seen.path.endswith("/responses")


def value_of(row: Any) -> str:
    """The variable that a listed response was made for."""
    return row["prompt"]["template_variables"]["input_values"]["x"]


class _Rewriting:
    def __init__(self, app: ASGIApp, change: Change) -> None:
        self._app = app
        self._change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = Seen(time.monotonic(), scope["method"], scope["path"], {})
        start: Message = {}
        body = b""

        async def rewritten(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                if _is_stream(start):
                    await send(start)
                return
            if _is_stream(start):
                await send({**message, "body": self._events(seen, message.get("body", b""))})
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                whole = self._document(seen, body)
                await send({**start, "headers": _resized(start, len(whole))})
                await send({"type": "http.response.body", "body": whole})

        await self._app(scope, receive, rewritten)

    def _document(self, seen: Seen, body: bytes) -> bytes:
        return json.dumps(self._change(seen, json.loads(body))).encode() if body else body

    def _events(self, seen: Seen, body: bytes) -> bytes:
        lines = body.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                lines[number] = b"data: " + self._document(seen, line[5:])
        return b"\n".join(lines)


def _is_stream(start: Message) -> bool:
    return any(b"event-stream" in value for _, value in start["headers"])


def _resized(start: Message, size: int) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
    return [*kept, (b"content-length", str(size).encode())]
