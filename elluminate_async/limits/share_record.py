"""The bytes of a `ShareTable` in a file: one record of a fixed size for each name. No I/O.

A record that is torn, or of an earlier boot, is none: its clock says nothing any more.
"""

from __future__ import annotations

import struct
import zlib
from hashlib import blake2b
from typing import Final

from elluminate_async.batch.share_table import ShareTable

MAGIC: Final = b"elluminate-limits-1\n".ljust(32, b"\0")
"""The beginning of each file."""

RECORD_BYTES: Final = 512
"""Of each name's record."""

MOST_RECORDS: Final = 64
"""Names in one file."""

MOST_BYTES: Final = len(MAGIC) + MOST_RECORDS * RECORD_BYTES
"""Of a whole file."""

_TELLING: Final = 8  # bytes of `MAGIC` that are nobody else's
_KEY_BYTES: Final = 16
_MOST_LIMITS: Final = 8
_FIXED: Final = struct.Struct("<16s16s5d2qB")
_LIMIT: Final = struct.Struct("<16sd")
_SUM: Final = struct.Struct("<I")


def key_of(name: str) -> bytes:
    """The key of a name's record."""
    return blake2b(name.encode(), digest_size=_KEY_BYTES).digest()


def is_ours(content: bytes) -> bool:
    """Whether this may be written over: the file of a share, or one that was only begun."""
    begins = len(content) >= _TELLING and MAGIC.startswith(content[: len(MAGIC)])
    return begins or not content.strip(b"\0")


def offset_of(content: bytes, name: str) -> int | None:
    """Where the record of ``name`` is or goes, in the bytes of a file; None where it is full."""
    key = key_of(name)
    at = len(MAGIC)
    while at < len(content):
        if content[at : at + _KEY_BYTES] in (key, bytes(_KEY_BYTES)):
            return at
        at += RECORD_BYTES
    return at if at < MOST_BYTES else None


def table_in(record: bytes, boot: bytes, now: float) -> ShareTable | None:
    """The state that a record has; None for none that holds now."""
    body, sum_at = record[: -_SUM.size], RECORD_BYTES - _SUM.size
    if len(record) != RECORD_BYTES or record[sum_at:] != _SUM.pack(zlib.crc32(body)):
        return None
    _, of_boot, *times, current, previous, limits = _FIXED.unpack_from(body)
    seen, held_until, refused_rate, refused_at, counted_from = times
    if of_boot != boot or seen > now:
        return None
    pairs = [_LIMIT.unpack_from(body, _FIXED.size + i * _LIMIT.size) for i in range(limits)]
    return ShareTable(
        ends={name.rstrip(b"\0").decode(): end for name, end in pairs},
        held_until=held_until,
        refused_rate=refused_rate,
        refused_at=refused_at,
        counted_from=counted_from,
        current=current,
        previous=previous,
    )


def record_of(name: str, table: ShareTable, boot: bytes, now: float) -> bytes:
    """The record of a state."""
    assert len(table.ends) <= _MOST_LIMITS, table.ends
    body = _FIXED.pack(
        key_of(name),
        boot,
        now,
        table.held_until,
        table.refused_rate,
        table.refused_at,
        table.counted_from,
        table.current,
        table.previous,
        len(table.ends),
    )
    body += b"".join(_LIMIT.pack(limit.encode(), end) for limit, end in table.ends.items())
    body = body.ljust(RECORD_BYTES - _SUM.size, b"\0")
    return body + _SUM.pack(zlib.crc32(body))
