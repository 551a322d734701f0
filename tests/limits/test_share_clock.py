"""What the answers of a share tell of its clock."""

from __future__ import annotations

import random
import time

import pytest

from elluminate_async.batch.share_clock import Moment, ShareClock


def test_an_answer_that_came_late_is_placed_by_those_before_it() -> None:
    """It was given between question and answer; what is known of the clock says when."""
    clock = ShareClock()
    assert clock.moment(5.0, asked=100.0, answered=100.002)[:2] == (100.0, 100.002)

    earliest, latest, _ = clock.moment(6.0, asked=100.9, answered=101.2)

    # A clock may go a thousandth too fast or too slow.
    assert earliest == pytest.approx(101.0 - 0.0015, abs=1e-5)
    assert latest == pytest.approx(101.002 + 0.0015, abs=1e-5)


def test_the_true_moment_is_within_the_bounds() -> None:
    """Whatever the ways there and back take, and where the clock goes as wrong as is allowed."""
    draw, clock = random.Random(1), ShareClock()
    now, widths = 1000.0, list[float]()
    for _ in range(1000):
        # Now and then one is late.
        there, back = (draw.expovariate(draw.choice([500] * 9 + [5])) for _ in range(2))
        decided = now + there

        told = 50.0 + 0.9991 * decided
        earliest, latest, ahead = clock.moment(told, asked=now, answered=decided + back)

        assert earliest - 1e-9 <= decided <= latest + 1e-9
        assert ahead == 0
        widths.append((latest - earliest) / (there + back))
        now = decided + back + draw.uniform(0, 0.01)
    # Mostly much closer than the answer alone.
    assert sorted(widths)[500] < 0.3


@pytest.mark.parametrize("set_to", [0.0, 1e6])
def test_a_clock_that_was_set_counts_from_its_last_answer(set_to: float) -> None:
    """Or that of another actor, which began anew; where it went ahead that is told."""
    clock = ShareClock()
    clock.moment(500.0, asked=100.0, answered=100.001)

    moment = clock.moment(set_to, asked=101.0, answered=101.5)

    assert moment[:2] == pytest.approx((101.0, 101.5))
    assert moment.ahead == (0 if set_to < 500 else pytest.approx(1e6 - 501.5, abs=0.01))
    moment = clock.moment(set_to + 1, asked=102.0, answered=103.0)
    assert moment.latest < 102.51
    assert moment.ahead == 0


def test_what_is_told_of_a_slot_is_from_the_answer_on() -> None:
    """The delay from the moment at which the share decided; in a hold there is none."""
    now = time.monotonic()
    moment = Moment(earliest=now - 2.5, latest=now - 0.5, ahead=0.0)

    taken = moment.reservation(True, 1.0, 0.0)
    assert taken.is_taken
    assert taken.error == pytest.approx(2.0)
    assert now + 1.0 - 0.5 - time.monotonic() <= taken.delay <= 1.0 - 0.5
    assert moment.reservation(False, 0.0, 3.0)[:3] == (False, 0.0, 3.0)
