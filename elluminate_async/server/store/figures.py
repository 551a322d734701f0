"""Figures of responses in SQL: which of them are some, and how they are added up.

Sums are whole numbers, so that what is taken away again leaves nothing behind. A database of before
figures were looked at may have anything in a column, and a client may upload any number: what is
absurd is no figure, so that not even millions of them go beyond what a sum can be.
"""

from __future__ import annotations

from typing import Final

MICRO: Final = 1_000_000
"""Parts of one second, of one unit of a price's currency, and once more of such a part."""

MOST_TOKENS: Final = 10**12
MOST_SECONDS: Final = 10**7
MOST_COST: Final = 10**6

MOST_LISTED: Final = 1_000
"""Finished responses of an experiment whose figures are listed one by one: its first."""


def are_seconds(column: str) -> str:
    """Whether a column has a duration."""
    return _within(column, MOST_SECONDS)


def are_tokens(column: str) -> str:
    """Whether a column has a number of tokens."""
    return f"(typeof({column}) = 'integer' AND {_within(column, MOST_TOKENS)})"


def is_cost(column: str) -> str:
    """Whether a column has what something cost."""
    return _within(column, MOST_COST)


def in_parts(column: str, parts: int) -> str:
    """A figure as a whole number of parts of one."""
    return f"CAST(round({column} * {parts}) AS INTEGER)"


def _within(column: str, most: int) -> str:
    # Texts and bytes are above all numbers.
    return f"(({column} BETWEEN -{most} AND {most}) IS TRUE)"
