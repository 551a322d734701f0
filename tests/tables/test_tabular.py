"""Results as tables of other libraries: types kept, missing cells null."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async import Batch
from tests.tables.libraries import np, pa, pd, pl
from tests.tables.results import failure, responses

BERLIN = ZoneInfo("Europe/Berlin")
STAMP = pd.Timestamp("2026-01-02 00:00:00.000000001")

# Values, the type that Arrow has for them, and what it gives back where that is something else.
KEPT: dict[str, tuple[list[Any], Any, list[Any] | None]] = {
    "bool": ([True, False], pa.bool_(), None),
    "int": ([1, -(2**63), 2**63 - 1], pa.int64(), None),
    "float": ([1.5, 1e300], pa.float64(), None),
    "int and float": ([1, 2.5], pa.float64(), [1.0, 2.5]),
    "text": (["a", ""], pa.string(), None),
    "bytes": ([b"a"], pa.binary(), None),
    "date": ([date(2026, 1, 2)], pa.date32(), None),
    "time": ([time(1, 2, 3, 4)], pa.time64("us"), None),
    "datetime": ([datetime(2026, 1, 2, 3)], pa.timestamp("us"), None),
    "UTC": ([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"), None),
    "zone": ([datetime(2026, 7, 2, tzinfo=BERLIN)], pa.timestamp("us", "Europe/Berlin"), None),
    "Timestamp": ([STAMP, pd.NaT], pa.timestamp("ns"), [STAMP, None]),
    "timedelta": ([timedelta(1, 2, 3)], pa.duration("us"), None),
    "Timedelta": ([pd.Timedelta("1ns")], pa.duration("ns"), None),
    "Decimal": (
        [Decimal("1.50"), Decimal("-100"), Decimal("1E+3")],
        pa.decimal128(6, 2),
        [Decimal("1.50"), Decimal("-100.00"), Decimal("1000.00")],
    ),
    "UUID": ([uuid.UUID(int=1)], pa.string(), ["00000000-0000-0000-0000-000000000001"]),
    "numbers of numpy": ([np.int64(3), np.float32(0.5)], pa.float64(), [3.0, 0.5]),
    "nothing": ([None], pa.string(), None),
}
AS_JSON: dict[str, tuple[list[Any], list[str | None]]] = {
    "lists": ([[1], {"a": None}], ["[1]", '{"a": null}']),
    "a mixture": ([1, "a", True], ["1", '"a"', "true"]),
    "large integers": ([2**70], ["1180591620717411303424"]),
    "integers that no float is": ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]),
    "two zones": (
        [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2)],
        ['"2026-01-02T00:00:00+00:00"', '"2026-01-02T00:00:00"'],
    ),
    "times with a zone": ([time(1, tzinfo=timezone.utc)], ['"01:00:00+00:00"']),  # noqa: UP017
    "long decimals": ([Decimal("1E+50")], ["1" + "0" * 50]),
    "decimals that are none": ([Decimal("nan"), Decimal(1)], [None, "1"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEPT)
def test_values_of_one_type_keep_it(kind: str) -> None:
    """And a missing one, or a failed item, is null."""
    values, expected, back = KEPT[kind]
    table = Batch([*values, None, failure(9)]).to_arrow()

    assert table.schema.field("value").type == expected
    assert table["value"].to_pylist() == [*(values if back is None else back), None, None]


@pytest.mark.parametrize("kind", AS_JSON)
def test_other_values_are_texts_of_json(kind: str) -> None:
    """In the whole column, so that it can be read by one rule."""
    values, expected = AS_JSON[kind]
    table = Batch([*values, None]).to_arrow()

    assert table.schema.field("value").type == pa.string()
    assert table["value"].to_pylist() == [*expected, None]


def test_half_a_character_costs_itself_alone() -> None:
    """Not the table."""
    assert Batch(["a\ud800b", "c"]).to_arrow()["value"].to_pylist() == ["a?b", "c"]


def test_missing_integers_of_pandas_are_null() -> None:
    """Not NaN, and the others stay integers."""
    frame: Any = responses().to_pandas()

    assert str(frame["input.n"].dtype) == "Int64"
    assert frame["input.n"].tolist() == [1, pd.NA, pd.NA]
    assert frame["error_status"].tolist() == [pd.NA, 429, pd.NA]
    assert frame["response"].isna().tolist() == [False, True, False]


def test_a_batch_without_positions_has_its_columns() -> None:
    """As every file of it."""
    for table in (Batch[int]([]).to_pandas(), Batch[int]([]).to_polars()):
        assert [*table.columns] == ["position", "error_code", "error", "error_status", "attempts"]
        assert len(table) == 0


def through_parquet(batch: Batch[Any], path: Path) -> Any:
    batch.write_parquet(path)
    return pl.read_parquet(path)


def through_arrow(batch: Batch[Any], path: Path) -> Any:
    return batch.to_polars()


@pytest.mark.parametrize("way", [through_parquet, through_arrow])
def test_every_way_keeps_types_and_values(
    way: Callable[[Batch[Any], Path], Any], tmp_path: Path
) -> None:
    """Row by row what `to_dicts` tells, through a file and another library."""
    frame = way(responses(), tmp_path / "a.parquet")

    assert frame.to_dicts() == responses().to_dicts()
    assert frame.schema["position"] == pl.Int64
    assert frame.schema["input.n"] == pl.Int64
    assert frame.schema["output_tokens"] == pl.Int64
    assert frame.schema["duration_seconds"] == pl.Float64


kinds: tuple[st.SearchStrategy[Any], ...] = (
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.binary(),
    st.timedeltas(),
    st.decimals(-(10**9), 10**9, places=3),
)


@given(st.sampled_from(kinds).flatmap(lambda kind: st.lists(st.none() | kind, min_size=1)))
def test_any_column_of_one_type_reads_back_equal(values: list[Any]) -> None:
    """Through Arrow, by the types of the table."""
    assert Batch(values).to_arrow()["value"].to_pylist() == values


@pytest.mark.parametrize(
    ("call", "missing", "command"),
    [
        ("to_arrow()", "pyarrow", "pip install 'elluminate-async[tables]'"),
        ("write_parquet('x')", "pyarrow", "pip install 'elluminate-async[tables]'"),
        ("to_pandas()", "pandas", "pip install 'elluminate-async[tables]' pandas"),
        ("to_polars()", "polars", "pip install 'elluminate-async[tables]' polars"),
    ],
)
def test_a_missing_library_is_named_with_the_command(call: str, missing: str, command: str) -> None:
    """Also of those that are no part of the extra."""
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from elluminate_async import Batch, MissingExtraError\n"
        "try:\n"
        f"    Batch([1]).{call}\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.rstrip().endswith(command)


def test_html_shows_the_first_rows_and_runs_nothing() -> None:
    """Every text is escaped and cut; a large batch is not shown as a whole."""
    html = Batch(["<script>", "x" * 1000, failure(2, "<b>"), *range(100)])._repr_html_()

    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert "x" * 200 not in html
    assert html.count("<tr>") == 21
    assert "and 83 more rows" in html
    assert "102/103 succeeded" in html
