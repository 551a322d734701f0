"""Event streams decoded from bytes, without I/O.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream". Any split of the bytes
gives the same events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from elluminate_async.errors import ProtocolError

MAX_LINE_BYTES = 8 << 20
MAX_EVENT_BYTES = 8 << 20

_CR = ord("\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event. Its `repr` shows nothing of it: a frame's locals are reported.

    Attributes:
        data: The data lines, joined by LF.
        event: The event type; ``message`` when the stream named none.
        id: The last id the stream set, empty when it set none.
    """

    data: str = field(repr=False)
    event: str = field(default="message", repr=False)
    id: str = field(default="", repr=False)


def _line_end(buffer: bytearray, start: int) -> int:
    """Where the first line end from ``start`` on begins; -1 for nowhere."""
    # Two searches for a byte: most lines are long, and a pattern looks at each byte by itself.
    lf = buffer.find(b"\n", start)
    cr = buffer.find(b"\r", start, lf if lf >= 0 else len(buffer))
    return cr if cr >= 0 else lf


class Decoder:
    """Bytes in, events out. An event that the stream ends within is discarded.

    Attributes:
        retry: Milliseconds the server asked to wait before a reconnect; None when it
            did not.
        last_id: The id to name at a reconnect; empty when there is none.
    """

    # No `__dict__`, which is shown where the locals of frames are.
    __slots__ = (
        "_buffer", "_data", "_data_bytes", "_event", "_id", "_skip_lf", "_started",
        "last_id", "retry",
    )  # fmt: skip

    def __init__(self) -> None:
        self.retry: int | None = None
        self.last_id = ""
        self._buffer = bytearray()
        self._started = False
        self._skip_lf = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes.

        Raises:
            ProtocolError: A line or an event is longer than the cap.
        """
        if self._skip_lf and data:
            # The CR that ended the last line was the first half of a CRLF.
            data = data.removeprefix(b"\n")
            self._skip_lf = False
        searched = len(self._buffer)
        self._buffer += data
        if not self._started:
            if len(self._buffer) < len(_BOM) and _BOM.startswith(bytes(self._buffer)):
                return []
            self._started = True
            searched = 0
            if self._buffer.startswith(_BOM):
                del self._buffer[: len(_BOM)]
        return self._drain(searched)

    def _drain(self, searched: int) -> list[Event]:
        events: list[Event] = []
        buffer, start = self._buffer, 0
        while (end := _line_end(buffer, max(start, searched))) >= 0:
            line = bytes(buffer[start:end])
            start = end + 1
            if buffer[end] == _CR:
                self._skip_lf = start == len(buffer)
                start += buffer.startswith(b"\n", start)
            if event := self._line(line):
                events.append(event)
        del buffer[:start]
        if len(self._buffer) > MAX_LINE_BYTES:
            raise ProtocolError(f"an event stream's line is over {MAX_LINE_BYTES} bytes", sent=True)
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(b":")
        if not name and colon:
            return None  # a comment
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._data_bytes += len(value) + 1
                if self._data_bytes > MAX_EVENT_BYTES:
                    raise ProtocolError(f"an event is over {MAX_EVENT_BYTES} bytes", sent=True)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"retry" if value.isdigit() and len(value) < 16:
                self.retry = int(value)
            case _:
                pass
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._event
        self._data, self._data_bytes, self._event = [], 0, ""
        self.last_id = self._id
        if not data:
            return None
        # A line is whole when it is decoded, so a character cannot be split here.
        text = b"\n".join(data).decode(errors="replace")
        return Event(text, name or "message", self._id)
