"""Libraries of tables without types of their own, for tests."""

from __future__ import annotations

import importlib
from typing import Any

np: Any = importlib.import_module("numpy")
pa: Any = importlib.import_module("pyarrow")
pd: Any = importlib.import_module("pandas")
pl: Any = importlib.import_module("polars")
pq: Any = importlib.import_module("pyarrow.parquet")
