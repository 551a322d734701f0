"""Tables through a call and back: a frame in, results out, over real sockets."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import InputError, ItemError
from tests.flow.bench import Stage
from tests.flow.conftest import stage as stage
from tests.tables.libraries import np, pa, pd, pl

FRAME = {
    "x": ["a", "b", None],
    "count": [1, 2, 3],
    "price": [0.5, math.nan, 1.5],
    "on": [datetime(2026, 1, 2), None, datetime(2026, 1, 4)],
    "ok": [True, False, True],
}


async def test_pandas_in_and_polars_out(stage: Stage, tmp_path: Path) -> None:
    """Every column and its type is there again; an empty cell is null from end to end."""
    rows = await stage.client.template_variables.add_many(
        pd.DataFrame(FRAME), collection=stage.collection
    )
    rows.raise_for_failed()
    responses = await stage.client.responses.generate_many(
        template_variables=rows, experiment=stage.experiment
    )
    path = tmp_path / "responses.parquet"
    responses.write_parquet(path)
    frame = pl.read_parquet(path)

    assert frame.select("input.x", "input.count", "input.price", "input.on", "input.ok").rows() == [
        ("a", 1, 0.5, "2026-01-02T00:00:00", True),
        ("b", 2, None, None, False),
        (None, 3, 1.5, "2026-01-04T00:00:00", True),
    ]
    assert [str(frame.schema[f"input.{name}"]) for name in FRAME] == [
        "String", "Int64", "Float64", "String", "Boolean"
    ]  # fmt: skip
    assert frame["response"].to_list()[:2] == [r.response_str for r in responses][:2]
    assert frame["template_variables_id"].to_list() == [row.id for row in rows]


async def test_ratings_out(stage: Stage) -> None:
    """A column for each criterion of the template."""
    rows = await stage.client.template_variables.add_many(
        pl.DataFrame({"x": ["a", "b"]}), collection=stage.collection
    )
    await stage.client.criteria.add_many(["Is it right?"], prompt_template=stage.template)
    responses = await stage.client.responses.generate_many(
        template_variables=rows, experiment=stage.experiment
    )
    table = (await stage.client.ratings.rate_many(responses)).to_polars()

    assert {"rating.Is it right?", "reasoning.Is it right?", "passed"} <= {*table.columns}
    assert set(table["rating.Is it right?"]) <= {"YES", "NO"}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, pl.LazyFrame])
async def test_add_many_takes_tables(stage: Stage, make: Callable[[Any], Any]) -> None:
    """Of whatever library, in order, as a call and as a stream."""
    table = make({"x": ["a", "b"], "n": [1, 2]})
    variables = stage.client.template_variables
    batch = await variables.add_many(table, collection=stage.collection)
    streamed = {
        position: row async for position, row in
        variables.stream_add_many(table, collection=stage.collection)
    }  # fmt: skip

    assert [row.input_values for row in batch] == [{"x": "a", "n": 1}, {"x": "b", "n": 2}]
    assert streamed == {0: batch[0], 1: batch[1]}


async def test_odd_cells_of_rows_are_converted(stage: Stage) -> None:
    """In a list of mappings as in a table; the row is asked back as JSON."""
    row = {"x": np.int64(3), "d": date(2026, 1, 2), "p": Decimal("0.10"), "m": pd.NaT}
    expected = {"x": 3, "d": "2026-01-02", "p": 0.1, "m": None}
    variables = stage.client.template_variables
    batch = await variables.add_many([row], collection=stage.collection)
    one = await variables.add_to_collection(row, stage.collection)

    assert batch[0].input_values == one.input_values == expected
    assert one.id == batch[0].id


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pl.DataFrame({"x": ["a", "b"], "p": [0.5, math.nan]}), r"values\[1\]\['p'\] is nan"),
        (pa.table({"x": ["a"], "p": [b"b"]}), r"values\[0\]\['p'\] is b'b'"),
        ([{"p": 1}, {"p": Decimal("0.1234567890123456789")}], r"values\[1\]\['p'\] is Decimal"),
        ([{"p": {"q": [np.float32("nan")]}}], r"values\[0\]\['p'\]\['q'\]\[0\] is nan"),
        (pd.DataFrame([[1]]), r"a column of values has 0 as its name"),
    ],
)
async def test_a_cell_that_would_lose_is_named_before_anything_is_sent(
    stage: Stage, table: Any, problem: str
) -> None:
    """All rows of a table are looked at first."""
    with pytest.raises(InputError, match=problem):
        await stage.client.template_variables.add_many(table, collection=stage.collection)

    assert stage.recorder.requests == []


async def test_half_a_character_fails_its_row_alone(stage: Stage) -> None:
    """Beside a cell that is converted, too."""
    batch = await stage.client.template_variables.add_many(
        [{"x": "\ud83d", "p": Decimal("0.5")}, {"x": "a", "p": Decimal("0.5")}],
        collection=stage.collection,
    )

    assert batch[1].input_values == {"x": "a", "p": 0.5}
    assert [error.code for error in batch.failed.values()] == ["bad_input"]
    assert isinstance(batch.outcomes[0], ItemError)


async def test_an_empty_call_has_the_columns_of_its_kind(stage: Stage) -> None:
    """Of rows, of responses and of ratings."""
    client = stage.client
    added = await client.template_variables.add_many([], collection=stage.collection)
    generated = await client.responses.generate_many(
        template_variables=[], experiment=stage.experiment
    )
    stored = await client.responses.add_many([], template_variables=[], experiment=stage.experiment)
    rated = await client.ratings.rate_many([])

    assert added.to_arrow().column_names[:2] == ["position", "template_variables_id"]
    assert generated.to_arrow().column_names[1] == "response_id"
    assert stored.to_arrow().schema == generated.to_arrow().schema
    assert rated.to_arrow().column_names[1] == "passed"
