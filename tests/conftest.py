"""What all tests share."""

from __future__ import annotations

import gc
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from elluminate_async.limits import backoff

# Ray tells its makers how it is used; what tests start inherits this.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

pytest_plugins = ["tests.matrix", "tests.measured"]

# The same cases each time; `make soak` draws others, and more, with --hypothesis-profile=fresh.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fresh", deadline=None, print_blob=True, max_examples=500)
settings.load_profile("same")


LONG = {
    "cli/test_interrupts.py", "evaluation/test_kills.py", "faults/test_hostile.py",
    "faults/test_load.py", "faults/test_positions.py", "flow/test_kills.py",
    "integrations/test_ray.py", "integrations/test_ray_kill.py", "integrations/test_service.py",
    "official/test_differential.py", "official/test_official_clients.py",
    "official/test_routes.py", "soak/test_schema_cases.py", "test_benchmarks.py",
    "test_collection.py", "test_package.py",
}  # fmt: skip
"""Files with tests of many seconds: begun last, one leaves all other workers without work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, each file's tests together for what they share."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in LONG)


@pytest.fixture(scope="module", autouse=True)
def only_its_own_garbage() -> None:
    """Leave what was there before a file's tests out of what their collections look at.

    Some hundred tests collect garbage, to see what it warns of. The modules, the tests and the
    validators of the server's routes are a million objects, none of them theirs.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def quick_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to no wait between attempts, where a test asks what is sent and not when."""
    monkeypatch.setattr(backoff, "BACKOFF_BASE", 0.01)
    monkeypatch.setattr(backoff, "BACKOFF_CAP", 0.05)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs, at DEBUG."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)
