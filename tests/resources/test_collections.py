"""The first rows of a collection: mappings, or a table."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import pytest

from elluminate_async import InputError
from elluminate_async.resources.collections import Rows
from tests.resources.local import local
from tests.tables.libraries import pa, pd, pl

VALUES: dict[str, list[Any]] = {"question": ["a", None], "on": [date(2026, 1, 2)] * 2}
EXPECTED = [{"question": "a", "on": "2026-01-02"}, {"question": None, "on": "2026-01-02"}]
LISTED = [{"question": "a", "on": date(2026, 1, 2)}, {"question": None, "on": date(2026, 1, 2)}]
TABLES: dict[str, Callable[[], Rows]] = {
    "list": lambda: LISTED,
    "generator": lambda: iter(LISTED),
    "pandas": lambda: pd.DataFrame(VALUES),
    "polars": lambda: pl.DataFrame(VALUES),
    "lazy": lambda: pl.LazyFrame(VALUES),
    "Arrow": lambda: pa.table(VALUES),
}


@pytest.mark.parametrize("kind", TABLES)
async def test_the_first_rows_may_be_a_table(kind: str) -> None:
    """Of each library, by either method; what JSON does not have is converted."""
    async with local() as client:
        made = await client.collections.create("made", variables=TABLES[kind]())
        found, is_new = await client.collections.get_or_create("new", variables=TABLES[kind]())

        for collection in (made, found):
            rows = await client.template_variables.list(collection)
            assert [row.input_values for row in rows] == EXPECTED
        assert is_new


async def rows_later() -> AsyncIterator[dict[str, Any]]:
    yield {}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ([{"a": 1}, {"price": math.nan}], r"variables\[1\]\['price'\] is nan"),
        ([{"a": 1}, 3], r"variables\[1\] must be a mapping of column names"),
        ([{1: 2}], r"variables\[0\]: a column name must be a string, not 1"),
        ({"a": 1}, r"variables must be a list of rows, or a table: .* pass \[x\] for one"),
        (rows_later(), r"pass them to template_variables.add_many"),
    ],
)
async def test_first_rows_that_cannot_be_sent_are_named(variables: Any, text: str) -> None:
    """Nothing is created then."""
    async with local() as client:
        with pytest.raises(InputError, match=text):
            await client.collections.create("c", variables=variables)

        assert not await client.collections.list()
