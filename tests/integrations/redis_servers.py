"""A Redis for tests: Debian's, on a random port. Skipped where it is missing, but in CI."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from benchmarks.common.redis_server import FOUND, RedisServer


@contextmanager
def a_redis(*arguments: str) -> Generator[RedisServer]:
    """One that is ended, with more options of ``redis-server``."""
    if FOUND is None:
        assert not os.environ.get("CI"), "redis-server is not installed"
        pytest.skip("redis-server is not installed")
    with RedisServer(arguments) as server:
        yield server
