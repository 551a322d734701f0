"""The libraries of tables, imported when they are asked for.

They are typed as `Any`: what is known of a user's table is known when it is there.
"""

from __future__ import annotations

from typing import Any

from elluminate_async.errors import MissingExtraError

EXTRA = "tables"


def narwhals(feature: str) -> Any:
    """The library that reads tables of any other.

    Args:
        feature: What needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import narwhals.stable.v2 as library
    except ImportError:
        raise MissingExtraError(feature, EXTRA) from None
    return library


def pyarrow(feature: str) -> Any:
    """The library that holds and writes tables; as `narwhals`."""
    try:
        import pyarrow as library  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingExtraError(feature, EXTRA) from None
    return library


def parquet(feature: str) -> Any:
    """The part of pyarrow that writes Parquet; as `narwhals`."""
    try:
        import pyarrow.parquet as library  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingExtraError(feature, EXTRA) from None
    return library


def pandas(feature: str) -> Any:
    """pandas, which is no part of the extra: only its users need it."""
    try:
        import pandas as library  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingExtraError(feature, EXTRA, beside="pandas") from None
    return library


def polars(feature: str) -> Any:
    """polars, which is no part of the extra: only its users need it."""
    try:
        import polars as library
    except ImportError:
        raise MissingExtraError(feature, EXTRA, beside="polars") from None
    return library
