"""A small cluster of Ray for tests, in this process's own care."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from benchmarks.common.ray_cluster import begin

ray: Any = importlib.import_module("ray")


@contextmanager
def a_cluster(cpus: int = 2) -> Generator[None]:
    """This process is the driver of one, on loopback, which is gone afterwards.

    Its workers have the environment that this process has now.
    """
    # Its sockets need paths that are short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        begin(folder, cpus=cpus)
        try:
            yield
        finally:
            ray.shutdown()
