"""What of the tests is measured, when `coverage` runs them.

Programs that tests start run as those of users do. Tests of large numbers say nothing more than
small ones do, and would take twice their time: they have the mark ``unmeasured``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator

import pytest
from coverage import Coverage
from coverage.exceptions import CoverageWarning

_CONFIG = os.environ.get("COVERAGE_PROCESS_CONFIG")


def measured() -> dict[str, str]:
    """Of the environment of a program that is measured; for what only programs can do."""
    return {} if _CONFIG is None else {"COVERAGE_PROCESS_CONFIG": _CONFIG}


def _not_in_programs() -> None:
    # Set whenever measuring begins; the workers of pytest-xdist have it from the first process.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


_not_in_programs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Stop measuring for as long as the test takes, its fixtures included."""
    is_large = item.get_closest_marker("unmeasured") is not None
    measuring = Coverage.current() if is_large else None
    if measuring is not None:
        measuring.stop()
    try:
        return (yield)
    finally:
        if measuring is not None:
            with warnings.catch_warnings():
                # That what is measured is imported by then: it was when measuring stopped.
                warnings.simplefilter("ignore", CoverageWarning)
                measuring.start()
            _not_in_programs()
