"""Summaries: what is counted, what is a cluster, what is not measured."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async.errors import InputError
from elluminate_async.evaluation.statistics import Verdict, summarize
from tests.evaluation import scipys
from tests.evaluation.verdicts import verdicts


def test_without_verdicts_there_is_no_rate() -> None:
    """Nothing is neither 0 nor 1."""
    summary = summarize([])

    assert summary.criteria == {}
    overall = summary.overall
    assert (overall.n, overall.passed, overall.not_measured, overall.clusters) == (0, 0, 0, 0)
    assert overall.rate is overall.interval is overall.effective_n is overall.agreement is None
    assert overall.error_rate is overall.design_effect is None


def test_what_was_not_measured_is_never_a_no() -> None:
    """It is counted beside the rate, and changes neither the rate nor its interval."""
    measured = summarize(verdicts("YYYN")).criteria["c"]

    rate = summarize(verdicts("YYYN----")).criteria["c"]

    assert (rate.n, rate.passed, rate.not_measured) == (4, 3, 4)
    assert rate.rate == 0.75
    assert rate.error_rate == 0.5
    assert rate.interval == measured.interval
    assert rate.clusters == 4


def test_a_criterion_that_was_never_measured_has_no_rate() -> None:
    """Nor does it move the rate over all."""
    summary = summarize([*verdicts("Y-N", "read"), *verdicts("---", "dead")])

    dead = summary.criteria["dead"]
    assert (dead.n, dead.not_measured, dead.error_rate) == (0, 3, 1.0)
    assert dead.rate is dead.interval is dead.agreement is None
    assert (summary.overall.n, summary.overall.not_measured) == (2, 4)
    assert summary.overall.rate == 0.5


def test_one_epochs_interval_is_scipys() -> None:
    """Independent inputs have Wilson's interval, as scipy has it."""
    rate = summarize(verdicts("Y" * 37 + "N" * 13)).criteria["c"]
    low, high = scipys.wilson(37, 50)

    assert rate.interval is not None
    assert rate.interval.low == pytest.approx(low, rel=1e-12)
    assert rate.interval.high == pytest.approx(high, rel=1e-12)
    assert rate.design_effect == 1.0


def test_the_confidence_is_the_intervals() -> None:
    """A higher one has a wider interval, and says which it is."""
    rate = summarize(verdicts("YYN"), confidence=0.99).overall
    low, _ = scipys.wilson(2, 3, 0.99)

    assert rate.interval is not None
    assert rate.interval.confidence == 0.99
    assert rate.interval.low == pytest.approx(low, rel=1e-12)


@pytest.mark.parametrize("letter", ["Y", "N"])
def test_epochs_that_always_agree_are_worth_one(letter: str) -> None:
    """All YES, or all NO, in three epochs has the interval of one epoch."""
    once = summarize(verdicts([letter] * 30)).overall

    thrice = summarize(verdicts([letter * 3] * 30)).overall

    assert thrice.interval == once.interval
    assert (thrice.n, thrice.clusters, thrice.effective_n) == (90, 30, 30)
    assert thrice.design_effect == 3


def test_verdicts_of_an_input_are_one_cluster_over_all_criteria() -> None:
    """Ten criteria that always agree do not make the whole surer than each is."""
    answers = "Y" * 60 + "N" * 40
    one = summarize(verdicts(answers)).overall

    summary = summarize([v for c in range(10) for v in verdicts(answers, f"criterion {c}")])

    assert (summary.overall.n, summary.overall.clusters) == (1_000, 100)
    assert summary.overall.interval == one.interval


def test_criteria_come_in_the_order_in_which_they_were_first_seen() -> None:
    """Not sorted, and not by which was measured first."""
    found = summarize([*verdicts("-", "z"), *verdicts("Y", "a"), *verdicts("Y", "z")])

    assert list(found.criteria) == ["z", "a"]


