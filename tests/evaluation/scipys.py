"""scipy's figures, typed: what the package's own are held against."""
# scipy has no types: unknown is all that is known of it, here and nowhere else.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def wilson(passed: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    interval = stats.binomtest(passed, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def student_quantile(confidence: float, freedom: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, freedom))


def chi_square_tail(statistic: float) -> float:
    return float(stats.chi2.sf(statistic, 1))


def binomial_test(successes: int, n: int) -> float:
    return float(stats.binomtest(successes, n).pvalue)


def binomial(successes: int, n: int, p: float) -> float:
    """The probability of so many."""
    return float(stats.binom.pmf(successes, n, p))


def binomial_up_to(successes: int, n: int, p: float) -> float:
    """The probability of so many or fewer."""
    return float(stats.binom.cdf(successes, n, p))


def clustered(n: int, p: float, alike: float) -> Sequence[float]:
    """The probabilities of 0 to n successes of which any two are correlated by ``alike``."""
    if not alike:
        return stats.binom.pmf(np.arange(n + 1), n, p).tolist()
    spread = (1 - alike) / alike
    return stats.betabinom.pmf(np.arange(n + 1), n, p * spread, (1 - p) * spread).tolist()


def permutation_test(differences: Sequence[int]) -> float:
    """The p value of the signs of paired differences, all of them tried."""
    given = np.array(differences)
    return float(
        stats.permutation_test(
            (given, np.zeros_like(given)),
            lambda x, y, axis: np.sum(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=10_000,
        ).pvalue
    )


def bootstrap(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile interval of their mean."""
    interval = stats.bootstrap(
        (np.array(differences),), np.mean, n_resamples=4_000, method="percentile",
        rng=np.random.default_rng(5), batch=500,
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)
