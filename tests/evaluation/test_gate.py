"""Gates: passed, failed and not measured are three things."""

from __future__ import annotations

import math

import pytest

from elluminate_async.errors import InputError
from elluminate_async.evaluation.gate import gate
from elluminate_async.evaluation.statistics import summarize
from tests.evaluation.verdicts import verdicts


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ("Y" * 80 + "N" * 20, "passed"),
        ("Y" * 79 + "N" * 21, "failed"),
        ("Y" * 79 + "N" * 19 + "-" * 2, "passed"),
        ("Y" * 78 + "N" * 20 + "-" * 2, "failed"),
        ("Y" * 97 + "-" * 3, "not measured"),
        ("N" * 97 + "-" * 3, "not measured"),
        ("-" * 100, "not measured"),
        ("", "not measured"),
    ],
)
def test_the_status_by_what_was_measured(answers: str, status: str) -> None:
    """A threshold that is met exactly passes; too little that was measured never fails."""
    result = gate(summarize(verdicts(answers)), pass_rate=0.8, max_error_rate=0.02)

    assert result.status == status
    assert result.passed == (status == "passed")
    assert bool(result.reasons) == (status != "passed")


def test_reasons_tell_the_numbers() -> None:
    """A log's reader needs no other line to know why."""
    low = gate(summarize(verdicts("Y" * 75 + "N" * 25)), pass_rate=0.8)
    lost = gate(summarize(verdicts("Y" * 90 + "-" * 10)), max_error_rate=0.02)

    assert low.reasons == [
        "all criteria: 75 of 100 verdicts passed, a rate of 0.75 "
        "(0.95 interval 0.657 to 0.8245) and below 0.8"
    ]
    assert lost.reasons == [
        "all criteria: 10 of 100 verdicts were not measured, a share of 0.1 and over 0.02"
    ]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("Y" * 9 + "-", "would have passed whatever"),
        ("N" * 9 + "-", "would have failed whatever"),
    ],
)
def test_missing_verdicts_that_decide_nothing_are_told(answers: str, told: str) -> None:
    """The limit on what is missing holds all the same: it is whether the rest is trusted."""
    result = gate(summarize(verdicts(answers)), pass_rate=0.8, max_error_rate=0.02)

    assert result.status == "not measured"
    assert told in result.reasons[0]


def test_missing_verdicts_that_would_decide_are_not_commented() -> None:
    """Where they could turn it either way, nothing is said of what would have been."""
    result = gate(summarize(verdicts("Y" * 8 + "NN--")), pass_rate=0.8, max_error_rate=0.02)

    assert "whatever" not in result.reasons[0]


def test_without_a_limit_one_measured_verdict_is_enough() -> None:
    """None of `max_error_rate` lets any share be missing, but not all."""
    assert gate(summarize(verdicts("Y" + "-" * 9)), pass_rate=0.8).status == "passed"
    assert gate(summarize(verdicts("-" * 9)), pass_rate=0.0).status == "not measured"


def test_without_a_pass_rate_any_measured_rate_passes() -> None:
    """Whoever wants to know only whether the judge worked."""
    assert gate(summarize(verdicts("N" * 9)), max_error_rate=0.0).passed


def test_by_criterion_one_that_failed_fails_the_whole() -> None:
    """Also beside one that could not be measured: nothing that it tells would help."""
    summary = summarize(
        [*verdicts("Y" * 9, "good"), *verdicts("N" * 9, "bad"), *verdicts("-" * 9, "lost")]
    )

    result = gate(summary, pass_rate=0.5, max_error_rate=0.5, per_criterion=True)

    assert result.status == "failed"
    assert [reason.partition(":")[0] for reason in result.reasons] == [
        "criterion 'bad'",
        "criterion 'lost'",
    ]


def test_by_criterion_one_that_was_lost_leaves_the_whole_open() -> None:
    """It is not measured, though over all criteria the share of what is missing is small."""
    summary = summarize(
        [*verdicts("Y" * 90, "good"), *verdicts("Y" * 90, "too"), *verdicts("-", "lost")]
    )

    assert gate(summary, pass_rate=0.8, max_error_rate=0.02).passed
    by_criterion = gate(summary, pass_rate=0.8, max_error_rate=0.02, per_criterion=True)
    assert by_criterion.status == "not measured"
    assert by_criterion.reasons == ["criterion 'lost': none of 1 verdicts was measured"]


def test_by_criterion_without_criteria_nothing_was_measured() -> None:
    """No criterion failed, and that is no pass."""
    assert gate(summarize([]), pass_rate=0.8, per_criterion=True).status == "not measured"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 80, math.nan, math.inf, "0.8", True])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    """80 for 80 % is the usual slip."""
    with pytest.raises(InputError, match="pass_rate must be a number from 0 to 1"):
        gate(summarize([]), pass_rate=threshold)
    with pytest.raises(InputError, match="max_error_rate must be a number from 0 to 1"):
        gate(summarize([]), max_error_rate=threshold)


def test_a_gate_without_a_threshold_is_refused() -> None:
    """It would let everything pass, unnoticed."""
    with pytest.raises(InputError, match="pass_rate or a max_error_rate"):
        gate(summarize([]))