@pytest.mark.parametrize(
    ("inputs", "agreement"),
    [
        (["YY", "NN"], 1.0),
        (["YN"], 0.0),
        (["YYN"], 1 / 3),
        (["YYNN"], 2 / 6),
        (["YYY", "YN", "Y"], 3 / 4),
        (["YY-", "Y-N", "--"], 1 / 2),
        (["Y", "N", "-"], None),
        (["Y-", "-"], None),
    ],
)
def test_agreement_is_the_share_of_equal_pairs(inputs: list[str], agreement: float | None) -> None:
    """Of all pairs of epochs of one input; without a pair there is none."""
    assert summarize(verdicts(inputs)).criteria["c"].agreement == (
        None if agreement is None else pytest.approx(agreement)
    )


def test_agreement_is_of_one_criterion_only() -> None:
    """Two criteria that differ on an answer do not disagree."""
    summary = summarize([*verdicts(["YY"] * 5, "short"), *verdicts(["NN"] * 5, "true")])

    assert summary.overall.agreement == 1.0
    assert summarize([*verdicts("Y", "short"), *verdicts("N", "true")]).overall.agreement is None


def test_the_same_verdicts_twice_are_no_surer() -> None:
    """Duplicates enlarge their clusters: the interval stays, but for the design effect."""
    once = verdicts("Y" * 70 + "N" * 30)

    twice = summarize([*once, *once]).overall

    assert (twice.n, twice.clusters) == (200, 100)
    assert twice.interval == summarize(once).overall.interval


def test_one_input_is_one_observation() -> None:
    """However often it was asked."""
    rate = summarize(verdicts(["YYYYYYYYN"])).overall

    assert rate.effective_n == 1
    assert rate.interval is not None
    assert rate.interval.high - rate.interval.low > 0.7


@pytest.mark.parametrize("passed", ["NO", "YES", 1, 0, 0.5])
def test_what_is_no_verdict_is_refused(passed: object) -> None:
    """A text "NO" is true to Python, and would be counted as passed."""
    verdict = Verdict(3, 0, "polite", passed)  # pyright: ignore[reportArgumentType]

    with pytest.raises(InputError, match=r"True, False or None.*'polite' on the input 3"):
        summarize([verdict])


@given(
    st.lists(
        st.builds(
            Verdict,
            st.integers(0, 6),
            st.integers(0, 3),
            st.sampled_from("ab"),
            st.sampled_from([True, False, None]),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_every_verdict_is_counted_once_in_whatever_order(
    given: list[Verdict], shuffler: random.Random
) -> None:
    """The numbers add up, the effective n is in its bounds, and the order tells nothing."""
    summary = summarize(given)
    overall = summary.overall

    assert overall.n + overall.not_measured == len(given)
    for field in ("n", "passed", "not_measured"):
        rates = summary.criteria.values()
        assert sum(getattr(rate, field) for rate in rates) == getattr(overall, field)
    for rate in (overall, *summary.criteria.values()):
        assert (rate.interval is None) == (rate.rate is None) == (rate.n == 0)
        if rate.interval is not None and rate.rate is not None and rate.effective_n is not None:
            assert 0 <= rate.interval.low <= rate.rate <= rate.interval.high <= 1
            assert 1 <= rate.effective_n <= rate.n
    shuffled = [*given]
    shuffler.shuffle(shuffled)
    assert summarize(shuffled).overall == overall


def test_summaries_and_gates_need_no_extra() -> None:
    """Without numpy and scipy all but `compare` works, and that names the install command."""
    code = (
        "import sys\n"
        "sys.modules['numpy'] = sys.modules['scipy'] = None\n"
        "from elluminate_async.errors import MissingExtraError\n"
        "from elluminate_async.evaluation.comparing import compare\n"
        "from elluminate_async.evaluation.gate import gate\n"
        "from elluminate_async.evaluation.statistics import Verdict, summarize\n"
        "verdicts = [Verdict(i, e, 'c', i % 5 > 0) for i in range(50) for e in range(3)]\n"
        "assert gate(summarize(verdicts), pass_rate=0.8).passed\n"
        "try:\n"
        "    compare(verdicts, verdicts)\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "pip install 'elluminate-async[stats]'" in done.stdout
