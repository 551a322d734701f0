"""Files of results: whole or not at all, and what is read from them is what was written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async import Batch, InputError, PromptResponse
from elluminate_async.tables.texts import formula_safe
from tests.tables.libraries import pd, pl, pq
from tests.tables.results import failure, rating, responses

WRITERS = ["write_jsonl", "write_csv", "write_parquet", "write_junit"]
TEXT_WRITERS = [name for name in WRITERS if name != "write_parquet"]


def written(batch: Batch[Any], writer: str) -> bytes:
    file = io.BytesIO()
    getattr(batch, writer)(file)
    return file.getvalue()


class Unreadable(Batch[int]):
    """A batch whose last row cannot be read."""

    __slots__ = ("allowed",)
    allowed: int

    def _iter_rows(self) -> Any:
        yield from super()._iter_rows()
        if not self.allowed:
            raise OSError(28, "No space left on device")
        self.allowed -= 1

    def _cases(self) -> Any:
        yield from super()._cases()
        if not self.allowed:
            raise OSError(28, "No space left on device")
        self.allowed -= 1


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_fails_keeps_the_old_file(writer: str, tmp_path: Path) -> None:
    """And leaves nothing beside it."""
    path = tmp_path / "results"
    path.write_text("old")
    batch = Unreadable(range(30_000))
    # The first reading finds types, or counts.
    batch.allowed = writer in ("write_parquet", "write_junit")

    with pytest.raises(OSError, match="No space left"):
        getattr(batch, writer)(path)

    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_keeps_the_old_file(writer: str, tmp_path: Path) -> None:
    """The system's own refusal to write on, as of a disk or a quota."""
    path = tmp_path / "results"
    path.write_text("old")
    code = textwrap.dedent(f"""
        import resource, signal
        from elluminate_async import Batch
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        batch = Batch([str(n * 7919) * 3 for n in range(50_000)])
        batch.to_arrow()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            batch.{writer}({str(path)!r})
        except OSError as error:
            print("refused", error.errno)
    """)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.startswith("refused"), done.stderr
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_device_is_written_into_and_not_replaced(writer: str) -> None:
    """Its error is the caller's."""
    with pytest.raises(OSError, match="No space left"):
        getattr(Batch(range(10)), writer)("/dev/full")

    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    """With the rights that it had."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    Batch([1]).write_jsonl(link)

    assert link.is_symlink()
    assert json.loads(target.read_text())["value"] == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.parametrize("writer", TEXT_WRITERS)
def test_an_open_file_of_text_and_of_bytes(writer: str, tmp_path: Path) -> None:
    """Both get the same, and stay open."""
    text = io.StringIO(newline="")
    batch = Batch(["é\U0001f600", "a\r\nb"])
    getattr(batch, writer)(text)
    with (tmp_path / "a").open("wb") as file:
        getattr(batch, writer)(file)
        assert not file.closed

    assert text.getvalue().encode() == (tmp_path / "a").read_bytes() == written(batch, writer)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_file_is_refused(writer: str) -> None:
    """Before anything is written."""
    with pytest.raises(InputError, match="3 is no path and no open file"):
        getattr(Batch([1]), writer)(3)


def test_a_file_of_text_takes_no_parquet() -> None:
    """And says what does."""
    with pytest.raises(InputError, match=r"is a file of text.*opened for bytes"):
        Batch([1]).write_parquet(io.StringIO())


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_is_not_there_is_named(writer: str, tmp_path: Path) -> None:
    """It is not made: a slip of the pen would not be noticed."""
    with pytest.raises(InputError, match=r"cannot write .*results.*no folder .*missing"):
        getattr(Batch([1]), writer)(tmp_path / "missing" / "results")

    assert not [*tmp_path.iterdir()]


def test_what_a_kill_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """But nothing that is being written, and nothing of another file."""
    path = tmp_path / "a[1].csv"
    left, fresh = (tmp_path / f".{path.name}.{c * 16}.part" for c in "01")
    other = tmp_path / f".other.csv.{'0' * 16}.part"
    for one in (left, fresh, other):
        one.write_text("half")
    for one in (left, other):
        os.utime(one, (1, 1))
    Batch([1]).write_csv(path)

    assert {*tmp_path.iterdir()} == {path, fresh, other}


def test_lines_of_json() -> None:
    """An object a row, with all columns, and null for what JSON does not have."""
    lines = written(responses(), "write_jsonl").splitlines()

    assert [json.loads(line) for line in lines] == responses().to_dicts()
    assert json.loads(written(Batch([float("nan")]), "write_jsonl"))["value"] is None


any_text = st.text(st.characters(exclude_categories=[]))
whole_text = st.text()


@given(st.lists(any_text | st.lists(any_text)))
def test_any_text_reads_back_from_jsonl(values: list[Any]) -> None:
    """Half characters, too."""
    lines = written(Batch(values), "write_jsonl").splitlines()

    assert [json.loads(line)["value"] for line in lines] == values


def read_csv(content: bytes) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)]


def unescaped(text: str) -> str:
    """The way back from `formula_safe`."""
    return text[1:] if text.startswith("'") and formula_safe(text[1:]) == text else text


@given(st.lists(whole_text | st.from_regex("'*[=+@\t\r-].*")))
def test_any_text_reads_back_from_csv(values: list[str]) -> None:
    """After the apostrophe before a formula is taken away, and nothing begins one before that."""
    cells = (
        [row["value"] for row in read_csv(written(Batch(values), "write_csv"))] if values else []
    )

    assert [unescaped(cell) for cell in cells] == values
    assert not any(cell.startswith(tuple("=+-@\t\r\n\0＝＋－＠")) for cell in cells)


def test_a_formula_is_text_in_a_spreadsheet() -> None:
    """As a text of a model; a number is one, also below zero."""
    values = ["=cmd|' /C calc'!A0", "-1+1", "@SUM(1)", -1.5, -3, "a=b", "'tis"]
    cells = [row["value"] for row in read_csv(written(Batch(values), "write_csv"))]

    assert cells == ["'=cmd|' /C calc'!A0", "'-1+1", "'@SUM(1)", "-1.5", "-3", "a=b", "'tis"]


def test_a_formula_as_the_name_of_a_column() -> None:
    """No way around by a header."""
    assert formula_safe("=1") == "'=1"
    batch = Batch[Any]([responses()[0].prompt.template_variables])
    assert written(batch, "write_csv").startswith(b"position,template_variables_id,input.n")


def test_csv_as_others_read_it(tmp_path: Path) -> None:
    """RFC 4180: CR LF, quotes; a missing cell is not an empty text to those who care."""
    path = tmp_path / "a.csv"
    batch = Batch(["a,b", 'say "x"', "two\nlines", "", None, failure(5)])
    batch.write_csv(path)
    expected = ["a,b", 'say "x"', "two\nlines", "", None, None]

    assert path.read_bytes().startswith(b"position,value,error_code,")
    assert pl.read_csv(path)["value"].to_list() == expected
    assert pd.read_csv(path, keep_default_na=False)["value"].tolist()[:4] == expected[:4]


def test_cells_of_csv_that_are_no_texts() -> None:
    """Numbers as they are, lists as JSON, truth as others read it."""
    cells = [r["value"] for r in read_csv(written(Batch([1, 0.1, True, [1, "a"]]), "write_csv"))]

    assert cells == ["1", "0.1", "true", '[1, "a"]']


def test_parquet_has_row_groups_of_ten_thousand(tmp_path: Path) -> None:
    """So that it is written, and can be read, a part at a time."""
    path = tmp_path / "a.parquet"
    Batch(range(25_000)).write_parquet(path)
    file = pq.ParquetFile(path)

    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [10_000, 10_000, 5_000]
    assert file.read()["value"].to_pylist() == [*range(25_000)]


def junit(batch: Batch[Any], **names: str) -> ElementTree.Element:
    file = io.BytesIO()
    batch.write_junit(file, **names)
    return ElementTree.fromstring(file.getvalue())


def test_junit_has_a_case_for_each_position() -> None:
    """A NO is a failure, a failed item an error; suites have the counts."""
    ratings = [rating(1, "Is it right?", "NO"), rating(2, "b", "YES")]
    root = junit(Batch([ratings, failure(1), [ratings[1]]]), name="nightly")
    (suite,) = root

    assert root.attrib == {"tests": "3", "failures": "1", "errors": "1"}
    assert suite.attrib == {"name": "nightly", "tests": "3", "failures": "1", "errors": "1"}
    assert [case.attrib["name"] for case in suite] == ["position 0", "position 1", "position 2"]
    (failed,), (error,), passed = suite
    assert (failed.tag, failed.attrib["message"]) == ("failure", "NO: Is it right?")
    assert failed.text == "Is it right?: NO. why NO"
    assert (error.tag, error.attrib["type"]) == ("error", "http_429")
    assert error.attrib["message"] == "too many requests"
    assert len(passed) == 0


def test_junit_of_responses_has_their_time() -> None:
    """And an empty batch is a document too."""
    suite = junit(responses())[0]

    assert suite[0].attrib["time"] == "0.500"
    assert junit(Batch[PromptResponse]([])).attrib == {"tests": "0", "failures": "0", "errors": "0"}


NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@given(any_text)
def test_any_text_reads_back_from_junit(text: str) -> None:
    """But for what XML cannot have, which is left out."""
    ratings = [rating(1, "a", "NO").model_copy(update={"reasoning": text})]
    suite = junit(Batch([ratings]), name=text)[0]

    assert suite.attrib["name"] == NO_XML.sub("", text)
    assert suite[0][0].text == "a: NO. " + NO_XML.sub("", text)


GROWTH = """
import resource
from elluminate_async import Batch

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

batch = Batch(list(range({count})))
for writer in ("write_jsonl", "write_parquet"):
    getattr(batch[:20_000], writer)({path!r})
    before = peak()
    getattr(batch, writer)({path!r})
    print(peak() - before)
"""


@pytest.mark.unmeasured
def test_a_million_rows_are_written_in_flat_memory(tmp_path: Path) -> None:
    """At most some MiB over what a tenth takes, where the rows would be hundreds."""

    def growth(count: int) -> list[int]:
        code = GROWTH.format(count=count, path=str(tmp_path / "results"))
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return [int(line) for line in done.stdout.split()]

    for small, large in zip(growth(100_000), growth(1_000_000), strict=True):
        assert large < small + 16 * 1024  # KiB
