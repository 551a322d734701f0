"""A server that does what it is asked, and whose answer something on the way replaces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HTML = (200, b"<html>Sign in</html>")
EMPTY = (200, b"")
NULL = (200, b"null")
REFUSED = (400, b'{"detail": "no"}')
BAD_GATEWAY = (502, b"bad gateway")


@dataclass(slots=True)
class Losing:
    """An ASGI wrapper that has a request worked on, and then answers something else.

    Attributes:
        instead: Status and body.
        then: Those of the second answer and later ones; None for the same.
        method: Of the requests that it is for; "" for none.
        path: What the whole of their paths below the project matches, as a regular expression.
        times: How many of them are answered so.
        seen: How many of them came.
    """

    instead: tuple[int, bytes] = HTML
    method: str = ""
    path: str = ""
    times: int = 1
    seen: int = 0
    then: tuple[int, bytes] | None = None
    app: ASGIApp | None = field(default=None, repr=False)

    def wrap(self, app: ASGIApp) -> Losing:
        """Stand before ``app``, as `LocalServer` has it."""
        self.app = app
        return self

    def arm(self, method: str, path: str, times: int = 1) -> None:
        """Lose the answers to the next ``times`` requests of that kind."""
        self.method, self.path, self.times, self.seen = method, path, times, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if scope["type"] != "http" or not self._is_for(scope):
            await self.app(scope, receive, send)
            return
        self.seen += 1
        if self.seen > self.times:
            await self.app(scope, receive, send)
            return

        async def nowhere(message: Message) -> None:
            pass

        await self.app(scope, receive, nowhere)
        later = self.then if self.seen > 1 else None
        status, body = later or self.instead
        length = str(len(body)).encode()
        headers = [(b"content-length", length), (b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _is_for(self, scope: Scope) -> bool:
        below = re.sub(r"^/api/v0/(projects/\d+/)?", "", scope["path"])
        return scope["method"] == self.method and re.fullmatch(self.path, below) is not None
