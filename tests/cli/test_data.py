"""Rows from files of each format, and what is said of files that cannot be read."""

from __future__ import annotations

import datetime
import gzip
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import openpyxl  # pyright: ignore[reportMissingModuleSource]
import pytest

from elluminate_async import InputError
from elluminate_async.cli.data import file_of, read_data
from elluminate_async.tables.libraries import parquet, pyarrow


def read(folder: Path, name: str, content: bytes) -> list[dict[str, object]]:
    path = folder / name
    path.write_bytes(content)
    return read_data(path)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("bom.csv", b"\xef\xbb\xbfa,b\r\n1,\r\n", [{"a": "1", "b": ""}]),
        ("lines.csv", b'a,b\n"x\ny",1.50\n\n', [{"a": "x\ny", "b": "1.50"}]),
        ("german.csv", "a;b\n1,5;ü\n".encode(), [{"a": "1,5", "b": "ü"}]),
        ("quoted.csv", b'"name, first";b\n"1,5";x\n', [{"name, first": "1,5", "b": "x"}]),
        ("spaces.csv", b" first name ,b\n x ,\n", [{"first name": " x ", "b": ""}]),
        ("spreadsheet.csv", b"a,b,,\n\"1,234.50\",007,,\n,,,\n,,,\n", 
         [{"a": "1,234.50", "b": "007"}]),
        ("packed.csv.gz", gzip.compress(b"a;b\n1;2\n"), [{"a": "1", "b": "2"}]),
        ("packed.tsv.gz", gzip.compress(b"a\tb,c\n1\t2\n"), [{"a": "1", "b,c": "2"}]),
        ("packed.jsonl.gz", gzip.compress(b'{"a": 1}'), [{"a": 1}]),
        ("tabs.tsv", b"a\tb\n1,5\tx\n", [{"a": "1,5", "b": "x"}]),
        ("one.csv", b"a\n1;5\n", [{"a": "1;5"}]),
        ("big.csv", b"a\n" + b"x" * 300_000 + b"\n", [{"a": "x" * 300_000}]),
        ("r.jsonl", '{"a": "x\u2028y"}\r\n\n{"a": [1, null]}'.encode(),
         [{"a": "x\u2028y"}, {"a": [1, None]}]),
        ("r.ndjson", b'\xef\xbb\xbf{"a": 1.5}\n', [{"a": 1.5}]),
        ("r.json", b'[{"a": true}, {"b": [2]}]', [{"a": True}, {"b": [2]}]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rows_are_read_as_the_suffix_says(
    tmp_path: Path, name: str, content: bytes, rows: list[object]
) -> None:
    """A cell of CSV is a text and nothing else; JSON keeps its types and its separators."""
    assert read(tmp_path, name, content) == rows


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("r.csv", b'a,b\n"x\ny",1\n1,2,3\n', "r.csv, line 4: 3 cells, and the header has 2 (a, b)"),
        ("r.csv", b'a,b\n1,2\n"x\n\ny",1,2\n', "line 3: 3 cells"),
        ("r.csv", b"a;b\n1;2;3\n", "quote cells that hold a semicolon"),
        ("r.csv", b'a,b\n1,"2\n', "line 2: no CSV: unexpected end of data"),
        ("r.csv", b"a,b\n1,2\n\xff,2\n", "line 3: not UTF-8"),
        ("r.csv", b"", "r.csv is empty"),
        ("r.xlsx", b"", "r.xlsx is empty"),
        ("r.csv", b"\n\n", "the first line must name the columns"),
        ("r.csv", b"a,,b\n1,2,3\n", "the first line must name the columns, without a gap"),
        ("r.csv", b"a,b,\n1,2,\n1,2,3\n", "line 3: a cell under no name"),
        ("r.csv", b"a,b\n,\n \n", "has a header and no rows"),
        ("r.csv", "a,b\n1,2\n".encode("utf-16"), "line 1: not UTF-8, but UTF-16: save it as UTF-8"),
        ("r.csv", "a,b\n1,2\n".encode("utf-16-le"), "line 1: a null byte, which no text has"),
        ("r.csv.gz", b"a,b\n1,2\n", "cannot read"),
        ("r.gz", b"a,b\n1,2\n", "a file of rows ends in .csv"),
        ("r.csv", b"a,a\n1,2\n", "two columns have the same name: 'a', of a, a"),
        ("r.jsonl", b'{"a": 1}\n{"a" 1}\n', "line 2, column 6: no JSON"),
        ("r.jsonl", b'{"a": NaN}\n', "line 1['a'] is nan, which JSON does not have: use None"),
        ("r.json", b'[{"a": "NaN"}, {"a": [-Infinity]}]', "row 1['a'][0] is -inf"),
        ("r.jsonl", b'\n[1]\n', "line 2: a row must be an object, {...}, not [1]"),
        ("r.jsonl", b'{"a": 1, "a": 2}\n', "line 1: no JSON: the key 'a' is there twice"),
        ("r.json", b'[{"a": 1},\n{"a": 1, "a": 2}]', "r.json: no JSON: the key 'a' is there twice"),
        ("r.json", b'{"a": 1}\n{"a": 2}', "line 2, column 1: no JSON: more than one value: a file"),
        ("r.jsonl", b"{}\n", "line 1: a row needs columns"),
        ("r.jsonl", b"\n", "has no rows"),
        ("r.jsonl", b'{"a": ' + b"[" * 100_000, "line 1: no JSON: it is nested too deeply"),
        ("r.json", b'{"a": 1}', "must hold a list of objects"),
        ("r.json", b'[{"a": 1},\n 2]', "row 1: a row must be an object"),
        ("r.json", b'[{"a": 1},\n x]', "line 2, column 2: no JSON"),
        ("r.json", b"[]", "has no rows"),
        ("r.parquet", b"PAR0", "cannot read"),
        ("r.xlsx", b"PK", "it is no Excel file"),
        ("r.xls", b"", "a file of rows ends in .csv"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    """The line is that where the row begins."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, content)

    assert text in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, suffix: str) -> None:
    """Of each format."""
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        read_data(tmp_path / f"none.{suffix}")


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    """Dates are texts, as JSON has none; folders named like columns are none."""
    path = tmp_path / "year=2020" / "r.parquet"
    path.parent.mkdir()
    day = datetime.date(2020, 1, 2)
    table = pyarrow("a test").table({"a": [1, None], "d": [day, day], "x": [1.5, 2.0]})
    parquet("a test").write_table(table, path)

    assert read_data(path) == [
        {"a": 1, "d": "2020-01-02", "x": 1.5},
        {"a": None, "d": "2020-01-02", "x": 2.0},
    ]


def test_parquet_may_be_nested(tmp_path: Path) -> None:
    """Lists and structures of any depth are lists and objects."""
    path = tmp_path / "r.parquet"
    row = {"a": [{"b": [1, 2], "c": datetime.date(2020, 1, 2)}], "d": {"e": None, "f": "x"}}
    parquet("a test").write_table(pyarrow("a test").Table.from_pylist([row]), path)

    assert read_data(path) == [
        {"a": [{"b": [1, 2], "c": "2020-01-02"}], "d": {"e": None, "f": "x"}}
    ]


def test_parquet_without_a_form_in_json_is_refused(tmp_path: Path) -> None:
    """The row and the column are named."""
    path = tmp_path / "r.parquet"
    table = pyarrow("a test").table({"a": [1.0, float("nan")]})
    parquet("a test").write_table(table, path)

    with pytest.raises(InputError, match=r"r.parquet, row 1, a is nan"):
        read_data(path)


def test_excel_keeps_numbers_and_lines(tmp_path: Path) -> None:
    """The first sheet; lines that show nothing are passed over, and an empty cell is null."""
    lines = [["a", "b", None], [1, True, " "], [], ["1,234.50", None], [None, " "], [None]]
    save(tmp_path / "r.xlsx", first=lines, more=[["other"]])

    assert read_data(tmp_path / "r.xlsx") == [{"a": 1, "b": True}, {"a": "1,234.50", "b": None}]


def test_excel_dates_are_texts(tmp_path: Path) -> None:
    """Of a day the date alone, as its cell shows it; of a time with its day both."""
    day, time = datetime.date(2020, 1, 2), datetime.time(13, 5)
    midnight = datetime.datetime(2020, 1, 2)
    row = [day, midnight, datetime.datetime.combine(day, time), time]
    save(tmp_path / "r.xlsx", dates=[["day", "midnight", "moment", "time"], row])

    assert read_data(tmp_path / "r.xlsx") == [
        {
            "day": "2020-01-02",
            "midnight": "2020-01-02T00:00:00",
            "moment": "2020-01-02T13:05:00",
            "time": "13:05:00",
        }
    ]


def test_a_sheet_may_be_named(tmp_path: Path) -> None:
    """Behind the file, in any case; a hidden one is not the first, and a wrong name is told."""
    path = tmp_path / "r.xlsx"
    save(path, notes=[["a"], [1]], **{"May 2.0": [["b"], [2]]}, more=[["c"], [3]])
    book = openpyxl.load_workbook(path)
    book["notes"].sheet_state = "hidden"
    book.save(path)

    assert read_data(path) == read_data(f"{path}#May 2.0") == [{"b": 2}]
    assert read_data(f"{path}#notes") == [{"a": 1}]
    assert file_of("x/r.XLSX#May 2.0") == "x/r.XLSX"
    with pytest.raises(InputError, match=r"no sheet 'June'; it has notes, May 2.0, more"):
        read_data(f"{path}#June")


def test_a_size_that_a_file_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    """Some programs write that all is in one cell; all of its cells are read."""
    save(tmp_path / "good.xlsx", one=[["a", "b"], [1, 2]])
    with (
        zipfile.ZipFile(tmp_path / "good.xlsx") as good,
        zipfile.ZipFile(tmp_path / "r.xlsx", "w") as bad,
    ):
        for name in good.namelist():
            assert name != "xl/worksheets/sheet1.xml" or b'"A1:B2"' in good.read(name)
            bad.writestr(name, good.read(name).replace(b'"A1:B2"', b'"A1"'))

    assert read_data(tmp_path / "r.xlsx") == [{"a": 1, "b": 2}]


def save(path: Path, **sheets: Sequence[Sequence[object]]) -> None:
    """Write an Excel file of these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, lines in sheets.items():
        sheet = book.create_sheet(title)
        for line in lines:
            sheet.append(line)
    book.save(path)


@pytest.mark.parametrize(
    ("cells", "text"),
    [([1, 2, 3], "line 3: a cell under no name"), ([1, "#DIV/0!"], "cell B3: it holds the error")],
)
def test_excel_names_the_cell(tmp_path: Path, cells: list[object], text: str) -> None:
    """What cannot be a value is told where it is."""
    save(tmp_path / "r.xlsx", one=[["a", "b"], [1, 2], cells])

    with pytest.raises(InputError, match=text):
        read_data(tmp_path / "r.xlsx")


def test_a_dash_reads_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """From standard input, whose lines are told as a file's."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n')))
    assert read_data("-") == [{"a": 1}]

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\nx')))
    with pytest.raises(InputError, match="standard input, line 2, column 1: no JSON"):
        read_data("-")
