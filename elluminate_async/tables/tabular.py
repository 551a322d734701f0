"""`Tabular`: results as tables of any library, and as files."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from elluminate_async.tables import junit, texts
from elluminate_async.tables.arrow import ROWS_AT_ONCE, ArrowForm, TableColumn
from elluminate_async.tables.files import Target, written
from elluminate_async.tables.html import ROWS_SHOWN, html_table
from elluminate_async.tables.libraries import pandas, parquet, polars, pyarrow

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
    import polars as pl

    from elluminate_async.tables.junit import Case


class Tabular:
    """A mixin: rows under named columns, to be written and handed to other libraries.

    Files are written row by row, so that a million take the memory of some thousands. A path has
    its old file until the new one is whole: when writing fails, the old one is kept.
    """

    __slots__ = ()

    @abstractmethod
    def _columns(self) -> Sequence[TableColumn]:
        """The columns, in order, of unique names."""

    @abstractmethod
    def _iter_rows(self) -> Iterator[Sequence[object]]:
        """The rows, each a cell for each column; anew from the first at each call."""

    @abstractmethod
    def _cases(self) -> Iterable[Case]:
        """The rows as cases of a test; anew from the first at each call."""

    def _names(self) -> list[str]:
        return [column.name for column in self._columns()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each row: column name to value, as Python has it."""
        names = self._names()
        return [dict(zip(names, row, strict=True)) for row in self._iter_rows()]

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`; the types of its columns are in `elluminate_async.tables.arrow`.

        pyarrow has no types of its own for checkers, hence `Any`.

        Raises:
            MissingExtraError: The extra ``tables`` is not installed.
        """
        pyarrow("to_arrow()")
        return ArrowForm(self._columns(), self._iter_rows).table(self._iter_rows())

    def to_pandas(self) -> pd.DataFrame:
        """A `pandas.DataFrame`; integers and booleans are of the types that have a missing value.

        Raises:
            MissingExtraError: pandas or the extra ``tables`` is not installed.
        """
        library = pandas("to_pandas()")
        nullable: dict[str, Any] = {
            "int64": library.Int64Dtype(),
            "bool": library.BooleanDtype(),
        }

        def type_of(kind: object) -> object:
            return nullable.get(str(kind))

        return self.to_arrow().to_pandas(types_mapper=type_of)

    def to_polars(self) -> pl.DataFrame:
        """A `polars.DataFrame`.

        Raises:
            MissingExtraError: polars or the extra ``tables`` is not installed.
        """
        return polars("to_polars()").from_arrow(self.to_arrow())

    def write_jsonl(self, target: Target) -> None:
        """Write an object for each row, one a line, with all columns as its names.

        What JSON does not have is its nearest form: null for NaN, ISO 8601 for dates, `str` of what
        has none.

        Args:
            target: A path, or an open file of bytes or text.

        Raises:
            InputError: ``target`` is neither, or its folder is not there.
            OSError: It cannot be written.
        """
        self._write(target, texts.jsonl_parts(self._names(), self._iter_rows()))

    def write_csv(self, target: Target) -> None:
        """Write a header and a line for each row: RFC 4180, UTF-8, safe in a spreadsheet.

        A text that a spreadsheet would run as a formula gets an apostrophe before it, see
        `elluminate_async.tables.texts`. Lists and mappings are JSON. Arguments and errors as in
        `write_jsonl`; open a file of text with ``newline=""``.
        """
        self._write(target, texts.csv_parts(self._names(), self._iter_rows()))

    def write_parquet(self, target: str | os.PathLike[str] | Any) -> None:
        """Write a Parquet file, a row group for each 10,000 rows, typed as `to_arrow`.

        Args:
            target: A path, or an open file of bytes.

        Raises:
            MissingExtraError: The extra ``tables`` is not installed.
            InputError: ``target`` is neither, or its folder is not there.
            OSError: It cannot be written.
        """
        library = parquet("write_parquet()")
        form = ArrowForm(self._columns(), self._iter_rows)
        with (
            written(target, is_text=False) as file,
            library.ParquetWriter(file, form.schema) as writer,
        ):
            for batch in form.batches(self._iter_rows()):
                writer.write_batch(batch, row_group_size=ROWS_AT_ONCE)

    def write_junit(self, target: Target, *, name: str = "elluminate") -> None:
        """Write JUnit XML for a CI server: a test case a row.

        A failed item is an ``error``, one that was answered and not as it should be, such as a
        NO of the judge, a ``failure``. Characters that XML cannot have are left out.

        Args:
            target: As in `write_jsonl`.
            name: Of the suite.
        """
        self._write(target, junit.junit_parts([(name, self._cases)]))

    def _write(self, target: Target, parts: Iterable[bytes]) -> None:
        with written(target) as file:
            for part in parts:
                file.write(part)

    def _count(self) -> int | None:
        """How many rows there are, where that is known without reading them."""
        return None

    def _repr_html_(self) -> str:
        """The first rows, for a notebook."""
        rows = islice(self._iter_rows(), ROWS_SHOWN)
        return html_table(repr(self), self._names(), rows, self._count())
