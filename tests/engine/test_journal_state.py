"""What a journal told when it was opened: packed in memory, and read from the file again."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from elluminate_async.engine import journal_state
from elluminate_async.engine.journal import Journal
from elluminate_async.engine.records import Header
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.errors import GenerationError, JournalError

HEADER = Header("http://127.0.0.1:1", 7, "generate", {"experiment": 3}, None)


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written here is not to outlive a crash."""

    def synced(descriptor: int) -> None:
        del descriptor

    monkeypatch.setattr(os, "fsync", synced)


async def write(path: Path, chunks: Iterator[range]) -> None:
    """The journal of a stream, as a run writes it: each 50th item has failed for good."""
    journal = Journal.open(path, HEADER)
    for number, chunk in enumerate(chunks):
        journal.inputs({position: fingerprint_of(position) for position in chunk})
        keys = [[1_000 + position, 1] for position in chunk]
        await journal.intent(f"{number:032x}", [*chunk], {"keys": keys, "keyed": True})
        journal.task(f"{number:032x}", f"job-{number}")
        journal.outcomes(
            done={p: [5_000 + p, fingerprint_of(-p), [20, 180]] for p in chunk if p % 50},
            failed=[error_at(p) for p in chunk if p % 50 == 0],
        )
    await journal.close()


def error_at(position: int) -> GenerationError:
    return GenerationError("no", position=position, operation="generate", response_id=position)


def chunks_of(items: int, size: int) -> Iterator[range]:
    return (range(first, first + size) for first in range(0, items, size))


@pytest.mark.unmeasured
@pytest.mark.parametrize(("items", "size"), [(100_000, 100), (4_000, 1)])
async def test_an_item_takes_few_bytes_of_a_journal_that_is_read(
    tmp_path: Path, items: int, size: int
) -> None:
    """At most 20 once it was read and 30 meanwhile, beside what is read at once."""
    path = tmp_path / "run"
    await write(path, chunks_of(items, size))
    tracemalloc.start()
    try:
        journal = Journal.open(path, HEADER)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(journal.state.done) + len(journal.state.failed) == items
    assert kept / items <= 20
    assert (peak - 2 * journal_state.READ_AT_ONCE) / items <= 30
    journal.discard()


async def test_all_is_read_again_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, also while the journal grows and with few of the records in memory."""
    monkeypatch.setattr(journal_state, "MOST_KEPT", 150)
    await write(tmp_path / "run", chunks_of(1_000, 100))
    journal = Journal.open(tmp_path / "run", HEADER)
    state = journal.state

    for position in [*range(999, -1, -7), *range(1_000)]:
        journal.outcomes(done={position: "of this run"})
        if position % 50 == 0:
            assert state.failed[position].to_dict() == error_at(position).to_dict()
        else:
            assert state.done[position] == [5_000 + position, fingerprint_of(-position), [20, 180]]
        assert state.fingerprints[position] == fingerprint_of(position)
    journal.discard()


async def test_the_last_word_on_a_position_counts(tmp_path: Path) -> None:
    """Sent again it has no outcome any more, and released it has none and no chunk either."""
    path = tmp_path / "run"
    journal = Journal.open(path, HEADER)
    journal.outcomes(done={0: 1, 1: 2, 2: 3, 9_000: 4}, failed=[error_at(3)])
    await journal.intent("k1", [1, 2, 3], {})
    journal.outcomes(done={}, failed=[error_at(2)], released=[3])
    journal.discard()

    journal = Journal.open(path, HEADER)
    state = journal.state

    assert state.done == {0: 1, 9_000: 4}
    assert [*state.failed] == [2]
    assert [(chunk.key, chunk.left) for chunk in state.open_chunks] == [("k1", {1})]
    assert state.chunk_of[1].positions == (1, 2, 3)
    assert state.known_from(2) == [2, 9_000]
    journal.discard()


async def test_the_job_of_a_chunk_that_has_ended_is_not_kept(tmp_path: Path) -> None:
    """Nobody follows it any more: only that of a chunk with positions left is."""
    path = tmp_path / "run"
    journal = Journal.open(path, HEADER)
    for key, position in (("k1", 0), ("k2", 1)):
        await journal.intent(key, [position], {})
    journal.outcomes(done={0: 1})
    for key in ("k1", "k2"):
        journal.task(key, f"job of {key}")
    journal.discard()

    journal = Journal.open(path, HEADER)

    assert [(c.key, c.job_id) for c in journal.state.open_chunks] == [("k2", "job of k2")]
    journal.discard()


async def test_a_journal_that_changes_under_its_call_is_refused(tmp_path: Path) -> None:
    """What is read again is checked again."""
    path = tmp_path / "run"
    await write(path, chunks_of(100, 10))
    journal = Journal.open(path, HEADER)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"5077", b"5078"))

    with pytest.raises(JournalError, match="was changed at byte") as caught:
        journal.state.done[77]

    line = data.rindex(b"\n", 0, data.index(b"5077")) + 1
    assert (caught.value.path, caught.value.offset) == (path, line)
    journal.discard()
