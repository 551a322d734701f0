"""Compressed bodies, decoded here: aiohttp takes a gzip body that was cut for a whole one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from elluminate_async.errors import ProtocolError

ACCEPTED: Final = "gzip, deflate"

_KNOWN: Final = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_PIECE: Final = 64 << 10
_GZIP: Final = 16 + zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"


class _Inflating(Protocol):
    """The type of what `zlib.decompressobj` makes."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


class Decompressor:
    """Bytes of the wire in, bytes of the body out, in pieces, so that a cap can be kept.

    Args:
        encoding: The ``Content-Encoding``; empty for none.

    Raises:
        ProtocolError: An encoding that was not asked for.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if not self.knows(encoding):
            raise ProtocolError(
                f"an answer's body is encoded as {encoding[:50]!r}, and {ACCEPTED} was asked for",
                sent=True,
            )
        self._inflating: _Inflating | None = None

    @staticmethod
    def knows(encoding: str) -> bool:
        """Whether it is one that was asked for."""
        return encoding.strip().lower() in _KNOWN

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode ``data``.

        Raises:
            ProtocolError: It cannot be decoded.
        """
        if self._encoding in ("", "identity"):
            yield data
            return
        full = False
        # A full piece may leave some output behind, also where all input is used up.
        while data or full:
            if self._inflating is None or self._inflating.eof:
                self._inflating = self._begin(data)
            try:
                piece = self._inflating.decompress(data, _PIECE)
            except zlib.error:
                raise _unreadable() from None
            if piece:
                yield piece
            full = len(piece) == _PIECE and not self._inflating.eof
            data = self._inflating.unconsumed_tail or self._inflating.unused_data

    def _begin(self, data: bytes) -> _Inflating:
        if self._encoding != "deflate":
            # More than one member may follow: RFC 1952 section 2.2.
            if self._inflating is not None and not data.startswith(_GZIP_MAGIC[:1]):
                raise _unreadable()
            return zlib.decompressobj(_GZIP)
        if self._inflating is not None:
            raise _unreadable()
        # Some send it without its zlib header, whose low bits are always 8.
        is_raw = data[0] & 0x0F != zlib.DEFLATED
        return zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS)

    def end(self) -> None:
        """The body has ended.

        Raises:
            ProtocolError: It was cut.
        """
        if self._inflating is not None and not self._inflating.eof:
            raise ProtocolError("an answer's compressed body was cut", sent=True)


def _unreadable() -> ProtocolError:
    return ProtocolError("an answer's compressed body cannot be decoded", sent=True)
