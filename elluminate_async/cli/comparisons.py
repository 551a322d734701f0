"""The document of ``compare --json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from elluminate_async.cli.documents import Document

if TYPE_CHECKING:
    from elluminate_async import Difference


class DifferenceDocument(Document):
    """One difference; see `Difference`.

    Attributes:
        improved: Indices of rows of B whose rate is higher there.
        regressed: Those whose rate is lower.
    """

    n: int
    unpaired: int
    rate_a: float | None
    rate_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    improved: list[int]
    regressed: list[int]
    verdict: Literal["better", "worse", "no difference shown", "not measured"]

    @classmethod
    def of(cls, one: Difference) -> DifferenceDocument:
        """The document of a difference."""
        return cls(
            n=one.n,
            unpaired=one.unpaired,
            rate_a=one.rate_a,
            rate_b=one.rate_b,
            difference=one.difference,
            low=one.interval and one.interval.low,
            high=one.interval and one.interval.high,
            p_value=one.p_value,
            p_adjusted=one.p_adjusted,
            improved=[row for row in one.improved if isinstance(row, int)],
            regressed=[row for row in one.regressed if isinstance(row, int)],
            verdict=one.verdict,
        )


class CompareDocument(Document):
    """Two runs, or two models of one.

    Attributes:
        a: What is compared with.
        b: What is in question.
        exit_code: 0, 1 by ``--fail-if-worse``, 3 where nothing was measured on both sides.
        reason: Why nothing was.
    """

    version: Literal[1] = 1
    exit_code: int
    a: str
    b: str
    confidence: float
    criteria: dict[str, DifferenceDocument]
    overall: DifferenceDocument
    reason: str | None = None
