"""Ways in which the bytes of an answer can be wrong, by the row of the matrix they belong to."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from elluminate_async.testing.raw import Connection, reply
from tests.transport.wiring import UNREADABLE, chunked

Way: TypeAlias = Callable[[bytes, Connection], Awaitable[bytes | None]]
"""What to do instead of sending the answer: as a `Script` does."""


def instead(data: bytes, *, closes: bool = True) -> Way:
    """Other bytes, after which the connection is closed, or kept."""

    async def way(answer: bytes, connection: Connection) -> bytes | None:
        if not closes:
            return data
        await connection.send(data)
        return None

    return way


def cut(share: float, *, framing: bytes | None = None) -> Way:
    """A part of the answer's body, under its own length or another framing, then the end."""

    async def way(answer: bytes, connection: Connection) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        if framing is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json" + framing
        await connection.send(head + b"\r\n\r\n" + body[: int(len(body) * share)])

    return way


async def cut_in_chunks(answer: bytes, connection: Connection) -> None:
    body = answer.partition(b"\r\n\r\n")[2]
    await connection.send(chunked(body[: len(body) // 2], end=b""))


async def cut_in_a_chunk(answer: bytes, connection: Connection) -> None:
    body = answer.partition(b"\r\n\r\n")[2]
    await connection.send(chunked(body[:3], end=b"ff\r\nabc"))


async def reset(answer: bytes, connection: Connection) -> None:
    connection.reset()


async def half_close(answer: bytes, connection: Connection) -> None:
    """No more is sent, and what comes is read on until the client has left."""
    await connection.send(answer[:-1])
    connection.writer.write_eof()
    with anyio.fail_after(5):
        await connection.client_left()


async def slow_close(answer: bytes, connection: Connection) -> None:
    await connection.send(answer[:-1])
    await anyio.sleep(0.2)


async def silence(answer: bytes, connection: Connection) -> None:
    await connection.client_left()


def drip(start: bytes) -> Way:
    """A byte now and then, from ``start`` of the answer on."""

    async def way(answer: bytes, connection: Connection) -> None:
        at = answer.index(start)
        await connection.send(answer[:at])
        for byte in answer[at:]:
            await connection.send(bytes([byte]))
            await anyio.sleep(0.05)

    return way


def json(body: bytes, **headers: str) -> Way:
    """A well-formed answer with that body; the connection is kept."""
    return instead(reply(200, body, **headers), closes=False)


GZIP = gzip.compress(b'"' + b"x" * 2000 + b'"')
BOMB = gzip.compress(b"\0" * (40 << 20), compresslevel=1)
"""Over the cap of an answer once it is decompressed."""

WAYS: dict[int, dict[str, Way]] = {
    16: {"101 unasked": instead(UNREADABLE["101 unasked"])},
    17: {
        "204": instead(b"HTTP/1.1 204 No Content\r\n\r\n", closes=False),
        "205": instead(b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", closes=False),
        "200 empty": json(b""),
    },
    22: {"reset": reset},
    24: {"silence": silence},
    25: {"drip from the status": drip(b"HTTP"), "drip in the body": drip(b"\r\n\r\n")},
    26: {
        "content-length": cut(0.5),
        "chunked": cut_in_chunks,
        "in a chunk": cut_in_a_chunk,
        "unframed": cut(0.5, framing=b""),
        "unframed, nothing": cut(0, framing=b""),
    },
    27: {"FIN after headers": cut(0), "half-close": half_close, "slow close": slow_close},
    48: {"login page": json(b"<html>Sign in</html>" + b" " * 500, Content_Type="text/html")},
    49: {
        "cut off": json(b'"abc'),
        "trailing bytes": json(b'"abc" "def"'),
        "not a number": json(b"NaN"),
        "equal keys": json(b'{"a": 1, "a": 2}'),
        "5000 digits": json(b"9" * 5000),
        "deep": json(b"[" * 200_000),
        "half a character": json(b'"\\ud800"'),
    },
    50: {
        "bomb": json(BOMB, Content_Encoding="gzip"),
        "nested": json(gzip.compress(GZIP), Content_Encoding="gzip, gzip"),
        "no gzip": json(b"this is not gzip", Content_Encoding="gzip"),
        "cut gzip": json(GZIP[:-12], Content_Encoding="gzip"),
        "brotli": json(b"\x8b\x02\x80abcdef\x03", Content_Encoding="br"),
        "unknown": json(b"abc", Content_Encoding="made-up"),
    },
    51: {name: instead(data) for name, data in UNREADABLE.items() if name != "101 unasked"},
}
