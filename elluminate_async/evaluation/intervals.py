"""Confidence intervals of a share: of independent verdicts, and of verdicts in clusters.

Nothing but the standard library is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from elluminate_async.errors import InputError
from elluminate_async.evaluation.documents import Documented


@dataclass(frozen=True, slots=True)
class Interval(Documented):
    """A confidence interval.

    Attributes:
        low: Its lower bound.
        high: Its upper bound.
        confidence: Share of such intervals that hold the true value, such as 0.95.
    """

    low: float
    high: float
    confidence: float


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no number between 0 and 1.

    Raises:
        InputError: It is none.
    """
    given: object = confidence
    if not (isinstance(given, float) and 0 < given < 1):
        raise InputError(
            f"confidence must be a number between 0 and 1, such as 0.95, not {given!r}"
        )


def wilson(passed: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of the share ``passed / n``.

    With p = passed / n and the normal quantile z, its bounds are::

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)

    Args:
        passed: How many passed, from 0 to ``n``.
        n: How many there are. Neither needs to be whole: of clustered verdicts `effective_n`
            is the n, and passed is its p-th part.
        confidence: Between 0 and 1.

    Raises:
        InputError: ``n`` is not above 0, or ``passed`` is not within it.

    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953; recommended for every n by Brown, Cai
    and DasGupta 2001, doi 10.1214/ss/1009213286.
    """
    check_confidence(confidence)
    if not 0 < n < math.inf:
        raise InputError(f"n must be above 0, not {n!r}: no verdicts have no rate")
    if not 0 <= passed <= n:
        raise InputError(f"passed must be from 0 to n = {n!r}, not {passed!r}")
    z2 = _normal_quantile(confidence) ** 2
    middle = (passed + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (passed * (n - passed) / n + z2 / 4)) / (n + z2)
    # The bounds at none and at all are 0 and 1; the subtraction alone leaves some 1e-17.
    low = 0.0 if passed == 0 else max(0.0, middle - half)
    high = 1.0 if passed == n else min(1.0, middle + half)
    return Interval(low, high, confidence)


@dataclass(slots=True)
class ClusterSums:
    """Sums over clusters that tell how much independent evidence they hold.

    A cluster is of n_j verdicts, x_j of which passed.

    Attributes:
        clusters: How many there are, those without a verdict left out.
        n: Σ n_j.
        passed: Σ x_j.
        largest: The largest n_j.
        nn: Σ n_j².
        nx: Σ n_j x_j.
        xx: Σ x_j².
    """

    clusters: int = 0
    n: int = 0
    passed: int = 0
    largest: int = 0
    nn: int = 0
    nx: int = 0
    xx: int = 0

    def add(self, n: int, passed: int) -> None:
        """Count one more cluster, of ``n`` verdicts."""
        if n:
            self.clusters += 1
            self.n += n
            self.passed += passed
            self.largest = max(self.largest, n)
            self.nn += n * n
            self.nx += n * passed
            self.xx += passed * passed


def effective_n(sums: ClusterSums, confidence: float = 0.95) -> float:
    """How many independent verdicts are worth as much as these clustered ones.

    Verdicts on the same input resemble each other, so that n of them tell less than n inputs
    would. With m clusters and p = Σx_j / Σn_j, the variance of p by the clusters' totals (the
    linearised variance of a ratio) and the variance of as many independent verdicts are::

        v = m/(m - 1) Σ(x_j - p n_j)² / n²        v₀ = p(1 - p)/(n - 1)

    v / v₀ is the design effect, and the effective n is ``n v₀/v (t_{n-1} / t_{m-1})²``, t_k being
    Student's quantile at k degrees of freedom: few clusters tell v itself less well. It is kept
    within its bounds: n, where all verdicts are independent, and n over the largest cluster, where
    the verdicts of a cluster are all alike. Where every verdict is YES, or every one NO, nothing
    tells how alike they are, and the lower bound is taken. Clusters of one verdict each have
    the effective n of n, so that Wilson's interval is the plain one.

    Args:
        sums: Of at least one verdict.
        confidence: That of the interval which the effective n is used for.

    Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number
    of positive counts estimated from survey data", Survey Methodology 24, for the effective n and
    its t quantiles; Dean and Pagano 2015, doi 10.1093/jssam/smv024, for Wilson's interval with it;
    Miller 2024, "Adding error bars to evals", arXiv 2411.00640, for clusters in evaluations.
    """
    n, passed, m = sums.n, sums.passed, sums.clusters
    if sums.largest == 1:
        return float(n)
    fewest = n / sums.largest
    if m == 1 or passed in (0, n):
        return fewest
    # In whole numbers, where clusters that are all alike leave exactly nothing.
    residual = (n * n * sums.xx - 2 * n * passed * sums.nx + passed * passed * sums.nn) / (n * n)
    design_effect = m / (m - 1) * residual * (n - 1) / (passed * (n - passed))
    if not design_effect:
        return float(n)
    ratio = student_quantile(confidence, n - 1) / student_quantile(confidence, m - 1)
    return min(max(n / design_effect * ratio**2, fewest), float(n))


@lru_cache(maxsize=64)
def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@lru_cache(maxsize=1024)
def student_quantile(confidence: float, freedom: int) -> float:
    """The t that Student's distribution keeps within ±t with this probability.

    Exact at 1 and 2 degrees of freedom; else the expansion in powers of 1/freedom, whose error
    at a confidence of 0.95 is below 1 % at 3 degrees and below 0.01 % from 10 on.

    Source: Abramowitz and Stegun 1964, 26.7.5.
    """
    if freedom == 1:
        return math.tan(math.pi * confidence / 2)
    if freedom == 2:
        return confidence * math.sqrt(2 / (1 - confidence**2))
    z = _normal_quantile(confidence)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
