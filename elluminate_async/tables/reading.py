"""`rows_of`: rows from whatever holds them; a list, a stream, a table of any library."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from elluminate_async.errors import InputError
from elluminate_async.tables.json_checks import is_missing
from elluminate_async.tables.libraries import narwhals, pyarrow

Row: TypeAlias = Mapping[str, Any]
"""Column name to value."""


@runtime_checkable
class ArrowTable(Protocol):
    """A table that gives itself as an Arrow stream: of pandas, polars, pyarrow, DuckDB, ….

    Source: the Arrow PyCapsule interface,
    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html.
    """

    def __arrow_c_stream__(self, requested_schema: Any = None, /) -> object:
        """A capsule of the stream."""
        ...


class LazyTable(Protocol):
    """A table that is yet to be computed, as of polars; it is collected once."""

    def collect_schema(self) -> Any:
        """The names and types of its columns."""
        ...


Table: TypeAlias = ArrowTable | LazyTable
"""A table of a library; narwhals knows more of them than these two kinds tell."""

_ROWS_AT_ONCE: Final = 10_000
_LIBRARIES: Final = frozenset(
    {"_duckdb", "cudf", "dask", "duckdb", "ibis", "modin", "pandas", "polars", "pyarrow",
     "pyspark", "sqlframe"}
)  # fmt: skip
_PROTOCOLS: Final = (
    "__arrow_c_stream__",
    "__narwhals_dataframe__",
    "__narwhals_lazyframe__",
)
_FEATURE: Final = "reading a table"


def rows_of(data: object, name: str = "the rows") -> Iterable[Row] | AsyncIterable[Row]:
    """The rows of ``data``, each a mapping of column names to values as Python has them.

    A list or an iterable, plain or async, is handed through as it is, and read by whoever reads
    the result. A table is read some ten thousand rows at a time, each time that the result is
    iterated over; it has a ``len``. In a table of pandas a missing cell is None, be it NaN, NaT or
    ``pandas.NA``, as pandas does not tell these apart either; in any other a NaN is a number.

    Args:
        data: Mappings in an iterable, or a table that narwhals or pyarrow can read. One that is
            yet to be computed is collected now, by its own library, in memory.
        name: What errors call ``data``.

    Raises:
        InputError: ``data`` is neither, or a column has no name, or the name of another.
        MissingExtraError: It is a table, and the extra ``tables`` is not installed.
    """
    check_awaited(data, name)
    if problem := _why_not(data):
        raise InputError(f"{name} must be a list of rows, or a table: {problem}")
    if not _looks_like_a_table(data):
        return cast("Iterable[Row] | AsyncIterable[Row]", data)
    library = narwhals(_FEATURE)
    frame = _native(library, data, name)
    if isinstance(frame, library.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, library.DataFrame):
        # The caller may go on changing the table while it is read; one of Arrow nobody can.
        return TableRows(frame if frame.implementation.is_pyarrow() else frame.clone(), name)
    if isinstance(data, ArrowTable) and not isinstance(frame, library.Series):
        return _StreamedRows(data, name)
    if isinstance(data, Iterable):
        return cast("Iterable[Row]", data)
    raise InputError(f"{name} must be a list of rows, or a table, not {data!r:.60}")


def check_awaited(values: object, name: str) -> None:
    """Raise `InputError` for the call of an async function, where its result was meant."""
    if isinstance(values, Awaitable):
        raise InputError(f"{name} were not awaited: pass `await x`")


def length_of(rows: object) -> int | None:
    """How many there are, where that is known without reading them.

    Args:
        rows: What `rows_of` gave, or any other list, iterable or stream.
    """
    # Not of anything with a `len`: of a progress bar it is an estimate.
    return len(rows) if isinstance(rows, Sequence | TableRows) else None  # pyright: ignore[reportUnknownArgumentType]


_INSTEAD: Final[tuple[tuple[Callable[[object], bool], str], ...]] = (
    (lambda data: isinstance(data, str | bytes), "a text is none, pass what is read of it"),
    (lambda data: isinstance(data, Mapping), "pass [x] for one"),
    (inspect.isroutine, "pass what the function returns, as x()"),
    (lambda data: isinstance(data, type), "pass an instance, not the class"),
    (
        lambda data: (
            not isinstance(data, Iterable | AsyncIterable) and not _looks_like_a_table(data)
        ),
        "pass [{...}, ...]",
    ),
)


def _why_not(data: object) -> str | None:
    """The way out, when ``data`` cannot hold rows."""
    for is_it, text in _INSTEAD:
        if is_it(data):
            return f"{data!r:.60} is not, {text}"
    return None


def _looks_like_a_table(data: object) -> bool:
    """Whether a library of tables made it; nothing is imported to tell."""
    if isinstance(data, list | tuple):
        return False
    kinds = type(data).__mro__
    return any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in kinds) or any(
        hasattr(data, protocol) for protocol in _PROTOCOLS
    )


def _native(library: Any, data: object, name: str) -> Any:
    """``data`` as narwhals wraps it, or itself where it does not know it."""
    try:
        return library.from_native(data, pass_through=True, allow_series=True)
    except library.exceptions.DuplicateError:
        raise InputError(f"two columns of {name} have the same name: rename one") from None


def _check_names(names: Sequence[object], name: str) -> None:
    for column in names:
        if not isinstance(column, str) or not column:
            raise InputError(
                f"a column of {name} has {column!r:.60} as its name, which must be a text that is "
                "not empty: rename it, as by x.rename(columns={0: 'question'})"
            )
    if repeated := [column for column, n in Counter(names).items() if n > 1]:
        raise InputError(f"two columns of {name} have the name {repeated[0]!r:.60}: rename one")


class TableRows:
    """The rows of a table, converted some ten thousand at a time.

    Args:
        frame: A frame of narwhals that is in memory.
        name: What errors call it.
    """

    def __init__(self, frame: Any, name: str = "the rows") -> None:
        _check_names(frame.columns, name)
        self._frame = frame
        self._name = name
        self._has_none = not frame.implementation.is_pandas_like()
        if frame.implementation.is_polars():
            self._check_nanoseconds()

    def _check_nanoseconds(self) -> None:
        """Refuse what would be cut to microseconds without a word on its way to Python."""
        for column, kind in self._frame.schema.items():
            if getattr(kind, "time_unit", None) != "ns":
                continue
            of, is_span = self._frame[column].dt, type(kind).__name__ == "Duration"
            whole = of.total_nanoseconds() if is_span else of.timestamp("ns")
            cut = ((whole % 1000) != 0).fill_null(False)
            if cut.any():
                raise InputError(
                    f"row {cut.arg_max()}, column {column!r:.60} has nanoseconds, which Python's "
                    "own types do not: pass the column as texts, or cast it to microseconds"
                )

    def __len__(self) -> int:
        return len(self._frame)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            part = self._frame[start : start + _ROWS_AT_ONCE]
            rows = _read(lambda part=part: part.rows(named=True), self._name, start)
            yield from rows if self._has_none else map(_without_missing, rows)


class _StreamedRows:
    """The rows of an Arrow stream; whether it can be read twice is the stream's affair."""

    def __init__(self, data: ArrowTable, name: str) -> None:
        self._data = data
        self._name = name

    def __iter__(self) -> Iterator[Row]:
        library = pyarrow(_FEATURE)
        reader = library.RecordBatchReader.from_stream(self._data)
        _check_names(reader.schema.names, self._name)
        start = 0
        for batch in reader:
            for offset in range(0, batch.num_rows, _ROWS_AT_ONCE):
                part = batch.slice(offset, _ROWS_AT_ONCE)
                yield from _read(part.to_pylist, self._name, start + offset)
            start += batch.num_rows


def _read(read: Callable[[], list[Row]], name: str, start: int) -> list[Row]:
    try:
        return read()
    except (ValueError, TypeError, OverflowError) as error:
        problem = str(error)
    raise InputError(f"{name} from {start} on cannot be read as Python has them: {problem}")


def _without_missing(row: Row) -> Row:
    return {name: None if _is_missing(cell) else cell for name, cell in row.items()}


_NEVER_MISSING: Final = frozenset({str, int, bool})


def _is_missing(cell: object) -> bool:
    """Whether pandas takes the cell for missing: `pandas.isna`, without its arrays."""
    kind = type(cell)
    if kind in _NEVER_MISSING:
        return False
    if is_missing(cell):
        return True
    if getattr(cell, "shape", ()) != () or isinstance(cell, list | dict):
        return False
    try:
        return bool(cell != cell)  # true of NaN alone, whatever its type
    except Exception:  # a caller's own `__ne__` may raise anything
        return False
