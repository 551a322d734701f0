"""Jobs that answer oddly: without an id, for another chunk, with gaps, without their rows."""

from __future__ import annotations

import asyncio

import pytest

from elluminate_async import OutcomeUnknownError
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService
from elluminate_async.testing.exchange import Exchange, Process, Reply
from elluminate_async.testing.faults import refuse
from tests.testing.bench import OPTIONS, bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


GENERATE = "POST responses/batches"
RATE = "POST ratings/batches"
LISTING = "GET responses"


def hosted(lag: float = 0.0) -> ScriptedService:
    return ScriptedService(keys=False, results=False, lag=lag)


@pytest.mark.parametrize("kind", ["null", "empty", "html"])
async def test_a_chunk_without_a_job_id_is_asked_for_again_by_its_key(kind: str) -> None:
    """The work is done once and its result arrives."""
    service = ScriptedService()
    fault = Fault(kind, on=GENERATE, times=1)
    async with bench(service, inputs_of(5)) as at:
        service.faults = [fault]
        report = at.check(await at.generate())
    assert fault.fired == 1
    assert len(report.ok) == 5
    assert service.traffic.requests[GENERATE] == 2
    assert service.ledger.generations == 5


class Stale:
    """Something on the way that passes a chunk on, and answers with what it had before."""

    def __init__(self) -> None:
        self._before: Reply | None = None

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        reply = await process()
        stale, self._before = self._before or reply, reply
        return stale


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
async def test_a_job_of_another_chunk_is_not_followed_in_place_of_its_own(keys: bool) -> None:
    """By its key the chunk is asked for again; without, the listing tells what became of it."""
    service = ScriptedService(keys=keys, results=keys)
    stale = Fault(Stale(), on=GENERATE, times=2)
    options = OPTIONS.replace(chunk_size=5, max_concurrency=1)
    async with bench(service, inputs_of(20), options) as at:
        service.faults = [stale]
        report = at.check(await at.generate())
    assert stale.fired == 2
    assert report.clean, report
    assert len(report.ok) == 20
    assert service.traffic.requests[GENERATE] == (5 if keys else 4)
    assert service.ledger.generations == 20


class Swapped:
    """Something on the way that gives two chunks in flight each other's answers."""

    def __init__(self) -> None:
        self._first: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._second: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def __call__(self, exchange: Exchange, process: Process) -> Reply:
        reply = await process()
        if not self._first.done():
            self._first.set_result(reply)
            return await self._second
        self._second.set_result(reply)
        return await self._first


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
async def test_ratings_of_other_responses_are_not_taken(keys: bool) -> None:
    """A job says what it has rated: where that is something else, its ratings are unknown."""
    service = ScriptedService(keys=keys)
    options = OPTIONS.replace(chunk_size=5, max_concurrency=2)
    async with bench(service, inputs_of(10), options) as at:
        batch = await at.generate()
        service.faults = [swapped := Fault(Swapped(), on=RATE, times=2)]
        ratings = await at.client.ratings.rate_many(batch)
        report = at.check_ratings(ratings, batch)
    assert swapped.fired == 2
    assert report.clean, report
    assert len(report.unknown) == 10


async def test_what_a_result_leaves_out_is_unknown() -> None:
    """A job that succeeded proves no item undone: what it does not show may be there."""
    service = ScriptedService()
    async with bench(service, inputs_of(10)) as at:
        service.faults = [Fault("row-missing")]
        batch = await at.generate()
        report = at.check(batch)
        assert report.clean, report
        assert report.unknown == (0, 7)
        assert batch.failed[0].code == "no_result"

        ratings = await at.client.ratings.rate_many(batch)
        report = at.check_ratings(ratings, batch)
        assert report.clean, report
        assert len(report.unknown) == 2


async def test_a_failed_job_whose_listing_cannot_be_read_is_unknown() -> None:
    """What a failed job made before it failed is not called failed unseen."""
    service = hosted()
    failing = Fault("job-fails", on=GENERATE)
    unreadable = Fault(refuse(500), on=LISTING, skip=1)
    async with bench(service, inputs_of(6), OPTIONS.replace(deadline=2)) as at:
        # Two passes agree before the first chunk is sent: one page, read once.
        service.faults = [failing, unreadable]
        batch = await at.generate()
        report = at.check(batch)
    assert failing.fired == 1
    assert unreadable.fired > 1
    assert report.clean, report
    assert len(report.unknown) == 6
    assert all(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())


async def test_failed_ratings_whose_listing_cannot_be_read_are_unknown() -> None:
    """The same holds for ratings."""
    service = hosted()
    failing = Fault("job-fails", on=RATE)
    unreadable = Fault(refuse(500), on=LISTING)
    async with bench(service, inputs_of(6)) as at:
        batch = await at.generate()
        service.faults = [failing, unreadable]
        options = OPTIONS.replace(deadline=2)
        ratings = await at.client.ratings.rate_many(batch, options=options)
        report = at.check_ratings(ratings, batch)
    assert failing.fired == 1
    assert unreadable.fired > 1
    assert report.clean, report
    assert len(report.unknown) == 6


async def test_ratings_of_a_failed_job_that_are_shown_later_are_found() -> None:
    """The three that were made arrive, and the other three have failed."""
    service = hosted(lag=0.3)
    async with bench(service, inputs_of(6), OPTIONS.replace(settle=1.0)) as at:
        batch = await at.generate()
        service.faults = [Fault("job-fails", on=RATE)]
        ratings = await at.client.ratings.rate_many(batch)
        report = at.check_ratings(ratings, batch)
    assert (report.ok, report.failed) == ((0, 1, 2), (3, 4, 5))
    assert report.clean
