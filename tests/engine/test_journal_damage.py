"""Damage to a journal's file: each flipped bit, each cut, and records that hold nonsense."""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from elluminate_async.engine.journal import Journal
from elluminate_async.engine.journal_state import JournalState
from elluminate_async.engine.records import FORMAT, decode_record
from elluminate_async.errors import GenerationError, JournalError
from tests.engine.test_journal import HEADER
from tests.matrix import Fired

HEAD = {"kind": "HEADER", "format": FORMAT, **HEADER.to_dict()}


async def whole_journal(path: Path, *, ends_with: str) -> bytes:
    """A journal of every kind of record, the last one of the kind that is asked for."""
    journal = Journal.open(path, HEADER)
    journal.pin({"prompt_template": {"id": 3, "content": "ab12"}})
    journal.inputs({0: "aa", 1: "bb", 2: "cc", 3: "dd"})
    journal.baseline({"ids": [[1, 9]]})
    await journal.intent("k1", [0, 1, 2], {"keys": [[5, 1], [6, 1], [7, 1]]})
    journal.task("k1", "job-1")
    # Texts with what a flipped bit makes a zero or a line end of.
    error = GenerationError("no answer @ all * J", position=1, operation="generate")
    if ends_with == "FAILED":
        journal.outcomes(done={0: [11, "ee"]}, failed=[error])
    else:
        journal.outcomes(done={0: [11, "ee"]}, failed=[error], unknown=[2])
        await journal.intent("k2", [3], {"keys": [[8, 1]], "body": "0f" * 16, "keyed": True})
    await journal.close()
    return path.read_bytes()  # noqa: ASYNC240


def read(path: Path, data: bytes) -> tuple[JournalState, int]:
    """What a journal of these bytes tells, and how many of them count."""
    state = JournalState.read(path, io.BytesIO(data))
    return state, state.end


@pytest.mark.row(87)
@pytest.mark.parametrize("last", ["INTENT", "FAILED"])
async def test_no_flipped_bit_is_taken_for_a_torn_record(
    tmp_path: Path, last: str, fired: Fired
) -> None:
    """Each bit of a whole journal: refused, so that no intent is dropped in silence."""
    path = tmp_path / "run"
    whole = await whole_journal(path, ends_with=last)
    accepted: list[int] = []
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read(path, bytes(damaged))
        except JournalError:
            fired()
        else:
            accepted.append(bit)

    assert accepted == []


@pytest.mark.row(87)
async def test_a_journal_cut_anywhere_is_what_it_was_before(tmp_path: Path, fired: Fired) -> None:
    """Each length from nothing to the whole: what is left are the records that are whole."""
    path = tmp_path / "run"
    whole = await whole_journal(path, ends_with="INTENT")
    for kept in range(len(whole)):
        fired()

        _, end = read(path, whole[:kept])

        assert end == whole.rfind(b"\n", 0, kept) + 1


@pytest.mark.row(87)
async def test_sectors_that_never_reached_the_disk_are_a_torn_record(
    tmp_path: Path, fired: Fired
) -> None:
    """Zeros for whole sectors of the last record are cut off; a lone zero is damage."""
    path = tmp_path / "run"
    before = await whole_journal(path, ends_with="INTENT")
    journal = Journal.open(path, HEADER)
    journal.outcomes(done={}, failed=[GenerationError("x" * 2000, position=2, operation="rate")])
    os.close(journal._descriptor)
    data = path.read_bytes()
    sector = (len(before) // 512 + 1) * 512
    for first, last in ((len(before), sector), (sector, sector + 512), (sector, len(data))):
        holed = data[:first] + bytes(last - first) + data[last:]
        fired()
        assert read(path, holed)[1] == len(before)

    for first, last in ((len(before) + 8, sector), (sector, sector + 1), (sector + 7, sector + 8)):
        holed = data[:first] + bytes(last - first) + data[last:]
        with pytest.raises(JournalError, match="damaged"):
            read(path, holed)


def line_of(text: bytes) -> bytes:
    return b"%08x %08x %b\n" % (len(text), zlib.crc32(text), text)


def record(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


INTENT: dict[str, Any] = {"kind": "INTENT", "key": "k", "positions": [0], "facts": {}}
NONSENSE = {
    "too deep": b"[" * 100_000,
    "deep object": b'{"kind":' * 50_000,
    "no JSON": b'{"kind":',
    "a word": b"nothing",
    "bad UTF-8": b'{"kind":"\xff"}',
    "huge number": b'{"kind":"CLOSED","total":' + b"9" * 5000 + b"}",
    "a list": b"[1,2]",
    "a number": b"7",
    "null": b"null",
    "no kind": b"{}",
    "kind of a list": record(kind=[]),
    "inputs of a list": record(kind="INPUTS", inputs=[1]),
    "a position that is none": record(kind="DONE", rows={"x": 1}),
    "a negative position": record(kind="DONE", rows={"-1": 1}),
    "rows of a number": record(kind="DONE", rows=1),
    "no key": record(kind="INTENT", positions=[0], facts={}),
    "key of a list": record(**{**INTENT, "key": []}),
    "positions of a text": record(**{**INTENT, "positions": "01"}),
    "positions of halves": record(**{**INTENT, "positions": [0.5]}),
    "positions of a number": record(**{**INTENT, "positions": 7}),
    "facts of a text": record(**{**INTENT, "facts": "x"}),
    "no facts": record(kind="INTENT", key="k", positions=[0]),
    "a job of a number": record(kind="TASK", key="k", job=1),
    "a job of no key": record(kind="TASK", job="j"),
    "inputs of no hash": record(kind="INPUTS", inputs={"0": "none"}),
    "a hash that is too long": record(kind="INPUTS", inputs={"0": "f" * 17}),
    "a hash of a number": record(kind="INPUTS", inputs={"0": 7}),
    "errors of a number": record(kind="FAILED", errors=7),
    "an error of a list": record(kind="FAILED", errors=[[]]),
    "an error of nothing": record(kind="FAILED", errors=[{}]),
    "released of a text": record(kind="RELEASED", positions="x"),
    "baseline of a list": record(kind="BASELINE", rows=[1]),
    "pins of a list": record(kind="PINS", pins=[1]),
    "pins of texts": record(kind="PINS", pins={"a": "b"}),
    "a total of a text": record(kind="CLOSED", total="4"),
}


@pytest.mark.row(87)
@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_a_record_that_holds_nonsense_is_refused(tmp_path: Path, text: bytes, fired: Fired) -> None:
    """Its checksum is right: a `JournalError` all the same, and nothing else escapes."""
    path = tmp_path / "run"
    before = line_of(json.dumps(HEAD).encode()) + line_of(text)
    path.write_bytes(before)
    fired()

    with pytest.raises(JournalError):
        Journal.open(path, HEADER)

    assert path.read_bytes() == before


@pytest.mark.row(91)
def test_an_older_format_is_refused_with_what_to_do(tmp_path: Path, fired: Fired) -> None:
    """It does not hold what tells a call's own rows from others."""
    path = tmp_path / "run"
    old = {**HEAD, "format": FORMAT - 1}
    path.write_bytes(line_of(json.dumps(old).encode()))
    fired()

    with pytest.raises(JournalError, match=f"format {FORMAT - 1}.*remove the journal"):
        Journal.open(path, HEADER)


def test_a_line_that_is_not_whole_is_no_record() -> None:
    """Whatever its text would be."""
    assert decode_record(b"00000002 00000000 {}\n") is None
