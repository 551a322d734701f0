"""Headless Chromium, for tests of pages.

Needs Chromium on the path, which `make test` installs where it may. Where it is missing the tests
are skipped, but in CI, where none may be.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without any of its own talk to the network."""
    path = shutil.which("chromium")
    if path is None:
        assert not os.environ.get("CI"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    playwright: Any = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def keeping(kept: list[str], what: str) -> Callable[[Any], None]:
    """Keeps that attribute of each event."""

    def keep(event: Any) -> None:
        kept.append(str(getattr(event, what)))

    return keep
