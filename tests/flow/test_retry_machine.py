"""A service whose machine is in trouble: 5xx other than a plain 500, with keys."""

from __future__ import annotations

import pytest

from elluminate_async import BatchOptions
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService
from elluminate_async.testing.faults import refuse
from tests.testing.bench import bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = BatchOptions(chunk_size=10, retry_for=60, deadline=300)
BATCHES = "POST responses/batches"


@pytest.mark.parametrize("status", [503, 507, 529])
async def test_a_full_disk_is_waited_out(status: int) -> None:
    """By time, as a 503 is: ten refusals with ``Retry-After`` are more than `max_attempts`."""
    full = Fault(refuse(status, retry_after="2"), on=BATCHES, times=10)
    async with bench(ScriptedService(faults=[full]), inputs_of(10), OPTIONS) as at:
        batch = await at.generate()

        assert full.fired == 10
        assert at.check(batch).clean
        assert not batch.failed


async def test_what_the_service_does_not_do_is_not_asked_for_long() -> None:
    """501 comes again: `max_attempts` sendings, and then it is told."""
    fault = Fault(refuse(501), on=BATCHES)
    async with bench(ScriptedService(faults=[fault]), inputs_of(10), OPTIONS) as at:
        batch = await at.generate()

        assert fault.fired == OPTIONS.max_attempts
        assert {error.status for error in batch.failed.values()} == {501}
