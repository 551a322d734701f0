"""Libraries without types of their own, or of ones that leave much open."""

from __future__ import annotations

import importlib
from typing import Any

pa: Any = importlib.import_module("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")


def ray() -> Any:
    """Ray, which takes a second to import: for who is a part of a cluster."""
    importlib.import_module("ray.data")
    return importlib.import_module("ray")
