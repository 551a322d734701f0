"""The records of a journal, as bytes and back.

A journal is a file of records, one a line: the length and the CRC-32 of the JSON text, both
as eight hex digits, then the text. It holds ids and hashes, no prompts, no answers and no
credential.

====================  ==========================================================
``HEADER``            format, service, project, operation and arguments of the call
``PINS``              hashes of what the call works with, such as its template
``INPUTS``            hashes of inputs, by position
``BASELINE``          what the service had before the first chunk
``INTENT``            a chunk that is about to be sent, under its idempotency key
``TASK``              the job that the service made for it
``DONE``              positions that have a value, where the service keeps it, and a hash of it
``FAILED``            positions that have failed for good
``UNKNOWN``           positions of which it is not known whether they were processed
``RELEASED``          positions that were proved not to have been processed
``CLOSED``            the call came to its end
====================  ==========================================================
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO, RawIOBase
from json import JSONEncoder, loads
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Raised whenever another version could misread a journal, or cannot tell what it must."""

CONTENT = frozenset({"output", "ratings"})
"""Parts of an item's error that are content, which a journal does not hold."""

_PREFIX = 18  # two numbers of eight hex digits, a space after each
_USUAL_RECORD = 16_384  # bytes
_SECTOR = 512  # bytes that a disk writes as one
_MOST_IDS = 100_000_000  # in one range of them
_HEX = frozenset(b"0123456789abcdef ")
_HEADER = b'{"kind":"HEADER","format":'
_encode = JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """Which call a journal belongs to.

    Attributes:
        origin: Scheme, host and port of the service.
        arguments: What all items share, such as the experiment's id.
        total: Positions; None where the input is of unknown length.
        server: The id that the service advertises, which counts instead of ``origin``.
    """

    origin: str
    project: int
    operation: str
    arguments: Mapping[str, Any]
    total: int | None
    server: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        service = {"origin": self.origin} if self.server is None else {"server": self.server}
        return {
            **service,
            "project": self.project,
            "operation": self.operation,
            **self.arguments,
            "total": self.total,
        }


@dataclass(slots=True)
class UnfinishedChunk:
    """A chunk that may have been sent and whose outcomes are not all known.

    Attributes:
        key: Its idempotency key.
        positions: All of the request, in its order.
        facts: What its resource needs to recognise what came of it.
        job_id: The service's job, where its acceptance was noted.
        left: The positions without an outcome.
    """

    key: str
    positions: tuple[int, ...]
    facts: Mapping[str, Any]
    job_id: str | None = None
    left: set[int] = field(default_factory=set[int])


def encode_record(record: Record) -> bytes:
    """The line of a record."""
    return _line(_encode(record).encode())


def _line(text: bytes) -> bytes:
    return b"%08x %08x %b\n" % (len(text), zlib.crc32(text), text)


def decode_record(line: bytes) -> Record | None:
    """The record of a line; None when it is not whole.

    Raises:
        ValueError: It is whole, and its text is no JSON object.
    """
    text = line[_PREFIX:-1]
    if line != _line(text):
        return None
    try:
        record: object = loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return cast("Record", record)


def read_records(path: Path, file: BufferedIOBase) -> Iterator[tuple[int, int, Record]]:
    """Each record, with where it begins and ends; not one that is torn at the end.

    Raises:
        JournalError: Something that is no torn record at the end cannot be read.
    """
    offset = 0
    for line in file:
        try:
            record = decode_record(line)
        except ValueError as error:
            raise _damaged(path, offset, f" ({error!s:.200})") from None
        if record is None:
            tail = line + file.read()
            if not (_is_torn(tail, offset) if offset else _is_torn_header(tail)):
                raise _damaged(path, offset)
            return
        yield offset, offset + len(line), record
        offset += len(line)


def record_at(file: RawIOBase | BytesIO, offset: int) -> Record | None:
    """The record that begins at ``offset``; None when there is none any more.

    Raises:
        ValueError: What begins there is no record.
    """
    file.seek(offset)
    line = file.read(_USUAL_RECORD) or b""
    length = _PREFIX + int(line[:8], 16) + 1
    while len(line) < length and (more := file.read(length - len(line))):
        line += more
    return decode_record(line[:length])


