"""One exchange with a scripted service, as its faults see it; and the count of them."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web

from elluminate_async.testing.documents import JobScript, now

_LOOK = 0.02  # seconds between looks for a client that left

BATCH_ROUTES = frozenset({"POST responses/batches", "POST ratings/batches"})
"""Those that start a job."""

STREAM_ROUTES = frozenset(
    {"GET responses/batches/{job}/stream", "GET ratings/batches/{job}/stream"}
)
"""Those that follow one by events."""

START_ROUTES = frozenset({"POST version/compatible", "GET projects"})
"""Requests that every client sends before its first call."""


ROUTES = (
    "DELETE ratings",
    "DELETE ratings/batches",
    "DELETE ratings/batches/{job}",
    "DELETE responses/batches",
    "DELETE responses/batches/{job}",
    "DELETE responses/generate",
    "GET collections",
    "GET collections/{id}",
    "GET collections/{id}/entries",
    "GET criteria",
    "GET experiments",
    "GET experiments/{id}",
    "GET experiments/{id}/map",
    "GET projects",
    "GET projects/{id}",
    "GET prompt_templates",
    "GET prompt_templates/{id}",
    "GET ratings",
    "GET ratings/batches/{job}",
    "GET ratings/batches/{job}/stream",
    "GET responses",
    "GET responses/batches/{job}",
    "GET responses/batches/{job}/stream",
    "GET responses/{id}",
    "PATCH responses/{id}",
    "POST collections",
    "POST collections/{id}/entries",
    "POST collections/{id}/entries/batches",
    "POST criteria",
    "POST experiments",
    "POST prompt_templates",
    "POST ratings",
    "POST ratings/batches",
    "POST responses",
    "POST responses/batches",
    "POST responses/generate",
    "POST version/compatible",
    "PUT collections/{id}",
    "PUT criteria/{id}",
)
"""All that a `ScriptedService` has, as `Exchange.route` spells them."""


def route_of(method: str, path: str) -> tuple[str, list[int | str]]:
    """The route that a request is for, and the ids in its path."""
    below = path.removeprefix("/api/v0/")
    below = re.sub(r"^projects/\d+/", "", below)
    ids: list[int | str] = []
    parts: list[str] = []
    for part in below.split("/"):
        if part.isdigit():
            ids.append(int(part))
            parts.append("{id}")
        elif len(parts) == 2 and parts[1] == "batches":
            ids.append(part)
            parts.append("{job}")
        else:
            parts.append(part)
    return f"{method} {'/'.join(parts)}", ids


@dataclass(slots=True)
class Reply:
    """An answer before it is sent.

    Attributes:
        events: The events of a stream, instead of a body.
        sent_bytes: Break off after so many bytes of the body; None to send all of it.
    """

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    events: AsyncIterator[bytes] | None = None
    sent_bytes: int | None = None


class ConnectionCut(Exception):
    """Raised by a fault, also from within a stream's events: the connection is reset here."""


@dataclass(slots=True)
class Exchange:
    """One request, and what a fault may do about it.

    Attributes:
        number: Counts all requests of the service, from 1.
        route: Method and path below the project, as in ``GET responses/batches/{job}``.
        job_script: Applies to the job that this exchange starts, if it starts one.
    """

    number: int
    method: str
    path: str
    route: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request: web.BaseRequest = field(repr=False)
    job_script: JobScript = field(default_factory=JobScript)

    async def client_left(self) -> None:
        """Return when the client has given up on the answer."""
        while (peer := self.request.transport) is not None and not peer.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)


Process: TypeAlias = Callable[[], Awaitable[Reply]]
"""Has the service do what was asked of it."""


def reset(request: web.BaseRequest) -> None:
    """End a connection with RST instead of FIN."""
    transport = request.transport
    if transport is not None:
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Traffic:
    """A request as it arrived at a service.

    Attributes:
        requests: Requests by route.
        statuses: Answers by status; none for those that got no answer.
        open: Requests that are being answered, streams included.
        peak: Most of them at once.
    """

    def __init__(self) -> None:
        self.requests = Counter[str]()
        self.statuses = Counter[int]()
        self.open = 0
        self.peak = 0
        self._times: deque[float] = deque()

    @property
    def total(self) -> int:
        """All requests."""
        return self.requests.total()

    def count(self, text: str) -> int:
        """Requests whose route holds ``text``."""
        return sum(n for route, n in self.requests.items() if text in route)

    def most_in(self, seconds: float) -> int:
        """Most requests that arrived in any window of so many seconds."""
        window: deque[float] = deque()
        most = 0
        for time in self._times:
            window.append(time)
            while window[0] <= time - seconds:
                window.popleft()
            most = max(most, len(window))
        return most

    def begin(self, route: str) -> int:
        """Note a request; its number."""
        self.requests[route] += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        self._times.append(now())
        return len(self._times)

    def end(self, status: int | None) -> None:
        """Note how it ended."""
        self.open -= 1
        if status is not None:
            self.statuses[status] += 1


class ServerLimit:
    """A limit that the service keeps: what is over it gets 429.

    Args:
        rate: Requests per second; may be changed while it runs.
        burst: Requests at once after a pause.
        retry_after: Seconds to name in ``Retry-After``; None sends no such header.

    Attributes:
        admitted: Requests within the limit.
        refused: Requests over it.
    """

    def __init__(self, rate: float, *, burst: int = 1, retry_after: float | None = None) -> None:
        self.rate = rate
        self.burst = burst
        self.retry_after = retry_after
        self.admitted = 0
        self.refused = 0
        self._tokens = float(burst)
        self._last: float | None = None

    def admit(self) -> Reply | None:
        """None, or the refusal."""
        moment = now()
        if self._last is not None:
            self._tokens = min(self.burst, self._tokens + (moment - self._last) * self.rate)
        self._last = moment
        if self._tokens >= 1:
            self._tokens -= 1
            self.admitted += 1
            return None
        self.refused += 1
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return Reply(429, b'{"detail":"over the limit"}', headers=headers)
