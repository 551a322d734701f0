"""The connections of a server: how many, and how long a request may take to arrive.

Whoever has not shown a valid key gets little: a share of the connections, a share of the memory
for headers, and some seconds. When a share is used up, the oldest of those without a key goes,
not the one that comes: a rightful client shows its key in its first packet, and is let in while
any number of others wait, dribble or come again.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.server import ServerState

HEADER_SECONDS: Final = 10.0
"""Within which the headers of a request must have come."""
BODY_SECONDS: Final = 30.0
"""Within which some more of a body must come, while it is waited for."""
MOST_HEADER_BYTES: Final = 16 << 20
"""Of unfinished headers, over all connections."""
SMALL_HEADER_BYTES: Final = 64 << 10
"""Unfinished headers up to this size are not closed for want of room."""
MOST_REQUEST_LINE_BYTES: Final = 1 << 20
"""The official clients list rated responses by hundreds of ids in the request line."""
ACCEPTED_AT_ONCE: Final = 64
"""Connections that are accepted before what has come on the others is read."""

_MOST = 8_192
_MOST_UNPROVEN = 256
_OTHER_FILES = 256  # those of the database, of model calls, and of the caller's program
_SWEEP_SECONDS = 1.0
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Connections:
    """All connections of one server.

    Args:
        most: Connections at a time; None takes what the limit on open files leaves.

    Attributes:
        most_unproven: Of these, those that have not shown a valid key yet.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = _most_by_files() if most is None else most
        self.most_unproven = max(1, min(_MOST_UNPROVEN, self.most // 2))
        self._open: set[Connection] = set()
        # All of these in the order of time: the oldest first.
        self._unproven: dict[Connection, None] = {}
        self._headers: dict[Connection, float] = {}
        self._bodies: dict[Connection, float] = {}
        self._header_bytes = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def made(self, one: Connection) -> None:
        """Take a new connection in, and let an old one go where there are too many."""
        self._open.add(one)
        self._unproven[one] = None
        self._headers[one] = one.loop.time()
        self._sweep_later(one.loop)
        if len(self._unproven) > self.most_unproven:
            next(iter(self._unproven)).give_up()
        elif len(self._open) > self.most:
            oldest = next(iter(self._unproven))
            oldest.give_up(_FULL if oldest is one else b"")

    def lost(self, one: Connection) -> None:
        """Forget one that is closed."""
        self._open.discard(one)
        self._unproven.pop(one, None)
        self._bodies.pop(one, None)
        self._arrived(one)

    def proven(self, one: Connection) -> None:
        """It has shown a valid key."""
        self._unproven.pop(one, None)

    def received(self, one: Connection, size: int) -> None:
        """Note how far a request is, after ``size`` bytes more of it."""
        if one not in self._open:
            return
        match one.conn.their_state:
            case h11.IDLE:
                self._headers.setdefault(one, one.loop.time())
                one.header_bytes += size
                self._header_bytes += size
                if self._header_bytes > MOST_HEADER_BYTES:
                    self._make_room(one)
            case h11.SEND_BODY:
                self._arrived(one)
                self._bodies.pop(one, None)  # to the end
                self._bodies[one] = one.loop.time()
            case _:
                self._arrived(one)
                self._bodies.pop(one, None)
                return
        self._sweep_later(one.loop)

    def close(self) -> None:
        """Stop looking for what is late."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _arrived(self, one: Connection) -> None:
        self._headers.pop(one, None)
        self._header_bytes -= one.header_bytes
        one.header_bytes = 0

    def _make_room(self, one: Connection) -> None:
        large = (other for other in self._headers if other.header_bytes > SMALL_HEADER_BYTES)
        next(large, one).give_up()

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        now = loop.time()
        for one, since in list(self._headers.items()):
            if now - since < HEADER_SECONDS:
                break
            one.give_up(_TIMED_OUT if one.header_bytes else b"")
        for one, since in list(self._bodies.items()):
            if now - since < BODY_SECONDS:
                break
            if one.flow.read_paused:  # it is this server that is slow
                self._bodies[one] = self._bodies.pop(one) + BODY_SECONDS
            else:
                one.give_up(_TIMED_OUT)
        if self._headers or self._bodies:
            self._sweep_later(loop)


class Connection(H11Protocol):
    """One connection, known to its server's `Connections`.

    Attributes:
        header_bytes: What has come of headers that are not whole.
    """

    def __init__(
        self,
        among: Connections,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # Uvicorn gives each request a copy of this state. Weakly, as thousands of connections a
        # second would else be freed only when a collector comes by.
        state = {**app_state, "connection": weakref.ref(self)}
        super().__init__(config, server_state, state, _loop)
        self.header_bytes = 0
        self._among = among

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counted from here on."""
        super().connection_made(transport)
        self._among.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Counted no more."""
        self._among.lost(self)
        super().connection_lost(exc)
        if self.conn.their_state in (h11.IDLE, h11.ERROR):
            # What is unfinished goes now, not when the collector finds this circle of objects.
            self.conn = h11.Connection(h11.SERVER)

    def data_received(self, data: bytes) -> None:
        """Some more of a request."""
        super().data_received(data)
        self._among.received(self, len(data))

    def prove(self) -> None:
        """Tell that a valid key was shown."""
        self._among.proven(self)

    def bound_send_buffer(self, size: int) -> None:
        """Have the kernel hold no more than about so much that was not read."""
        if (held := self.transport.get_extra_info("socket")) is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def give_up(self, answer: bytes = b"") -> None:
        """Close it, with a last answer where there is one to be read."""
        self._among.lost(self)
        if answer:
            self.transport.write(answer)
            self.transport.close()
        else:
            self.transport.abort()


def _most_by_files() -> int:
    if sys.platform == "win32":  # pragma: no cover
        return _MOST_UNPROVEN
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(16, min(_MOST, max(soft - _OTHER_FILES, soft // 2)))
