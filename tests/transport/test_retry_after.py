"""`Retry-After`: seconds or a date, and what is not usable."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from elluminate_async.transport.retry_after import parse_retry_after

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), ("0.5", 0.5), (" 3 ", 3.0), ("1e9", 1e9), ("120", 120.0)],
)
def test_seconds(value: str, seconds: float) -> None:
    """A number is seconds, fractions allowed; what is too long is not decided here."""
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "0",
        "-1",
        "nan",
        "inf",
        "-inf",
        "soon",
        "2, 3",
        "0x10",
        "12 seconds",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "9" * 400,
        "\x00",
    ],
)
def test_unusable(value: str | None) -> None:
    """Not a wait: the client's own back-off is taken."""
    assert parse_retry_after(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:42 GMT",
        "Sunday, 06-Nov-94 08:49:42 GMT",
        "Sun Nov  6 08:49:42 1994",
    ],
)
def test_dates_against_the_answers_date(value: str) -> None:
    """The three HTTP date forms, read against the answer's own clock and not against ours."""
    assert parse_retry_after(value, date=DATE) == 5.0


def test_a_date_without_a_date_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then our own clock is all there is."""
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)

    assert parse_retry_after(formatdate(1_000_000_060, usegmt=True)) == 60


def test_a_past_date() -> None:
    """Nothing to wait for: the client's own back-off is taken."""
    assert parse_retry_after(DATE, date="Sun, 06 Nov 1994 09:00:00 GMT") is None
    assert parse_retry_after(DATE) is None


def test_an_unusable_date_header() -> None:
    """A date that cannot be set against another one is no wait."""
    assert parse_retry_after(DATE, date="yesterday") is None
