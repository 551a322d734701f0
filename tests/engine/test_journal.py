"""The journal's file: what a crash may leave of it, and what it must never be read as."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.engine.journal import Journal
from elluminate_async.engine.journal_state import JournalState
from elluminate_async.engine.records import (
    FORMAT,
    Header,
    decode_record,
    encode_record,
    read_records,
)
from elluminate_async.errors import GenerationError, ItemError, JournalError
from tests.matrix import Fired

HEADER = Header("http://127.0.0.1:1", 7, "generate", {"experiment": 3}, 4)


async def written(path: Path) -> list[bytes]:
    """The records of a journal with one of each kind."""
    journal = Journal.open(path, HEADER)
    journal.inputs({0: "aa", 1: "bb", 2: "cc", 3: "dd"})
    journal.baseline({"ids": [[1, 9]]})
    await journal.intent("k1", [0, 1, 2], {"keys": [[5, 1], [6, 1], [7, 1]]})
    journal.task("k1", "job-1")
    error = GenerationError("no “answer”\n", position=1, operation="generate", response_id=8)
    journal.outcomes(done={0: 11}, failed=[error], unknown=[2])
    await journal.intent("k2", [3], {"keys": [[8, 1]]})
    journal.outcomes(done={}, released=[3])
    await journal.intent("k3", [3], {"keys": [[8, 2]]})
    await journal.close()
    return (await anyio.Path(path).read_bytes()).splitlines(keepends=True)


def state_of(path: Path) -> JournalState:
    os.close(Journal.open(path, HEADER)._descriptor)
    return JournalState.read(path, io.BytesIO(path.read_bytes()))


async def test_a_journal_tells_what_was_noted(tmp_path: Path) -> None:
    """Per position: its input, its last outcome, or the chunk in which it was sent last."""
    path = tmp_path / "run"
    await written(path)

    state = state_of(path)

    assert [state.fingerprints[p] for p in range(4)] == [f"{n:016x}" for n in (170, 187, 204, 221)]
    assert 4 not in state.fingerprints
    assert state.baseline == {"ids": [[1, 9]]}
    assert state.done == {0: 11}
    assert state.failed[1].text == "no “answer”\n"
    assert isinstance(state.failed[1], GenerationError)
    chunks = [(chunk.key, chunk.job_id, chunk.left) for chunk in state.open_chunks]
    assert chunks == [("k1", "job-1", {2}), ("k3", None, {3})]
    assert state.chunk_of[3].facts == {"keys": [[8, 2]]}


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """A journal is made with the mode 0600."""
    await written(tmp_path / "run")

    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o600


@pytest.mark.row(87)
async def test_a_torn_last_record_is_cut_off(tmp_path: Path, fired: Fired) -> None:
    """However much of it was written: the journal holds what was before, and goes on."""
    path = tmp_path / "run"
    *before, last = await written(path)
    whole = b"".join(before)
    for kept in range(len(last)):
        path.write_bytes(whole + last[:kept])

        journal = Journal.open(path, HEADER)
        assert [(c.key, c.left) for c in journal.state.open_chunks] == [("k1", {2})]
        journal.outcomes(done={3: 44})
        await journal.close()
        fired()

        assert state_of(path).done == {0: 11, 3: 44}


@pytest.mark.row(87)
@pytest.mark.parametrize("zeros", [1, 17, 4096])
async def test_zeros_at_the_end_are_cut_off(tmp_path: Path, zeros: int, fired: Fired) -> None:
    """A file that grew before its content came to the disk ends in zeros."""
    path = tmp_path / "run"
    *before, last = await written(path)
    for kept in (0, 5, 18, len(last) - 1):
        path.write_bytes(b"".join(before) + last[:kept] + b"\0" * zeros)
        fired()

        assert state_of(path).done == {0: 11}
        assert path.read_bytes() == b"".join(before)


@pytest.mark.row(87)
async def test_a_flipped_bit_is_refused_with_its_offset(tmp_path: Path, fired: Fired) -> None:
    """Of any record but the last: the error has the record's offset, and the file is untouched."""
    path = tmp_path / "run"
    records = await written(path)
    whole = b"".join(records)
    offset = 0
    for record in records[:-1]:
        for byte in range(offset, offset + len(record)):
            damaged = bytearray(whole)
            damaged[byte] ^= 1 << byte % 8
            path.write_bytes(damaged)
            fired()

            with pytest.raises(JournalError, match=f"damaged at byte {offset}") as caught:
                Journal.open(path, HEADER)

            assert (caught.value.path, caught.value.offset) == (path, offset)
            assert path.read_bytes() == damaged
        offset += len(record)


