"""What is told of an evaluation's progress."""

from __future__ import annotations

import pytest

from elluminate_async import Progress, Traffic
from elluminate_async.progress.text import duration, line, told


@pytest.mark.parametrize(
    ("progress", "traffic", "text"),
    [
        (Progress("evaluate", 10, 0, 0, 0.0), Traffic(3, 0, 0), "0.0/s, 3 chunks in flight"),
        (
            Progress("evaluate", 300, 90, 10, 20.0, 1_500_000, 0.25),
            Traffic(10, 4, 7),
            "5.0/s, 10 failed, 10 chunks in flight, 4 throttled, 7 retried, 1.5M tokens, "
            "cost 0.25, 40 s left",
        ),
        (
            Progress("evaluate", 10, 10, 0, 4.0, 12_345),
            Traffic(0, 0, 0),
            "2.5/s, 0 chunks in flight, 12k tokens",
        ),
        (Progress("evaluate", None, 8, 0, 4.0), None, "2.0/s, in 4 s"),
    ],
)
def test_a_line_has_all_that_is_known(
    progress: Progress, traffic: Traffic | None, text: str
) -> None:
    """And nothing that is not, such as a time left before anything has come."""
    assert told(progress, traffic) == text


def test_durations_are_told_as_people_say_them() -> None:
    """Seconds, minutes, hours."""
    assert [duration(s) for s in (0.4, 59.6, 187, 3_723)] == [
        "0 s", "1:00 min", "3:07 min", "1:02:03 h"
    ]  # fmt: skip


def test_a_line_says_what_is_counted() -> None:
    """The operation, and the total where it is known."""
    whole = Progress("rate", 8, 3, 1, 2.0)
    endless = Progress("generate", None, 3, 1, 2.0)

    assert line(whole, "x") == "rating  4 of 8 items, x"
    assert line(endless, told(endless, None, has_failed=True)) == (
        "generating  4 items, 2.0/s, 1 failed, stopped after 2 s"
    )
