"""A sample of requests made from the server's own description; the soak makes 10,000 of them."""

from __future__ import annotations

import os

import pytest

from tests.soak.schema_cases import PROGRAM, Plan, one_round


async def test_no_request_that_the_description_allows_for_ends_in_another_status() -> None:
    """Five drawn requests of each operation: none is answered by 5xx, or undocumented."""
    if not PROGRAM.exists():
        reason = "schemathesis is not installed; install it with: make schemathesis"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    done = await one_round(Plan(seed=1, phases="fuzzing", examples=5, known_ids=True))

    assert done.is_clean, done.output
    assert done.cases > 250
