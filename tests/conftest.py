"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["tests.matrix"]

# The same cases each time; `make soak` draws others with --hypothesis-profile=fresh.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fresh", deadline=None, print_blob=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