def _damaged(path: Path, offset: int, why: str = "") -> JournalError:
    return JournalError(
        f"the journal {path} is damaged at byte {offset}, or is no journal{why}; nothing was "
        "sent. Restore it, or remove it to begin anew: then what it knew is sent again",
        path=path,
        offset=offset,
    )


def _is_torn(tail: bytes, offset: int) -> bool:
    """Whether ``tail`` may be what a crash left of one record, rather than damage.

    A record that was synced is whole, and its chunk may have been sent: it must not be taken
    for a torn one because of a bit. A crash leaves a beginning of a record, which has no line
    end, maybe with zeros up to the file's end; or has zeros for whole sectors that never
    reached the disk. A changed bit gives a line end, a line that is too long, or a lone zero.
    """
    if b"\n" in tail[:-1]:
        return False
    written = tail.rstrip(b"\0")
    if b"\0" in written:
        return _lacks_sectors(tail, offset)
    return b"\n" not in written and _is_beginning(written)


def _is_beginning(record: bytes) -> bool:
    """Whether this can be the beginning of a record without its line end."""
    head = record[:_PREFIX]
    if not _HEX.issuperset(head):
        return False
    return len(head) < _PREFIX or len(record) - _PREFIX <= int(head[:8], 16)


def _lacks_sectors(tail: bytes, offset: int) -> bool:
    """Whether zeros stand for whole sectors: from a bound, or the record's begin, to a bound."""
    end = offset + len(tail)
    for zeros in re.finditer(rb"\0+", tail):
        first, last = offset + zeros.start(), offset + zeros.end()
        if not (first == offset or first % _SECTOR == 0):
            return False
        if not (last == end or last % _SECTOR == 0):
            return False
    return True


def _is_torn_header(tail: bytes) -> bool:
    """The same for the first record, lest a file of somebody else's is cut to nothing.

    It is shorter than a sector of a disk, so that zeros come last.
    """
    head = tail.rstrip(b"\0")
    text = head[_PREFIX:]
    return (
        b"0000".startswith(head[:4])
        and b"\n" not in head
        and _HEADER.startswith(text[: len(_HEADER)])
        and _is_beginning(head)
    )


def check_header(path: Path, found: Record, *, header: Header, check_total: bool) -> None:
    """Raise `JournalError` when a journal belongs to another call."""
    version = found.get("format")
    if found.get("kind") != "HEADER" or not isinstance(version, int):
        raise JournalError(f"{path} is no journal", path=path, offset=0)
    if version > FORMAT:
        raise JournalError(
            f"the journal {path} is of format {version}, and this version of elluminate-async "
            f"reads up to {FORMAT}: update it",
            path=path,
        )
    if version < FORMAT:
        raise JournalError(
            f"the journal {path} is of format {version}, which does not hold what tells a call's "
            "own rows from others: end that call with the version of elluminate-async that began "
            "it, or remove the journal to begin anew: then all that it knew is sent again",
            path=path,
        )
    wanted = {"format": version, "kind": "HEADER", **header.to_dict()}
    if not check_total:
        wanted["total"] = found.get("total")
    changed = [
        f"{name} was {found.get(name)!r} and is {wanted.get(name)!r}"
        for name in dict.fromkeys([*wanted, *found])
        if found.get(name) != wanted.get(name)
    ]
    if changed:
        # A list's length is known beforehand, that of an iterable is not.
        unknown = None in (found.get("total"), header.total)
        kind = " (None: an iterable, whose length is not known)" if unknown else ""
        raise JournalError(
            f"the journal {path} is of another call: {'; '.join(changed)}{kind}. Pass what it was "
            "begun with, or another path",
            path=path,
        )


def ranges_of(ids: Iterable[int]) -> list[list[int]]:
    """Ids as ascending [first, last] pairs."""
    ranges: list[list[int]] = []
    for id in sorted(ids):
        if ranges and id == ranges[-1][1] + 1:
            ranges[-1][1] = id
        else:
            ranges.append([id, id])
    return ranges


def ids_of_ranges(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """The way back.

    Raises:
        ValueError: They are none, or more than any memory holds.
    """
    for first, last in ranges:
        if not 0 <= last - first < _MOST_IDS:
            raise ValueError(f"no range of ids: {first!r} to {last!r}")
        yield from range(first, last + 1)
