"""The data of a report: plain, and without knowledge of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

GateStatus: TypeAlias = Literal["passed", "failed", "not measured"]
DifferenceVerdict: TypeAlias = Literal["better", "worse", "no difference shown", "not measured"]


@dataclass(frozen=True, slots=True)
class RateData:
    """How many verdicts passed, of one criterion or of all.

    Attributes:
        label: The criterion's name.
        passed: Verdicts that are YES.
        n: Verdicts that were measured.
        not_measured: Those that should be there and are not.
        rate: ``passed / n``; None when n is 0.
        low: The lower bound of the rate's interval; None when n is 0.
        high: The upper bound.
    """

    label: str
    passed: int
    n: int
    not_measured: int
    rate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationData:
    """The rates of one configuration.

    Attributes:
        name: As in the records' ``config``.
        criteria: A rate for each criterion that is known of it.
        overall: Of all verdicts.
    """

    name: str
    criteria: Sequence[RateData]
    overall: RateData


@dataclass(frozen=True, slots=True)
class GateData:
    """The gate's decision.

    Attributes:
        status: As the gate has it.
        reasons: Why it did not pass, a line each.
        pass_rate: The lowest rate that passes, for the drawings; None where it is not known.
    """

    status: GateStatus
    reasons: Sequence[str] = ()
    pass_rate: float | None = None


@dataclass(frozen=True, slots=True)
class DifferenceData:
    """How b differs from a, by one criterion or by all.

    Attributes:
        label: The criterion's name.
        n: Inputs with a measurement on both sides.
        unpaired: Inputs without one.
        rate_a: Of a over the pairs; None, as the numbers below, when n is 0.
        rate_b: Of b.
        difference: ``rate_b - rate_a``.
        low: The lower bound of the difference's interval.
        high: The upper bound.
        p_adjusted: Of the paired test, for all criteria together.
        verdict: What that shows.
        improved: Rows whose rate is higher in b, as in the records' ``row``.
        regressed: Rows whose rate is lower in b.
    """

    label: str
    n: int
    unpaired: int
    rate_a: float | None
    rate_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: DifferenceVerdict
    improved: Sequence[int] = ()
    regressed: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class ComparisonData:
    """How b differs from a, two configurations or two runs.

    Attributes:
        a: The name of what is compared with.
        b: The name of what is in question, whose records the report has.
        criteria: The difference by each criterion.
        overall: By all.
        confidence: Of the intervals.
    """

    a: str
    b: str
    criteria: Sequence[DifferenceData]
    overall: DifferenceData
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class ReportData:
    """A report.

    Attributes:
        name: Of the evaluation.
        when: When the report was made, as it is shown.
        configurations: Their rates, in order.
        criteria: The name of each criterion, by its id in the records' ratings.
        gate: None where no threshold was asked for.
        comparisons: Most important first.
        records: As `EvaluationRecord.to_dict` has them, or one line each of a saved run.
        confidence: Of the rates' intervals.
        notes: What a reader must know besides, a line each.
    """

    name: str
    when: str
    configurations: Sequence[ConfigurationData]
    criteria: Mapping[int, str]
    gate: GateData | None = None
    comparisons: Sequence[ComparisonData] = ()
    records: Sequence[Mapping[str, Any]] = ()
    confidence: float = 0.95
    notes: Sequence[str] = field(default=())
