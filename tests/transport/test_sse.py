"""Events from bytes: the specification's examples, every line end, every split, the caps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elluminate_async.errors import ProtocolError
from elluminate_async.transport import sse
from elluminate_async.transport.sse import Decoder, Event
from tests.matrix import Fired


def decode(*parts: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for part in parts for event in decoder.feed(part)]


def data(*parts: bytes) -> list[str]:
    return [event.data for event in decode(*parts)]


@pytest.mark.row(35)
def test_two_data_lines_are_one_event(fired: Fired) -> None:
    """WHATWG's stock example: YHOO, +2 and 10 come as one event of three lines."""
    fired()
    assert data(b"data: YHOO\ndata: +2\ndata: 10\n\n") == ["YHOO\n+2\n10"]


def test_comment_ids_and_leading_spaces() -> None:
    """WHATWG's second example: three events, ids kept and reset, only one space stripped."""
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n"

    assert decode(stream + b"\n") == [
        Event("first event", id="1"),
        Event("second event", id=""),
        Event(" third", id=""),
    ]


def test_an_unfinished_event_is_discarded() -> None:
    """WHATWG's second example as printed: without the last blank line, two events."""
    assert len(decode(b"data: first\n\ndata: second\n\ndata: third\n")) == 2


@pytest.mark.row(35)
def test_empty_data_is_an_event(fired: Fired) -> None:
    """WHATWG's third example: ``data`` alone gives an empty event, twice a line end."""
    fired()
    assert data(b"data\n\ndata\ndata\n\ndata:") == ["", "\n"]


@pytest.mark.row(35)
def test_a_space_after_the_colon_means_nothing(fired: Fired) -> None:
    """WHATWG's fourth example: two identical events."""
    fired()
    assert data(b"data:test\n\ndata: test\n\n") == ["test", "test"]


def test_event_names() -> None:
    """A name holds for its event only; an empty name is ``message``."""
    stream = b"event: status\ndata: 1\n\ndata: 2\n\nevent:\ndata: 3\n\n"

    assert [event.event for event in decode(stream)] == ["status", "message", "message"]


@pytest.mark.row(35)
def test_an_event_name_without_data_is_not_dispatched(fired: Fired) -> None:
    """No data, no event; and the name does not spill over into the next one."""
    fired()
    assert decode(b"event: ping\n\ndata: x\n\n") == [Event("x")]


@pytest.mark.row(33)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(end: bytes, fired: Fired) -> None:
    """LF, CRLF and CR end lines alike."""
    fired()
    assert data(end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])) == ["a\nb", "c"]


