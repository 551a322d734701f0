"""`JournalState`: what the records of a journal tell together.

The records themselves stay in the file. Kept of each position are a hash, a state and where its
record begins; what that holds is read again when it is asked for::

    byte 900     intent    of chunk A: positions 0, 1     0 and 1 are sent, see byte 900
    byte 1200    done      0: response 31                 0 is done, see byte 1200
    state.done[0]                                         reads the record at byte 1200

What is asked for in about the order in which it came to its end is read once a record.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from elluminate_async.engine.position_index import DONE, FAILED, NOTHING, SENT, PositionIndex
from elluminate_async.engine.records import Record, UnfinishedChunk, read_records, record_at
from elluminate_async.errors import ItemError, JournalError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

MOST_KEPT = 8_192  # values of the records that were read last
READ_AT_ONCE = 1 << 20  # bytes
_STATES = {"DONE": DONE, "FAILED": FAILED}


class Fingerprints:
    """Hashes of inputs, as `fingerprint_of` makes them, by position."""

    def __init__(self, index: PositionIndex) -> None:
        self._index = index

    def __contains__(self, position: int) -> bool:
        return self._index.fingerprint(position) != 0

    def differs(self, position: int, fingerprint: str) -> bool:
        """Whether another input is known at ``position``."""
        known = self._index.fingerprint(position)
        return known != 0 and known != int(fingerprint, 16)

    def note(self, position: int, fingerprint: str) -> None:
        """Take ``fingerprint`` for that of the input at ``position``."""
        self._index.note_fingerprint(position, int(fingerprint, 16))

    def __getitem__(self, position: int) -> str:
        if known := self._index.fingerprint(position):
            return f"{known:016x}"
        raise KeyError(position)


class _ByState(Mapping[int, T], Generic[T]):
    """The positions in one state, with what a journal has of them, read when it is asked for."""

    def __init__(self, index: PositionIndex, state: int, value: Callable[[int, int], T]) -> None:
        self._index = index
        self._state = state
        self._value = value

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and self._index.state(position) == self._state

    def __getitem__(self, position: int) -> T:
        if self._index.state(position) != self._state:
            raise KeyError(position)
        return self._value(position, self._index.offset(position))

    def __iter__(self) -> Iterator[int]:
        return self._index.positions(self._state)

    def __len__(self) -> int:
        return self._index.count(self._state)


@dataclass(slots=True)
class _Intent:
    """A chunk while its outcomes are read: how many of its positions have none, and its job."""

    key: str
    left: int
    job_id: str | None = None


class JournalState:
    """The state that a journal told when it was opened, by position.

    Attributes:
        pins: Hashes of what the call works with, by what it is and then by part.
        fingerprints: Of the inputs; what is new is added to them.
        done: References to results.
        failed: The errors of what failed for good.
        chunk_of: The chunk in which a position was sent last, while it has no outcome.
        open_chunks: Chunks with positions left, in the order of their intents.
        baseline: What the service had before the first chunk.
        total: Positions of a call that had come to its end.
        end: Where its records end; what follows that is a torn one.
    """

    def __init__(self, path: Path, file: io.RawIOBase | io.BytesIO) -> None:
        self._path = path
        self._file = file
        self._index = PositionIndex()
        self._intents: dict[int, _Intent] = {}
        self._offset_of: dict[str, int] = {}
        self._open: dict[int, UnfinishedChunk] = {}
        self._kept: OrderedDict[int, Mapping[int, Any]] = OrderedDict()
        self._count_kept = 0
        self.pins: dict[str, dict[str, Any]] = {}
        self.fingerprints = Fingerprints(self._index)
        self.done: Mapping[int, Any] = _ByState(self._index, DONE, self._noted)
        self.failed: Mapping[int, ItemError] = _ByState(self._index, FAILED, self._noted)
        self.chunk_of: Mapping[int, UnfinishedChunk] = _ByState(self._index, SENT, self._chunk)
        self.baseline: Mapping[str, Any] | None = None
        self.total: int | None = None
        self.end = 0

    @classmethod
    def read(
        cls,
        path: Path,
        file: io.RawIOBase | io.BytesIO,
        check_header: Callable[[Record], None] = lambda header: None,
    ) -> Self:
        """The state that the records in ``file`` tell, which stays in use.

        Args:
            path: For errors.
            file: Without a buffer of its own, as others write to its end.
            check_header: Raises when the journal is of another call.

        Raises:
            JournalError: Something that is no torn record at the end cannot be read, or the
                records are none of this version.
        """
        state = cls(path, file)
        buffered = io.BufferedReader(file, READ_AT_ONCE)
        try:
            for offset, end, record in read_records(path, buffered):
                if offset == 0:
                    check_header(record)
                state._apply(offset, record)
                state.end = end
            state._open = {at: state._unfinished(at, one) for at, one in state._intents.items()}
        except (JournalError, OSError):
            raise
        except Exception as error:
            # A record may be whole and hold anything.
            text = f"the journal {path} is none of this version: {error!r:.200}"
            raise JournalError(text, path=path) from None
        finally:
            buffered.detach()
        state._intents.clear()
        state._offset_of.clear()
        return state

    @property
    def open_chunks(self) -> list[UnfinishedChunk]:
        """Chunks with positions left, in the order of their intents."""
        return list(self._open.values())

    def known_from(self, first: int) -> list[int]:
        """The positions from ``first`` on that have an outcome or were sent, in order."""
        return self._index.known_from(first)

    def _apply(self, offset: int, record: Record) -> None:
        match record["kind"]:
            case "INTENT":
                self._intend(offset, record)
            case "TASK":
                self._accept(_text(record["key"]), _text(record["job"]))
            case "DONE" | "FAILED":
                self._move(_positions(_values_of(record)), _STATES[record["kind"]], offset)
            case "RELEASED":
                self._move(_positions(record["positions"]), NOTHING, offset)
            case "HEADER" | "UNKNOWN":
                # The one was looked at before; the other's positions stay as they are.
                pass
            case _:
                self._apply_to_whole(record)

    def _apply_to_whole(self, record: Record) -> None:
        """Take what a record says of the call, or of its inputs."""
        match record["kind"]:
            case "PINS":
                self.pins |= {str(name): {**parts} for name, parts in record["pins"].items()}
            case "INPUTS":
                for position, fingerprint in record["inputs"].items():
                    self.fingerprints.note(int(position), fingerprint)
            case "BASELINE":
                self.baseline = {**record["rows"]}
            case "CLOSED":
                (self.total,) = _positions([record["total"]])
            case kind:
                raise ValueError(f"no kind of record: {kind!r}")

    def _intend(self, offset: int, record: Record) -> None:
        chunk = _chunk_of(record)
        positions = set(chunk.positions)
        self._move(positions, SENT, offset)
        self._intents[offset] = _Intent(chunk.key, len(positions))
        self._offset_of[chunk.key] = offset

    def _accept(self, key: str, job_id: str) -> None:
        # One whose positions all have outcomes needs no job any more.
        if intent := self._intents.get(self._offset_of.get(key, -1)):
            intent.job_id = job_id

    def _move(self, positions: Iterable[int], state: int, offset: int) -> None:
        for at in self._index.move(positions, state, offset):
            intent = self._intents[at]
            intent.left -= 1
            if intent.left == 0:
                del self._intents[at]
                if self._offset_of[intent.key] == at:
                    del self._offset_of[intent.key]

    def _unfinished(self, offset: int, intent: _Intent) -> UnfinishedChunk:
        chunk = _chunk_of(self._record(offset))
        chunk.job_id = intent.job_id
        chunk.left = {p for p in chunk.positions if self._is_sent_by(p, offset)}
        return chunk

    def _is_sent_by(self, position: int, offset: int) -> bool:
        return self._index.state(position) == SENT and self._index.offset(position) == offset

    def _chunk(self, position: int, offset: int) -> UnfinishedChunk:
        return self._open[offset]

    def _noted(self, position: int, offset: int) -> Any:
        """The value or the error of ``position`` in the record that begins at ``offset``."""
        values = self._kept.pop(offset, None)
        if values is None:
            values = _values_of(self._record(offset))
            self._count_kept += len(values)
        self._kept[offset] = values
        while self._count_kept > MOST_KEPT and len(self._kept) > 1:
            self._count_kept -= len(self._kept.popitem(last=False)[1])
        if position not in values:
            raise self._changed(offset)
        return values[position]

    def _record(self, offset: int) -> Record:
        try:
            record = record_at(self._file, offset)
        except (OSError, ValueError):
            record = None
        if record is None:
            raise self._changed(offset)
        return record

    def _changed(self, offset: int) -> JournalError:
        return JournalError(
            f"the journal {self._path} was changed at byte {offset} while it was in use",
            path=self._path,
            offset=offset,
        )


def _chunk_of(record: Record) -> UnfinishedChunk:
    """The chunk of an intent."""
    positions = _positions(record["positions"])
    return UnfinishedChunk(_text(record["key"]), positions, {**record["facts"]})


def _values_of(record: Record) -> dict[int, Any]:
    """The values or errors of a record of outcomes, by position."""
    if record["kind"] == "FAILED":
        errors = map(ItemError.from_dict, record["errors"])
        return {error.position: error for error in errors}
    return {int(position): value for position, value in record["rows"].items()}


def _positions(values: Iterable[Any]) -> tuple[int, ...]:
    positions = tuple(values)
    if not all(type(position) is int and position >= 0 for position in positions):
        raise ValueError(f"no positions: {positions!r:.80}")
    return positions


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r:.80}")
    return value