async def test_a_flipped_bit_in_the_last_record_is_no_torn_one(tmp_path: Path) -> None:
    """A whole last record that was damaged later may have been sent: it is refused."""
    path = tmp_path / "run"
    *before, last = await written(path)
    for byte in range(len(last)):
        damaged = bytearray(last)
        damaged[byte] ^= 1
        path.write_bytes(b"".join(before) + damaged)

        with pytest.raises(JournalError, match="damaged"):
            Journal.open(path, HEADER)


TORN = [b"0000", b'0000008c 5497b765 {"kind":"HEA', b"0000008c\0\0\0\0", b"\0" * 512]
FOREIGN = [
    b"name,value\n",
    b"notes",
    b"{}\n",
    b"\n",
    b"12345",
    b"\1\0\0\0binary",
    b"00000010 deadbeef notes",
]


@pytest.mark.parametrize("content", [*FOREIGN, *TORN])
def test_another_file_is_never_taken_for_a_journal(tmp_path: Path, content: bytes) -> None:
    """A file of somebody's is refused and kept; the beginning of a header is a torn one."""
    path = tmp_path / "run"
    path.write_bytes(content)
    if content.startswith((b"0000008c", b"\0")) or content == b"0000":
        assert state_of(path).done == {}
        return

    with pytest.raises(JournalError, match="no journal"):
        Journal.open(path, HEADER)

    assert path.read_bytes() == content


@pytest.mark.row(91)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"origin": "http://127.0.0.1:2"}, "origin was 'http://127.0.0.1:1' and is"),
        ({"project": 8}, "project was 7 and is 8"),
        ({"operation": "rate"}, "operation was 'generate' and is 'rate'"),
        ({"arguments": {"experiment": 4}}, "experiment was 3 and is 4"),
        ({"total": 5}, "total was 4 and is 5"),
        ({"total": None}, "an iterable, whose length is not known"),
    ],
)
async def test_the_journal_of_another_call_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str, fired: Fired
) -> None:
    """The error names what differs; the file is untouched."""
    path = tmp_path / "run"
    before = b"".join(await written(path))
    fired()

    with pytest.raises(JournalError, match=said):
        Journal.open(path, replace(HEADER, **change))

    assert path.read_bytes() == before


@pytest.mark.row(91)
def test_a_newer_format_is_refused(tmp_path: Path, fired: Fired) -> None:
    """What a later version wrote is not guessed at."""
    path = tmp_path / "run"
    path.write_bytes(encode_record({"kind": "HEADER", "format": FORMAT + 1}))
    fired()

    with pytest.raises(JournalError, match=f"format {FORMAT + 1}.*update"):
        Journal.open(path, HEADER)


@pytest.mark.row(90)
def test_a_journal_has_one_user_at_a_time(tmp_path: Path, fired: Fired) -> None:
    """The second is refused, in the same process and in another, until the first is done."""
    path = tmp_path / "run"
    journal = Journal.open(path, HEADER)
    program = (
        "import sys; from pathlib import Path\n"
        "from elluminate_async.engine.journal import Journal\n"
        "from elluminate_async.engine.records import Header\n"
        "Journal.open(Path(sys.argv[1]), Header('http://127.0.0.1:1', 7, 'generate',"
        " {'experiment': 3}, 4))\n"
    )

    with pytest.raises(JournalError, match="in use"):
        Journal.open(path, HEADER)
    other = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    fired(times=2)
    os.close(journal._descriptor)

    assert "JournalError: the journal" in other.stderr
    assert "in use by another call" in other.stderr
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


