"""The cost of JSON once it is read, estimated from its bytes.

Three bytes, ``{},``, make a Python object of 72, and a document of the wire takes more than
that. So a body is refused that would take more than ten times its own size, as its marks tell:
``{`` begins an object, ``":`` ends a key.

A few pieces of it, one from each part, tell that much of nearly every body, for next to
nothing. Only where they look heavy is all of it looked at, and then without its texts: an answer
that is code, or JSON in a text, is light.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Self

TIMES_ITS_BYTES: Final = 10
"""The memory that a body may take once it is read, in multiples of its bytes."""

ALWAYS_ALLOWED: Final = 16 << 20
"""Bytes of memory that any body may take: a small one of many small parts is no harm."""

_WEIGHED_FROM: Final = 512 << 10  # what is smaller hardly takes more than is always allowed
_PIECES: Final = 32
_PIECE: Final = 1 << 10
_BLOCK: Final = 64 << 10

# Bytes that parts take, the two words of a garbage-collected object's head included.
_OBJECT: Final = 500  # as a document; a plain dict is 200
_ARRAY: Final = 96
_KEY: Final = 24  # its place in a dict; texts of keys are shared
_FURTHER_KEY: Final = 130  # of a large dict, whose keys are not those of others
_TEXT: Final = 88
_DENSE_ELEMENT: Final = 48  # of those that have fewer than four bytes, such as single digits
_LIGHT: Final = 4 << 20  # more is counted before it is validated
_LIGHT_ELEMENT: Final = 16  # bytes; shorter ones take several times that in a validator's tree
_KEYS_PER_OBJECT: Final = 64


class Heaviness(Enum):
    """The memory that reading a body would take, beside its bytes.

    Attributes:
        LIGHT: It may be read in whatever way is the fastest.
        MIDDLING: Made into Python's objects before it is validated.
        TOO_HEAVY: More than `TIMES_ITS_BYTES` and than what is always allowed.
    """

    LIGHT = auto()
    MIDDLING = auto()
    TOO_HEAVY = auto()


def heaviness_of(body: bytes | bytearray, always_allowed: int = ALWAYS_ALLOWED) -> Heaviness:
    """Look at as much of ``body`` as it takes to tell."""
    size = len(body)
    if size < _WEIGHED_FROM:
        return Heaviness.LIGHT
    allowed = max(TIMES_ITS_BYTES * size, always_allowed)
    looked_at = _PIECES * _PIECE
    marks = [_Marks.within(piece) for piece in _pieces_of(body)]
    if sum(piece.weight(_PIECE) for piece in marks) * size <= 0.9 * allowed * looked_at:
        commas = sum(piece.commas for piece in marks)
        is_light = size <= _LIGHT and commas * _LIGHT_ELEMENT <= looked_at
        return Heaviness.LIGHT if is_light else Heaviness.MIDDLING
    if _Marks.beside_texts(body).weight(size) > allowed:
        return Heaviness.TOO_HEAVY
    return Heaviness.MIDDLING


def beside_texts(body: bytes, signs: bytes) -> Iterator[bytes]:
    """Those of ``signs`` that JSON has outside of its texts, in order, block by block."""
    others = bytes(set(range(256)) - set(signs))
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = 0
    for start in range(0, len(body), _BLOCK):
        # Every other piece is a text; whether the first is one, the quotes so far tell.
        pieces = body[start : start + _BLOCK].split(b'"')
        yield b"".join(pieces[quotes % 2 :: 2]).translate(None, others)
        quotes += len(pieces) - 1


def _pieces_of(body: bytes | bytearray) -> Iterator[bytes]:
    """One piece of each part of it, so that no part of such a size is overlooked."""
    part = len(body) // _PIECES
    for start in range(0, part * _PIECES, part):
        # From anywhere in it: whoever makes a body cannot know which pieces are looked at.
        at = start + random.randrange(part - _PIECE)
        yield bytes(body[at : at + _PIECE])


@dataclass(slots=True)
class _Marks:
    """Counts of what JSON is made of."""

    objects: int = 0
    arrays: int = 0
    commas: int = 0
    keys: int = 0
    texts: int = 0

    @classmethod
    def within(cls, body: bytes) -> Self:
        """As if no text held any: too many at most."""
        keys = body.count(b'":')
        return cls(
            objects=body.count(b"{"),
            arrays=body.count(b"["),
            commas=body.count(b","),
            keys=keys,
            texts=max(0, body.count(b'"') // 2 - keys - body.count(b'""')),
        )

    @classmethod
    def beside_texts(cls, body: bytes | bytearray) -> Self:
        """Those that are not within texts."""
        marks, quotes, empty = cls(), 0, 0
        if b"\\" in body:
            body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        for start in range(0, len(body), _BLOCK):
            # Every other piece is a text; whether the first is one, the quotes so far tell.
            pieces = bytes(body[start : start + _BLOCK]).split(b'"')
            beside = b"".join(pieces[quotes % 2 :: 2])
            empty += pieces[1 - quotes % 2 : -1 : 2].count(b"")
            quotes += len(pieces) - 1
            marks.objects += beside.count(b"{")
            marks.arrays += beside.count(b"[")
            marks.commas += beside.count(b",")
            marks.keys += beside.count(b":")
        marks.texts = max(0, quotes // 2 - marks.keys - empty)
        return marks

    def weight(self, size: int) -> int:
        """The bytes that so many bytes of body take once they are read."""
        further_keys = max(0, self.keys - self.objects * _KEYS_PER_OBJECT)
        dense = max(0, self.commas - size // 4)
        return (
            self.objects * _OBJECT
            + self.arrays * _ARRAY
            + self.keys * _KEY
            + further_keys * _FURTHER_KEY
            + self.texts * _TEXT
            + dense * _DENSE_ELEMENT
        )
