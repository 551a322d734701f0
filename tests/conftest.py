"""What all tests share."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.matrix"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
