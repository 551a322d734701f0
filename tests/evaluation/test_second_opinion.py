"""Intervals, tests and agreement against statsmodels', which shares no code with them.

scipy's figures are in the other tests of this folder. Where statsmodels has another figure, the
test says which of the two is right, and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from elluminate_async.evaluation.comparing import EXACT_PAIRS, holm, mcnemar
from elluminate_async.evaluation.intervals import ClusterSums, effective_n, wilson
from elluminate_async.evaluation.statistics import Verdict, summarize
from tests.evaluation import scipys, second_opinion

SEEDS = range(24)


def counts(seed: int) -> tuple[int, int]:
    """How many passed of how many, of sizes from 1 to 100,000."""
    random = np.random.default_rng(seed)
    n = int(10 ** random.uniform(0, 5))
    return int(random.binomial(n, random.uniform())), n


EDGES = [(0, 1), (1, 1), (0, 2), (0, 50), (50, 50), (1, 100_000), (99_999, 100_000)]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("passed", "n"), [*map(counts, SEEDS), *EDGES])
def test_wilsons_interval(passed: int, n: int, confidence: float) -> None:
    """Both bounds agree, also of none, of all and of one verdict."""
    low, high = second_opinion.wilson(passed, n, confidence)

    ours = wilson(passed, n, confidence)

    assert ours.low == pytest.approx(low, rel=1e-9, abs=1e-14)
    assert ours.high == pytest.approx(high, rel=1e-12)


def changes(seed: int) -> tuple[int, int]:
    """How many inputs improved and regressed, at most `EXACT_PAIRS` together."""
    random = np.random.default_rng(1_000 + seed)
    changed = int(10 ** random.uniform(0, math.log10(EXACT_PAIRS)))
    improved = int(random.binomial(changed, random.uniform(0.2, 0.8)))
    return improved, changed - improved


ONE_SIDED = [(0, 1), (1, 0), (0, 7), (30, 0), (0, 60), (1, 1), (500, 500)]


@pytest.mark.parametrize(("improved", "regressed"), [*map(changes, SEEDS), *ONE_SIDED])
def test_mcnemars_exact_test(improved: int, regressed: int) -> None:
    """The p value agrees, also where all that changed changed one way."""
    theirs = second_opinion.mcnemar(improved, regressed, exact=True)

    assert mcnemar(improved, regressed, test="exact") == pytest.approx(theirs, rel=1e-9)


def test_without_a_change_the_p_value_is_1() -> None:
    """Where the chi-square test of statsmodels divides 0 by 0, and its exact one says 1 too."""
    assert mcnemar(0, 0) == second_opinion.mcnemar(0, 0, exact=True) == 1.0


def many_changes(seed: int) -> tuple[int, int]:
    random = np.random.default_rng(2_000 + seed)
    changed = int(random.integers(EXACT_PAIRS + 1, 20_000))
    improved = int(random.binomial(changed, random.uniform(0.47, 0.53)))
    return improved, changed - improved


MANY = [*map(many_changes, SEEDS), (501, 500), (700, 800), (0, 1_001), (4_000, 4_000)]


@pytest.mark.parametrize(("improved", "regressed"), MANY)
def test_mcnemars_asymptotic_tests(improved: int, regressed: int) -> None:
    """Of many changes: the mid-p is the test without the correction, the exact one that with it.

    But for as many on either side, where statsmodels' correction takes 1 from 0 and squares it:
    its p value is then below 1, and that of the exact test is 1.
    """
    plain = second_opinion.mcnemar(improved, regressed, exact=False)
    corrected = second_opinion.mcnemar(improved, regressed, exact=False, correction=True)
    if improved == regressed:
        assert corrected < 1.0
        corrected = second_opinion.mcnemar(improved, regressed, exact=True)

    assert mcnemar(improved, regressed) == pytest.approx(plain, rel=1e-9)
    assert mcnemar(improved, regressed, test="exact") == pytest.approx(corrected, rel=1e-9)


@pytest.mark.parametrize(
    ("improved", "regressed"), [(501, 500), (700, 800), (760, 840), (940, 1_060)]
)
def test_many_changes_are_tested_as_the_exact_tests_would(improved: int, regressed: int) -> None:
    """Within 1 %: which of the corrections is right is told by the tests they stand for."""
    exact = second_opinion.mcnemar(improved, regressed, exact=True)
    point = scipys.binomial(improved, improved + regressed, 0.5)

    assert mcnemar(improved, regressed, test="exact") == pytest.approx(exact, rel=0.01)
    assert mcnemar(improved, regressed) == pytest.approx(exact - point, rel=0.01)


def p_values(seed: int) -> list[float]:
    random = np.random.default_rng(3_000 + seed)
    found = random.uniform(size=int(random.integers(1, 40))) ** 3
    # Some that are equal, as of criteria that say the same.
    return [*found.tolist(), *found[: seed % 4].tolist()]


@pytest.mark.parametrize("given", [*map(p_values, SEEDS), [0.0], [1.0, 1.0], [0.0, 1.0, 0.5]])
def test_holms_adjustment(given: list[float]) -> None:
    """Every adjusted p value agrees, with equal ones among them, and those of 0 and of 1."""
    assert holm(given) == pytest.approx(second_opinion.holm(given), rel=1e-12)


def clusters(seed: int, *, epochs: int | None = None) -> list[list[bool]]:
    """Verdicts of inputs that differ in how hard they are; of 1 to 5 epochs, or of so many."""
    random = np.random.default_rng(4_000 + seed)
    inputs = int(random.integers(20, 300))
    rates = random.beta(random.uniform(0.3, 4), random.uniform(0.3, 4), inputs).tolist()
    sizes = [epochs or int(random.integers(1, 6)) for _ in rates]
    return [
        [random.uniform() < rate for _ in range(size)]
        for rate, size in zip(rates, sizes, strict=True)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_interval_of_clusters(seed: int) -> None:
    """The effective n is that of a regression's cluster-robust error: 24 sets of uneven clusters.

    `effective_n` divides the variance of n independent verdicts by that of the clusters, and
    corrects for how well these tell it; here the variance of the clusters is statsmodels'.
    """
    given = clusters(seed)
    sums = ClusterSums()
    for cluster in given:
        sums.add(len(cluster), sum(cluster))
    n, p = sums.n, sums.passed / sums.n
    error = second_opinion.clustered_error(given)
    certainty = scipys.student_quantile(0.95, n - 1) / scipys.student_quantile(0.95, len(given) - 1)

    expected = n * (p * (1 - p) / (n - 1)) / error**2 * certainty**2

    assert effective_n(sums) == pytest.approx(max(n / sums.largest, min(n, expected)), rel=1e-6)


def verdicts(given: Sequence[Sequence[bool]]) -> list[Verdict]:
    return [
        Verdict(index, epoch, "c", passed)
        for index, cluster in enumerate(given)
        for epoch, passed in enumerate(cluster)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_agreement_is_that_of_fleiss_kappa(seed: int) -> None:
    """Less the agreement by chance at its rate, it is Fleiss' kappa; at a half, Randolph's."""
    given = clusters(seed, epochs=2 + seed % 4)
    overall = summarize(verdicts(given)).overall
    agreement, p = overall.agreement, overall.rate
    assert agreement is not None
    assert p is not None
    chance = p**2 + (1 - p) ** 2

    fleiss = (agreement - chance) / (1 - chance)

    assert fleiss == pytest.approx(second_opinion.kappa(given), rel=1e-9)
    assert 2 * agreement - 1 == pytest.approx(second_opinion.kappa_by_even_chance(given), rel=1e-9)


@pytest.mark.parametrize("letter", [True, False])
def test_agreement_of_verdicts_that_are_all_equal(letter: bool) -> None:
    """It is 1, where Fleiss' kappa is 0 over 0: a reason to tell the agreement, and not kappa."""
    given = [[letter] * 3] * 10

    assert summarize(verdicts(given)).overall.agreement == 1.0
    assert second_opinion.kappa_by_even_chance(given) == 1.0
