"""Admission of requests: keys, the Host and Origin of a request, the size of its body."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

from elluminate_async.server.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from elluminate_async.server.connections import Connection
    from elluminate_async.server.service import Service

_LOG = logging.getLogger(__name__)
_RESTART_SECONDS = 2

MAX_BODY_BYTES = 64 * 1024 * 1024
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

_API_KEY = b"x-api-key"
_BEARER = "bearer "
_SCHEMES = frozenset({"http", "https"})
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


class Guard:
    """The outermost layer: lets only proper requests in, and gives each answer an id.

    Args:
        app: What is guarded.
        service: Handed to the routes, in the request's state.
        host_names: Names that ``Host`` may give, in lower case; None allows any. Against
            a page that lets its own name point to this machine.
    """

    def __init__(self, app: ASGIApp, service: Service, host_names: frozenset[str] | None) -> None:
        self._app = app
        self._service = service
        self._host_names = host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        request_id = uuid.uuid4().hex
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._admit(scope, receive, send_with_id)
        except Problem as problem:
            await _refuse(send_with_id, problem)
        except asyncio.CancelledError:
            if has_begun or not self._service.jobs.is_closing:
                raise
            _LOG.warning("%s is answered with 503: the server ends", _name_of(scope))
            await _refuse(send_with_id, _ending())

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._service.keys.refresh()
        allowed = self._check(scope)
        reference: weakref.ref[Connection] | None = scope.get("state", {}).get("connection")
        if reference is not None and (connection := reference()) is not None:
            connection.prove()
            if (task := asyncio.current_task()) is not None:
                task.set_name(_name_of(scope))
        scope["state"] = {
            "service": self._service,
            "allowed_projects": allowed,
            "connection": reference,
        }
        await self._app(scope, _capped(receive), send)

    def _check(self, scope: Scope) -> frozenset[int]:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # Where one proxy goes by the one and the next by the other, a request hides in a body.
            raise Problem(400, "a body has a length or an encoding, not both")
        self._check_names(headers)
        allowed = self._service.keys.projects_of(_key_in(headers))
        if not allowed:
            raise Problem(401, "the API key is missing or not valid")
        if int(headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            raise Problem(413, _too_large())
        return allowed

    def _check_names(self, headers: dict[bytes, bytes]) -> None:
        if self._host_names is None:
            return
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _name_in(host) not in self._host_names:
            raise Problem(421, "this server answers to its own host name only")
        origin = headers.get(b"origin")
        if origin is not None:
            scheme, _, name = origin.decode("latin-1").lower().partition("://")
            if scheme not in _SCHEMES or _name_in(name) not in self._host_names:
                raise Problem(403, "requests from other sites are refused")


def _name_of(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']!r}"


def _ending() -> Problem:
    # With its idempotency key it is safe to send again: what was begun may be committed.
    text = "the server ends, and what was asked may have been done: send it again later"
    return Problem(503, text, headers={"Retry-After": str(_RESTART_SECONDS)})


def _key_in(headers: dict[bytes, bytes]) -> str:
    if (key := headers.get(_API_KEY)) is not None:
        return key.decode("latin-1")
    bearer = headers.get(b"authorization", b"").decode("latin-1")
    return bearer[len(_BEARER) :].strip() if bearer.lower().startswith(_BEARER) else ""


def _name_in(authority: str) -> str | None:
    """The host of ``host[:port]``; None for anything else, as user and password before it."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else found[1]


def _too_large() -> str:
    return f"the body is larger than {MAX_BODY_BYTES} bytes"


def _capped(receive: Receive) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413, _too_large())
        return message

    return limited


async def _refuse(send: Send, problem: Problem) -> None:
    body = json.dumps(problem.body).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the request's body is not read.
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
