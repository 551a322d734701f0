"""Rows from whatever holds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from elluminate_async import InputError
from elluminate_async.tables.reading import length_of, rows_of
from tests.tables.libraries import np, pa, pd, pl

VALUES = {"n": [1, 2], "q": ["a", "b"], "x": [0.5, 1.5]}
ROWS = [{"n": 1, "q": "a", "x": 0.5}, {"n": 2, "q": "b", "x": 1.5}]


def read(data: object) -> list[Any]:
    rows = rows_of(data)
    assert not isinstance(rows, AsyncIterator)
    return list(rows)  # type: ignore[arg-type]


class Stream:
    """Any library's table that gives itself as a stream of Arrow."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class Dataset:
    """As of Hugging Face's datasets: it iterates as dictionaries, and is no sequence."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(ROWS)


TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas of Arrow": lambda values: pd.DataFrame(values).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame,
    "lazy polars": pl.LazyFrame,
    "Arrow": pa.table,
    "batch of Arrow": pa.RecordBatch.from_pydict,
    "reader of Arrow": lambda values: pa.table(values).to_reader(),
    "stream of Arrow": lambda values: Stream(pa.table(values)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_as_rows_of_pythons_values(kind: str) -> None:
    """Equal for every library, and of Python's types, not of numpy's."""
    rows = read(TABLES[kind](VALUES))

    assert rows == ROWS
    assert [type(cell) for cell in rows[0].values()] == [int, str, float]


@pytest.mark.parametrize("kind", ["pandas", "polars", "Arrow"])
def test_the_length_of_a_table_is_known(kind: str) -> None:
    """Without a look at its rows; and it can be read twice."""
    rows = rows_of(TABLES[kind](VALUES))

    assert length_of(rows) == 2
    assert list(rows) == list(rows)  # type: ignore[arg-type]


def test_the_length_of_what_is_yet_to_be_read_is_not_known() -> None:
    """Of a generator, a stream, what estimates it: nothing is read to tell it."""
    assert length_of(iter(ROWS)) is None
    assert length_of(rows_of(Stream(pa.table(VALUES)))) is None
    assert length_of(Dataset()) is None
    assert length_of(ROWS) == 2


def test_rows_that_are_rows_already_are_handed_through() -> None:
    """A list is itself, and a generator is not begun."""

    async def later() -> AsyncIterator[dict[str, Any]]:
        yield {}

    generator, stream, dataset = iter(ROWS), later(), Dataset()
    for data in (ROWS, generator, stream, dataset):
        assert rows_of(data) is data


def test_a_list_needs_no_library() -> None:
    """Nothing of the extra is imported for rows that are no table."""
    code = (
        "import sys\n"
        "from elluminate_async.tables.reading import rows_of, length_of\n"
        "assert rows_of([{'a': 1}]) and length_of(iter([])) is None\n"
        "assert not {'narwhals', 'pyarrow', 'pandas', 'numpy'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_missing_library_is_named_with_the_command() -> None:
    """A table without the extra: what to install."""
    code = (
        "import sys\n"
        "sys.modules['narwhals'] = None\n"
        "import pandas\n"
        "from elluminate_async import MissingExtraError\n"
        "from elluminate_async.tables.reading import rows_of\n"
        "try:\n"
        "    rows_of(pandas.DataFrame({'a': [1]}))\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "pip install 'elluminate-async[tables]'" in done.stdout


MISSING = [None, np.nan, pd.NA, pd.NaT, float("nan"), np.float32("nan"), Decimal("nan")]


def test_a_missing_cell_of_pandas_is_none() -> None:
    """However pandas writes it, as it does not tell these apart itself."""
    frame = pd.DataFrame(
        {
            "object": [*MISSING, "a"],
            "float": [*[np.nan] * len(MISSING), 1.5],
            "time": [*[pd.NaT] * len(MISSING), pd.Timestamp("2026-01-02")],
            "int": pd.array([*[None] * len(MISSING), 3], dtype="Int64"),
            "text": pd.array([*[None] * len(MISSING), "b"], dtype="string"),
        }
    )
    *missing, last = read(frame)

    assert all(cell is None for row in missing for cell in row.values())
    assert [*last.values()] == ["a", 1.5, pd.Timestamp("2026-01-02"), 3, "b"]


def test_a_list_in_a_cell_of_pandas_is_no_missing_one() -> None:
    """Also an array, of which numpy cannot tell whether it is itself."""
    cells = [[1, 2], np.array([1.0, np.nan]), {"a": None}]
    rows = read(pd.DataFrame({"x": cells}))

    assert all(row["x"] is cell for row, cell in zip(rows, cells, strict=True))


def test_nan_is_a_number_to_polars_and_arrow() -> None:
    """They have a null beside it, and both come as they are."""
    for table in (pl.DataFrame({"x": [None, float("nan")]}), pa.table({"x": [None, np.nan]})):
        first, second = (row["x"] for row in read(table))
        assert first is None
        assert second != second


NAMES: dict[str, Any] = {
    "numbers": pd.DataFrame([[1, 2]]),
    "levels": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "nothing": pa.table([[1]], names=[""]),
    "nothing in a stream": Stream(pa.table([[1]], names=[""])),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_column_must_have_a_name(kind: str) -> None:
    """One that is a text, as a placeholder of a template is."""
    with pytest.raises(InputError, match=r"a column of the rows has .* rename it"):
        read(NAMES[kind])


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pa.table([[1], [2]], names=["a", "a"]),
        Stream(pa.table([[1], [2]], names=["a", "a"])),
    ],
)
def test_two_columns_of_one_name_are_refused(table: object) -> None:
    """One of the two would be lost in a mapping."""
    with pytest.raises(InputError, match=r"two columns of the rows have the .*name"):
        read(table)


@pytest.mark.parametrize("unit", [pl.Datetime("ns"), pl.Duration("ns")])
def test_nanoseconds_that_python_has_not_are_refused(unit: Any) -> None:
    """Polars would cut them off without a word; what has none of them is read."""
    whole = pl.DataFrame({"t": pl.Series([None, 1_000], dtype=unit)})
    assert read(whole)[1]["t"] in (datetime(1970, 1, 1, 0, 0, 0, 1), timedelta(microseconds=1))

    with pytest.raises(InputError, match=r"row 2, column 't' has nanoseconds"):
        read(pl.DataFrame({"t": pl.Series([None, 1_000, 1_001], dtype=unit)}))


def test_a_table_that_is_changed_while_it_is_read() -> None:
    """The rows are those that it had when it was passed."""
    frame = pd.DataFrame(VALUES)
    rows = rows_of(frame)
    frame.loc[0, "n"] = 99
    frame["new"] = 1

    assert list(rows) == ROWS  # type: ignore[arg-type]


async def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("data", "instead"),
    [
        ("a", "a text is none"),
        (b"a", "a text is none"),
        ({"a": 1}, r"pass \[x\] for one"),
        (3, r"pass \[\{...\}, ...\]"),
        (None, r"pass \[\{...\}, ...\]"),
        (nothing, r"pass what the function returns"),
        (pd.DataFrame, "pass an instance"),
    ],
)
def test_what_holds_no_rows_is_refused(data: object, instead: str) -> None:
    """With what to pass instead."""
    with pytest.raises(
        InputError, match=rf"values must be a list of rows, or a table: .*{instead}"
    ):
        rows_of(data, "values")


def test_a_coroutine_is_to_be_awaited() -> None:
    """The usual slip with an asynchronous reader."""
    coroutine = nothing()
    with pytest.raises(InputError, match="were not awaited: pass `await x`"):
        rows_of(coroutine)
    coroutine.close()


def test_a_table_of_many_batches_is_read_in_order() -> None:
    """More rows than are converted at once."""
    frame = pd.DataFrame({"n": range(25_000)})

    assert [row["n"] for row in read(frame)] == [*range(25_000)]
    assert [row["n"] for row in read(Stream(pa.table({"n": range(25_000)})))] == [*range(25_000)]