@pytest.mark.row(33)
def test_mixed_line_ends(fired: Fired) -> None:
    """All three kinds in one stream."""
    fired()
    assert data(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r") == ["a\nb\nc", "d"]


@pytest.mark.row(33)
def test_a_crlf_over_the_border_of_two_reads(fired: Fired) -> None:
    """CR at the end of one read and LF at the start of the next are one line end."""
    fired()
    assert data(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n") == ["a\nb"]


def test_a_cr_at_the_end_of_a_read_ends_the_event_at_once() -> None:
    """An event is not kept back for the LF that may never come."""
    assert data(b"data: a\r\r") == ["a"]


@pytest.mark.row(34)
@pytest.mark.parametrize(
    "parts",
    [
        (b"\xef\xbb\xbfdata: a\n\n",),
        (b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"),
        (b"", b"\xef\xbb", b"\xbfdata: a\n\n"),
    ],
)
def test_a_byte_order_mark_at_the_start_is_skipped(parts: tuple[bytes, ...], fired: Fired) -> None:
    """Whole or split over reads."""
    fired()
    assert data(*parts) == ["a"]


@pytest.mark.row(34)
def test_a_byte_order_mark_elsewhere_is_text(fired: Fired) -> None:
    """In the middle it makes another field name, or stays in the value; a second is text too."""
    fired()
    assert data(b"data: \xef\xbb\xbfa\n\n") == ["\ufeffa"]
    assert data(b"data: a\n\xef\xbb\xbfdata: b\n\n") == ["a"]
    assert data(b"\xef\xbb\xbf\xef\xbb\xbfdata: b\n\n") == []


def test_what_only_begins_like_a_byte_order_mark_is_text() -> None:
    """Bytes held back while they might be a mark are not lost."""
    assert data(b"\xef", b"data: x\n", b"data: a\n\n") == ["a"]


@pytest.mark.row(36)
@pytest.mark.parametrize("comment", [b":\n\n", b": ping\n\n", b":data: x\n\n", b"\n\n\n"])
def test_comments_and_blank_lines_are_no_events(comment: bytes, fired: Fired) -> None:
    """A heartbeat keeps the connection alive and dispatches nothing."""
    fired()
    assert decode(comment * 3) == []


@pytest.mark.row(41)
def test_an_id_with_nul_is_ignored(fired: Fired) -> None:
    """The id before it stays in force."""
    fired()
    assert [event.id for event in decode(b"id: 7\ndata\n\nid: a\0b\ndata\n\n")] == ["7", "7"]


@pytest.mark.row(41)
def test_an_id_lasts(fired: Fired) -> None:
    """An id holds until another comes, or an empty one clears it."""
    fired()
    ids = [event.id for event in decode(b"id: 1\ndata\n\ndata\n\nid:\ndata\n\n")]

    assert ids == ["1", "1", ""]


def test_the_id_to_go_on_from() -> None:
    """That of the last whole event, one without data too; an unfinished event sets none."""
    decoder = Decoder()
    decoder.feed(b"id: 1\ndata\n\nid: 2\n\nid: 3\ndata\n")

    assert decoder.last_id == "2"


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1500", 1500),
        (b"0", 0),
        (b"1000000000000", 10**12),
        (b"1e12", None),
        (b"-1", None),
        (b"1.5", None),
        (b"abc", None),
        (b"", None),
        ("\u0663".encode(), None),
        (b"9" * 5000, None),
    ],
)
def test_retry(value: bytes, expected: int | None, fired: Fired) -> None:
    """Only ASCII digits set the time, and not absurdly many."""
    fired()
    decoder = Decoder()
    decoder.feed(b"retry: " + value + b"\n")

    assert decoder.retry == expected


@pytest.mark.row(38)
def test_a_character_split_over_reads(fired: Fired) -> None:
    """Each byte of a four-byte character in a read of its own."""
    fired()
    assert data(*(bytes([byte]) for byte in "data: 🐘\n\n".encode())) == ["🐘"]


@pytest.mark.row(38)
def test_invalid_utf8_is_replaced(fired: Fired) -> None:
    """Bytes that are not UTF-8 become U+FFFD; the event is kept."""
    fired()
    assert data(b"data: a\xff\xc3\n\n") == ["a\ufffd\ufffd"]


@pytest.mark.row(37)
@pytest.mark.parametrize(
    "mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
)
def test_what_else_ends_lines_elsewhere_does_not_here(mark: str, fired: Fired) -> None:
    """`str.splitlines` would split these; the specification does not."""
    fired()
    assert data(f"data: a{mark}b\n\n".encode()) == [f"a{mark}b"]


@pytest.mark.row(35)
def test_an_unknown_field_is_ignored(fired: Fired) -> None:
    """Field names are exact: case and spaces matter."""
    fired()
    assert data(b"Data: a\n data: b\ndata : c\nother: d\ndata: e\n\n") == ["e"]


def test_a_line_over_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without end is refused before it fills the memory."""
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 100)
    decoder = Decoder()

    decoder.feed(b"x" * 100)
    with pytest.raises(ProtocolError, match="over 100 bytes"):
        decoder.feed(b"x")


def test_an_event_over_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event without end, of short lines, is refused too."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ProtocolError, match="over 100 bytes"):
        decode(*[b"data: 12345\n"] * 20)


def test_the_cap_counts_one_event_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many events together may be larger than the cap of one."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)

    assert len(data(*[b"data: 1234567890\n\n"] * 50)) == 50


def test_the_caps_in_force() -> None:
    """8 MiB for a line and for an event, so that an answer's largest page fits."""
    assert sse.MAX_LINE_BYTES == sse.MAX_EVENT_BYTES == 8 << 20


def reference(stream: bytes) -> list[Event]:
    """The specification's algorithm on the whole text, without a thought for speed."""
    text = stream.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    *lines, _unfinished = re.split("\r\n|\n|\r", text)
    events: list[Event] = []
    lines_of_data: list[str] = []
    name = last_id = ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if line == "":
            if lines_of_data:
                events.append(Event("\n".join(lines_of_data), name or "message", last_id))
            lines_of_data, name = [], ""
        elif field == "data":
            lines_of_data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
    return events


def split(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    return [stream[a:b] for a, b in pairwise(borders)]


PIECES = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b" ",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xc3",
        "é".encode(),
        "\u2028".encode(),
        b"\0",
        b"a",
        b"1",
    ]
)


@pytest.mark.row(33)
# One count for all examples is what the fixture is for.
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stream=st.lists(PIECES, max_size=40).map(b"".join) | st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 80), max_size=8),
)
@example(stream=b"data: a\r\n\r\n", cuts=[8, 10])
@example(stream=b"\xef\xbb\xbf\rdata\n\n", cuts=[1, 2, 4])
def test_any_split_gives_the_same_events(stream: bytes, cuts: list[int], fired: Fired) -> None:
    """However the bytes arrive, the events are those of the specification."""
    fired()
    # A bare CR at the very end is a line end already: the reference splits there as well.
    expected = reference(stream)

    assert decode(*split(stream, cuts)) == expected
    assert decode(*(bytes([byte]) for byte in stream)) == expected


def test_a_million_bytes_in_small_reads() -> None:
    """Reading is linear: a line is not searched again from its start at each read."""
    decoder = Decoder()
    line = b"data: " + b"x" * (1 << 20) + b"\n\n"

    events = [
        event for at in range(0, len(line), 512) for event in decoder.feed(line[at : at + 512])
    ]

    assert [len(event.data) for event in events] == [1 << 20]
