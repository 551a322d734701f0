"""Intervals of rates, against scipy's, published ones, and simulations of known rates."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from elluminate_async.errors import InputError
from elluminate_async.evaluation.intervals import (
    ClusterSums,
    effective_n,
    student_quantile,
    wilson,
)
from tests.evaluation import scipys

COUNTS = [
    (0, 1), (1, 1), (0, 20), (20, 20), (1, 29), (15, 148), (81, 263), (3, 7), (5, 10), (9, 10),
    (50, 100), (95, 100), (2, 1_000), (998, 1_000), (400, 401), (360, 400), (340, 400),
    (12, 5_000), (77_777, 100_000), (999_999, 1_000_000), (1, 1_000_000),
]  # fmt: skip


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("passed", "n"), COUNTS)
def test_wilsons_interval_is_scipys(passed: int, n: int, confidence: float) -> None:
    """Both bounds, to 12 digits, on 21 data sets and three confidences."""
    low, high = scipys.wilson(passed, n, confidence)

    ours = wilson(passed, n, confidence)

    assert ours.low == pytest.approx(low, rel=1e-9, abs=1e-14)
    assert ours.high == pytest.approx(high, rel=1e-12)
    assert ours.confidence == confidence


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(
    passed: int, n: int, low: float, high: float
) -> None:
    """The score intervals of Newcombe 1998, table I, to their four digits."""
    interval = wilson(passed, n)

    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_at_none_and_at_all_the_bound_is_0_and_1() -> None:
    """Exactly: no rounding leaves a bound outside of what a rate can be."""
    for n in (1, 3, 17.5, 1e6):
        assert wilson(0, n).low == 0.0
        assert wilson(n, n).high == 1.0


def test_a_part_of_a_verdict_can_be_counted() -> None:
    """The interval of an n that is not whole lies between those of its neighbours."""
    narrower, between, wider = (wilson(0.8 * n, n) for n in (11, 10.5, 10))

    assert narrower.low > between.low > wider.low
    assert narrower.high < between.high < wider.high


@pytest.mark.parametrize(
    ("passed", "n"), [(0, 0), (1, -1), (-1, 5), (6, 5), (1, math.inf), (math.nan, 5), (1, math.nan)]
)
def test_what_is_no_share_has_no_interval(passed: float, n: float) -> None:
    """It is an `InputError`, not a division by zero or a bound that is not a number."""
    with pytest.raises(InputError, match=r"passed must|n must"):
        wilson(passed, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.5, math.nan, "0.95", None, True])
def test_what_is_no_confidence_is_refused(confidence: float) -> None:
    """A confidence of 95 is the usual slip, and the text shows the right form."""
    with pytest.raises(InputError, match=r"such as 0\.95"):
        wilson(1, 2, confidence)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_students_quantile_is_scipys(confidence: float) -> None:
    """Exact at 1 and 2 degrees of freedom; the error falls from under 1 % at 3 to 10⁻⁹ at 100."""
    for freedom, error in ((1, 1e-12), (2, 1e-12), (3, 1e-2), (10, 1e-4), (100, 1e-9)):
        theirs = scipys.student_quantile(confidence, freedom)
        assert student_quantile(confidence, freedom) == pytest.approx(theirs, rel=error)


def sums(*clusters: tuple[int, int]) -> ClusterSums:
    """Of clusters, each its number of verdicts and how many of them passed."""
    found = ClusterSums()
    for n, passed in clusters:
        found.add(n, passed)
    return found


def test_clusters_of_one_are_independent_verdicts() -> None:
    """Their effective n is their number, so that the interval is Wilson's own."""
    assert effective_n(sums(*[(1, 1)] * 80, *[(1, 0)] * 20)) == 100


def test_clusters_that_agree_within_count_as_one_each() -> None:
    """Five epochs that always say the same are worth one."""
    assert effective_n(sums(*[(5, 5)] * 80, *[(5, 0)] * 20)) == 100


def test_clusters_that_are_all_alike_count_all_their_verdicts() -> None:
    """No more than n: verdicts that spread more evenly than chance are not worth more."""
    assert effective_n(sums(*[(5, 4)] * 100)) == 500


