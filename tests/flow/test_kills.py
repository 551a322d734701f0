"""A process with journals is killed with SIGKILL, and the same program is run again."""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

from tests.matrix import Fired
from tests.soak.kills import Killer, Range, ranges

GENERATE, RATE = "POST responses/batches", "POST ratings/batches"
STREAM = "GET responses/batches/{job}/stream"
KINDS = pytest.mark.parametrize("service", [True, False], ids=["keys", "hosted"], indirect=True)


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest) -> Generator[Range]:
    with ranges(keys=request.param) as kills:
        yield kills


@pytest.mark.row(86)
@KINDS
@pytest.mark.parametrize(
    ("route", "number", "moment"),
    [
        pytest.param("GET projects", 1, "answered", id="before anything is sent"),
        pytest.param(GENERATE, 1, "received", id="sent and not processed"),
        pytest.param(GENERATE, 2, "processed", id="processed and not answered"),
        pytest.param(GENERATE, 3, "answered", id="accepted"),
        pytest.param(STREAM, 2, "received", id="followed"),
        pytest.param(GENERATE, 5, "received", id="partly done"),
        pytest.param(RATE, 1, "received", id="all generated"),
        pytest.param(RATE, 4, "processed", id="partly rated"),
    ],
)
def test_a_killed_run_is_taken_up(
    service: Range, route: str, number: int, moment: str, fired: Fired
) -> None:
    """At each state of a chunk: nothing lost, swapped, foreign or done twice, or asked twice."""
    point = service.point(0, Killer(number, moment, route))

    fired(times=point.kills)
    assert point.clean, point


@pytest.mark.row(86)
@KINDS
def test_a_run_is_killed_wherever_it_is(service: Range, fired: Fired) -> None:
    """At seeded points, once or more often; `make soak` does the same at 500."""
    for seed in range(6):
        point = service.point(seed)

        fired(times=point.kills)
        assert point.clean, f"seed {seed}: {point}"


@pytest.mark.row(88)
@KINDS
@pytest.mark.parametrize("room", [200, 1_500, 2_500])
def test_a_full_disk_stops_before_the_next_chunk(service: Range, room: int, fired: Fired) -> None:
    """What cannot be journalled is not sent; with room again, the same call does the rest."""
    point = service.point(1, Killer(None, "", room=room))

    fired()
    assert re.match(
        "JournalError: the journal .* (no room left for it|File too large)", point.error
    )
    assert point.unjournalled == 0
    assert point.clean, point


@KINDS
def test_the_oracle_sees_a_run_that_forgot_its_journal(service: Range) -> None:
    """The check can fail: with its journal removed, the work is done twice."""
    killer = Killer(5, "received", GENERATE, forget=True)

    point = service.point(0, killer)

    assert killer.fired
    assert point.generated.duplicated
