"""A small cluster of Ray for tests, in this process's own care."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

ray: Any = importlib.import_module("ray")


@contextmanager
def a_cluster(cpus: int = 2) -> Generator[None]:
    """This process is the driver of one, which is gone afterwards."""
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