@pytest.mark.row(88)
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, fired: Fired) -> None:
    """A missing folder, a folder, a device: a typed error with the reason, and what to do."""
    (tmp_path / "file").touch()
    cases = {
        tmp_path / "missing" / "run": "No such file.*; make the folder that it is to be in first",
        tmp_path / "file" / "run": "Not a directory; .* name another path",
        tmp_path / ("x" * 300): "too long; name a shorter path",
        tmp_path: "directory; name a file in that folder",
        Path(os.devnull): "no regular file: name another path",
    }
    for path, reason in cases.items():
        fired()
        with pytest.raises(JournalError, match=reason):
            Journal.open(path, HEADER)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "name a path that this process may write"),
        (errno.EROFS, "name a path that this process may write"),
        (errno.ENOSPC, "make room, and make the same call again"),
    ],
)
def test_a_refusal_of_the_system_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    """Also one that a test can only have the system say, as it runs as whoever it runs as."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(JournalError, match=hint):
            Journal.open(tmp_path / "run", HEADER)


async def test_a_writing_that_fails_breaks_the_journal(tmp_path: Path) -> None:
    """After it nothing is noted any more, so that nothing is sent any more."""
    journal = Journal.open(tmp_path / "run", HEADER)
    os.close(journal._descriptor)
    journal._descriptor = -1

    for _ in range(2):
        with pytest.raises(JournalError, match="cannot be used"):
            await journal.intent("k1", [0], {})


async def test_a_record_that_fits_in_part_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the disk has room for half of it: what stands in the file can be read."""
    journal = Journal.open(tmp_path / "run", HEADER)
    await journal.intent("k1", [0], {})
    size = (tmp_path / "run").stat().st_size
    write = os.write

    def half(file: int, data: bytes) -> int:
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(JournalError, match="no room left"):
            await journal.intent("k2", [1], {})
    await journal.close()
    await journal.close()

    assert (tmp_path / "run").stat().st_size == size
    again = Journal.open(tmp_path / "run", HEADER)
    assert [chunk.key for chunk in again.state.open_chunks] == ["k1"]
    await again.close()


@pytest.mark.row(88)
async def test_a_failed_sync_fails_all_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fired: Fired
) -> None:
    """Linux reports a lost page once: a second `fsync` succeeds, and proves nothing."""
    journal = Journal.open(tmp_path / "run", HEADER)
    calls = 0
    facts: dict[str, Any] = {}

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            fired()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    refused: list[str] = []

    async def intend(key: str) -> None:
        with pytest.raises(JournalError, match="Input/output error"):
            await journal.intent(key, [0], facts)
        refused.append(key)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intend, "k1")
        tasks.start_soon(intend, "k2")
    await journal.close()

    assert sorted(refused) == ["k1", "k2"]
    assert calls == 1


async def test_one_sync_serves_many_intents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intents of chunks that are sent at the same time share the wait for the disk."""
    syncs: list[int] = []
    facts: dict[str, Any] = {}
    real = os.fsync

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        real(descriptor)

    journal = Journal.open(tmp_path / "run", HEADER)
    monkeypatch.setattr(os, "fsync", counted)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(journal.intent, f"k{number}", [number], facts)

    await journal.close()
    assert len(syncs) <= 3
    assert len(state_of(tmp_path / "run").open_chunks) == 50


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.unmeasured
@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_a_record_comes_back_as_it_was(record: dict[str, Any]) -> None:
    """Any JSON, in one line; no part of the line is a record."""
    line = encode_record(record)

    assert line.count(b"\n") == 1
    assert decode_record(line) == record
    assert all(decode_record(line[:kept]) is None for kept in range(len(line)))


def test_an_item_error_outlives_the_journal(tmp_path: Path) -> None:
    """What failed for good comes back with its data."""
    error = ItemError("said no", position=2, code="http_422", operation="rate", status=422)
    journal = Journal.open(tmp_path / "run", HEADER)
    journal.outcomes(done={}, failed=[error])
    os.close(journal._descriptor)

    assert state_of(tmp_path / "run").failed[2].to_dict() == error.to_dict()


def test_no_answer_is_kept_with_an_error(tmp_path: Path) -> None:
    """The part of an answer that a failure left is the service's to tell, by the row's id."""
    error = GenerationError("cut", position=1, operation="generate", response_id=8, output="half")
    journal = Journal.open(tmp_path / "run", HEADER)
    journal.outcomes(done={}, failed=[error])
    os.close(journal._descriptor)

    found = state_of(tmp_path / "run").failed[1]
    assert isinstance(found, GenerationError)
    assert (found.output, found.response_id) == ("", 8)
    assert b"half" not in (tmp_path / "run").read_bytes()


def test_reading_stops_before_what_is_torn(tmp_path: Path) -> None:
    """Each record comes with where it begins and ends."""
    path = tmp_path / "run"
    whole = encode_record({"kind": "HEADER"}) * 2
    path.write_bytes(whole + b"0000001")
    with path.open("rb") as file:
        records = list(read_records(path, file))
    half = len(whole) // 2
    assert records == [(at, at + half, {"kind": "HEADER"}) for at in (0, half)]
