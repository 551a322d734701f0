"""statsmodels' figures, typed: a second opinion on the package's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Not by `import`: statsmodels has no types, and what a checker infers in their place is wrong.
_OLS: Any = import_module("statsmodels.regression.linear_model").OLS
_STATS: dict[str, Any] = {
    name: import_module(f"statsmodels.stats.{name}")
    for name in ("contingency_tables", "inter_rater", "multitest", "proportion")
}


def wilson(passed: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = _STATS["proportion"].proportion_confint(
        passed, n, alpha=1 - confidence, method="wilson"
    )
    return float(low), float(high)


def mcnemar(improved: int, regressed: int, *, exact: bool, correction: bool = False) -> float:
    """The p value of a table whose other two cells, which do not count, hold something."""
    table = [[17, improved], [regressed, 5]]
    found = _STATS["contingency_tables"].mcnemar(table, exact=exact, correction=correction)
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    return _STATS["multitest"].multipletests(p_values, method="holm")[1].tolist()


def clustered_error(clusters: Sequence[Sequence[bool]]) -> float:
    """The standard error of the rate by a regression on a constant, robust to clusters."""
    verdicts = np.array([float(verdict) for cluster in clusters for verdict in cluster])
    groups = np.repeat(np.arange(len(clusters)), [len(cluster) for cluster in clusters])
    model = _OLS(verdicts, np.ones(len(verdicts)))
    return float(model.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0])


def kappa(clusters: Sequence[Sequence[bool]]) -> float:
    """Fleiss' kappa of clusters of one size, each verdict being a rater's."""
    return float(_STATS["inter_rater"].fleiss_kappa(_table(clusters), method="fleiss"))


def kappa_by_even_chance(clusters: Sequence[Sequence[bool]]) -> float:
    """Randolph's kappa: with a half for the agreement by chance, whatever the rate."""
    return float(_STATS["inter_rater"].fleiss_kappa(_table(clusters), method="randolph"))


def _table(clusters: Sequence[Sequence[bool]]) -> NDArray[np.int64]:
    return np.array([[sum(cluster), len(cluster) - sum(cluster)] for cluster in clusters])
