"""Answers of many megabytes: made one after another, sent in slices, bounded over all readers.

A job of ten thousand items has a status of some 20 MB. Whoever asks for it often, or does not
read it, is to cost the others neither their turn nor the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from typing import TYPE_CHECKING, Final
from weakref import ref

from fastapi.responses import Response, StreamingResponse

from elluminate_async.server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.types import Message, Receive, Scope, Send

    from elluminate_async.server.connections import Connection

LARGE_ROWS: Final = 500
"""Results in one answer from which on it takes its turn among the large ones."""

MOST_BYTES: Final = 128 << 20
"""Of large answers that are made and not yet read by those who asked, over all of them."""

_TRIMMED_AFTER: Final = 64 << 20
LARGE_BODY: Final = 256 << 10
"""Bytes from which on a body is sent in slices."""

_SLICE = 64 << 10
_SEND_BUFFER = 128 << 10  # of the kernel's, which doubles it
STALL_SECONDS: Final = 30.0
"""Within which a reader must take a slice, which 5 KB a second do."""


def _always() -> bool:
    return True


class HeldBytes:
    """The memory of one answer; given back when nobody refers to this any more."""

    def __init__(self, among: LargeAnswers, size: int) -> None:
        self._among = among
        self._size = size

    def __del__(self) -> None:
        self._among.give_back(self._size)


class LargeAnswers:
    """Makes large answers one at a time, and none while too much is unread.

    Attributes:
        held: Bytes that are made and not read.
        most: From so many on no more is made.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.held = 0
        self.most = most
        self._freed = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()

    async def make(
        self, make: Callable[[], Awaitable[bytes]], *, is_wanted: Callable[[], bool] = _always
    ) -> tuple[bytes, HeldBytes]:
        """Call ``make`` once it is its turn; keep the second result as long as the first.

        Raises:
            Problem: 503, where by then nobody waits for it; that goes nowhere.
        """
        async with self._turn:
            await self._room.wait()
            if not is_wanted():
                raise Problem(503, "the client has gone")
            made = await make()
            held = HeldBytes(self, len(made))
            self._count(len(made))
            return made, held

    def give_back(self, size: int) -> None:
        """So much was read, or will not be."""
        self._count(-size)
        self._freed += size
        if self._freed > _TRIMMED_AFTER and not self.held:
            self._freed = 0
            _trim_heap()

    def _count(self, more: int) -> None:
        self.held += more
        if self.held < self.most:
            self._room.set()
        else:
            self._room.clear()


class LargeResponse(Response):
    """A body sent in slices, each once the one before was read; who stalls is let go.

    Args:
        body: UTF-8, any length.
        held: The memory of the body, where it is counted.
    """

    def __init__(self, body: bytes, *, held: HeldBytes | None = None, status: int = 200) -> None:
        super().__init__(body, status, media_type="application/json")
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, _in_time(scope, send))
        finally:
            # Now, and not when a collector comes by.
            self.body, self.held = b"", None


class EventStream(StreamingResponse):
    """Server-sent events; large ones are sent in slices, and who stalls is let go."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them as they come."""
        await super().__call__(scope, receive, _in_time(scope, send))


def _trim_heap() -> None:
    # What large answers took stays with glibc's heap otherwise, for good.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _in_time(scope: Scope, send: Send) -> Send:
    """``send``, which closes the connection of who takes no slice for so long."""
    reference: ref[Connection] | None = scope.get("state", {}).get("connection")

    async def sliced(message: Message) -> None:
        connection = None if reference is None else reference()
        if len(message.get("body", b"")) > LARGE_BODY and connection is not None:
            # Of a large buffer a third must be read until there is room for a slice: whoever
            # reads slowly would seem to have stalled.
            connection.bound_send_buffer(_SEND_BUFFER)
        try:
            for part in _parts(message):
                async with asyncio.timeout(STALL_SECONDS):
                    await send(part)
        except TimeoutError:
            # Whatever else is sent after that goes nowhere.
            if connection is not None:
                connection.give_up()

    return sliced


def _parts(message: Message) -> Iterator[Message]:
    """``message``, its body in slices where it is large, without a copy."""
    body: bytes = message.get("body", b"")
    if len(body) <= LARGE_BODY:
        yield message
        return
    whole = memoryview(body)
    for start in range(0, len(whole), _SLICE):
        yield {**message, "body": whole[start : start + _SLICE], "more_body": True}
    yield {**message, "body": b""}