@pytest.mark.parametrize("passed", [0, 3])
def test_verdicts_that_are_all_equal_count_by_clusters(passed: int) -> None:
    """All YES tells nothing of how alike an input's verdicts are: the cautious end is taken."""
    assert effective_n(sums(*[(3, passed)] * 40)) == 40


def test_one_cluster_is_worth_one_verdict() -> None:
    """However many epochs one input has."""
    assert effective_n(sums((7, 4))) == 1


def test_the_effective_n_is_the_formulas_on_a_worked_example() -> None:
    """By hand: the linearised variance of a ratio over the variance of independent verdicts."""
    clusters = [(3, 3), (3, 2), (3, 3), (2, 0), (3, 1), (3, 3), (1, 1), (3, 2), (3, 0), (3, 3)] * 10
    n, passed = sum(n for n, _ in clusters), sum(x for _, x in clusters)
    p, m = passed / n, len(clusters)
    by_clusters = m / (m - 1) * sum((x - p * k) ** 2 for k, x in clusters) / n**2
    independent = p * (1 - p) / (n - 1)
    ratio = scipys.student_quantile(0.95, n - 1) / scipys.student_quantile(0.95, m - 1)

    expected = n * independent / by_clusters * ratio**2

    assert n / 3 < expected < n
    assert effective_n(sums(*clusters)) == pytest.approx(expected, rel=1e-5)


CASES = [
    (inputs, epochs, alike, p)
    for inputs, epochs, alike, p in product(
        (100, 400, 1_000), (1, 2, 5), (0.0, 0.3, 0.8), (0.1, 0.5, 0.9)
    )
    if epochs > 1 or not alike
]


def test_intervals_hold_the_true_rate_as_often_as_they_say() -> None:
    """95 % intervals: 94 to 96 % on average, of inputs, epochs and correlations of every size.

    Single cases are given two points more: their 2,000 draws stray by one, and the discrete
    numbers of 100 inputs in one epoch by another, in Wilson's interval as everywhere.
    """
    random = np.random.default_rng(20_241_101)
    held = {case: share_that_holds(*case, draws=2_000, random=random) for case in CASES}

    def average(place: int, value: float) -> float:
        return float(np.mean([share for case, share in held.items() if case[place] == value]))

    assert 0.945 <= np.mean([*held.values()]) <= 0.955
    for place in range(4):
        for value in {case[place] for case in CASES}:
            assert 0.94 <= average(place, value) <= 0.96, (place, value)
    assert all(0.92 <= share <= 0.98 for share in held.values())


def share_that_holds(
    inputs: int, epochs: int, alike: float, p: float, *, draws: int, random: np.random.Generator
) -> float:
    """How many of ``draws`` evaluations have the true rate p in their 95 % interval.

    Each input passes with a probability of its own (a beta distribution), so that any two of its
    verdicts are correlated by ``alike``. How many inputs pass 0, 1, ... times is one draw.
    """
    times = np.arange(epochs + 1)
    chances = scipys.clustered(epochs, p, alike)
    counts = random.multinomial(inputs, chances, size=draws)
    held = 0
    for passed, squares in zip(
        (counts @ times).tolist(), (counts @ times**2).tolist(), strict=True
    ):
        drawn = ClusterSums(
            clusters=inputs, n=inputs * epochs, passed=passed, largest=epochs,
            nn=inputs * epochs**2, nx=epochs * passed, xx=squares,
        )  # fmt: skip
        effective = effective_n(drawn)
        interval = wilson(passed / drawn.n * effective, effective)
        held += interval.low <= p <= interval.high
    return held / draws


def test_epochs_taken_for_inputs_would_be_far_too_sure() -> None:
    """Of five epochs that mostly agree, the plain interval holds the true rate in under 70 %."""
    random = np.random.default_rng(3)
    rates = random.beta(0.8 / 4, 0.2 / 4, (1_000, 200))
    passed = random.binomial(5, rates).sum(1).tolist()

    plain = [wilson(total, 1_000) for total in passed]

    assert np.mean([interval.low <= 0.8 <= interval.high for interval in plain]) < 0.7
