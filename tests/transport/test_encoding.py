"""Compressed bodies: any split of the bytes, and nothing cut is taken for whole."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async.errors import ProtocolError
from elluminate_async.testing.raw import Connection, Received, replies, reply
from elluminate_async.transport.encoding import Decompressor
from tests.transport.wiring import GET, OK, budget, failing, serving

BODY = b'{"fine": ' + b"1" * 300 + b"}"


def raw_deflate(data: bytes) -> bytes:
    deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflating.compress(data) + deflating.flush()


ENCODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]),
    "deflate": zlib.compress(BODY),
    " Deflate ": raw_deflate(BODY),
    "identity": BODY,
    "": BODY,
}


def decoded(encoding: str, *parts: bytes) -> bytes:
    decompressor = Decompressor(encoding)
    body = b"".join(piece for part in parts for piece in decompressor.feed(part))
    decompressor.end()
    return body


@given(st.sampled_from(sorted(ENCODED)), st.lists(st.integers(0, 400), max_size=6))
def test_any_split_decodes_alike(encoding: str, cuts: list[int]) -> None:
    """One byte at a time, or all at once; more than one member too."""
    wire = ENCODED[encoding]
    borders = sorted({0, len(wire), *(min(cut, len(wire)) for cut in cuts)})
    parts = [wire[a:b] for a, b in pairwise(borders)]

    assert decoded(encoding, *parts) == BODY
    assert decoded(encoding, *(wire[i : i + 1] for i in range(len(wire)))) == BODY


@given(st.integers(0, 3), st.integers(-300, 300), st.sampled_from([1, 7, 4096, 1 << 20]))
def test_bodies_about_the_size_of_pieces(pieces: int, more: int, step: int) -> None:
    """Whole, whatever is left in the decoder when a piece is full."""
    body = b"abc" * ((pieces * (64 << 10) + 300 + more) // 3)
    wire = zlib.compress(body, 9)

    assert decoded("deflate", *(wire[i : i + step] for i in range(0, len(wire), step))) == body


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_cut_anywhere_is_told(encoding: str) -> None:
    """Also where only the check sum is missing; an empty body is no body."""
    wire = ENCODED[encoding]
    for length in range(1, len(wire)):
        with pytest.raises(ProtocolError):
            decoded(encoding, wire[:length])

    assert decoded(encoding) == b""


UNDECODABLE = {
    "not gzip": ("gzip", b"this is not gzip"),
    "bytes after gzip": ("gzip", gzip.compress(BODY) + b"more"),
    "a wrong check sum": ("gzip", gzip.compress(BODY)[:-8] + bytes(8)),
    "bytes after deflate": ("deflate", zlib.compress(BODY) + b"more"),
    "not deflate": ("deflate", b"\x78" * 20),
    "brotli": ("br", b"x"),
    "gzip twice": ("gzip, gzip", gzip.compress(gzip.compress(BODY))),
}


@pytest.mark.parametrize(("encoding", "wire"), UNDECODABLE.values(), ids=UNDECODABLE)
def test_what_cannot_be_decoded(encoding: str, wire: bytes) -> None:
    """Garbage, bytes after the end, a wrong check sum, an encoding that nobody asked for."""
    with pytest.raises(ProtocolError):
        decoded(encoding, wire)


def test_a_bomb_comes_in_pieces() -> None:
    """So that whoever counts can stop: 100 MB from 100 kB, never more than 64 KiB at once."""
    bomb = gzip.compress(b"\0" * (100 << 20))
    pieces = Decompressor("gzip").feed(bomb)

    assert {len(piece) for _, piece in zip(range(50), pieces, strict=False)} == {64 << 10}


async def test_a_cut_body_is_asked_for_again() -> None:
    """Its length is as announced, so that only the decoding can tell."""
    cut = reply(200, gzip.compress(BODY)[:-9], Content_Encoding="gzip")
    whole = reply(200, gzip.compress(BODY), Content_Encoding="gzip")
    async with serving(replies(cut, whole)) as (server, transport):
        answer = await transport.send(GET, budget())

    assert (answer.body, answer.attempts) == (BODY, 2)
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


async def test_an_encoding_that_was_not_asked_for() -> None:
    """Named in the error."""
    async with serving(replies(reply(200, b"x", Content_Encoding="br"))) as (_, transport):
        error = await failing(transport.send(GET, budget()))

    assert type(error) is ProtocolError
    assert "'br'" in str(error)


async def test_a_compressed_stream_gives_its_events_as_they_come() -> None:
    """Flushed by the server event by event; that it is never finished does not matter."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if received.path != GET.target:
            return OK
        deflating = zlib.compressobj(wbits=31)
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
        )
        await connection.send(head)
        for number in range(3):
            data = deflating.compress(b"data: %d\n\n" % number)
            await connection.send(data + deflating.flush(zlib.Z_SYNC_FLUSH))
            if number == 1:
                await connection.client_left()
        return None

    seen: list[str] = []
    async with serving(script) as (_, transport), transport.stream(GET, budget()) as events:
        async for event in events:
            seen.append(event.data)
            if len(seen) == 2:
                break

    assert seen == ["0", "1"]
