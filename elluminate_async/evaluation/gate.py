"""`gate`: whether an evaluation passes, fails, or could not be measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.evaluation.documents import Documented
from elluminate_async.evaluation.statistics import Rate, Summary

GateStatus: TypeAlias = Literal["passed", "failed", "not measured"]


@dataclass(frozen=True, slots=True)
class Gate(Documented):
    """The gate's decision.

    Attributes:
        status: ``"passed"``, ``"failed"`` or ``"not measured"``.
        reasons: Why it did not pass, a line for each rate that is the reason; empty if it passed.
    """

    status: GateStatus
    reasons: list[str]

    _derived: ClassVar[tuple[str, ...]] = ("passed",)

    @property
    def passed(self) -> bool:
        """Whether the status is ``"passed"``."""
        return self.status == "passed"

    def __bool__(self) -> bool:
        """The same, for ``assert``."""
        return self.passed


def gate(
    summary: Summary,
    *,
    pass_rate: float | None = None,
    max_error_rate: float | None = None,
    per_criterion: bool = False,
) -> Gate:
    """Tell an evaluation that is good enough from one that is not, and from one that tells neither.

    * Nothing was measured, or a larger share than ``max_error_rate`` was not: ``"not measured"``,
      and never ``"failed"``. So it is also where the missing verdicts could not change the
      answer; the reason then says which it would have been. Who sets the limit does not trust
      the rest beyond it: what was not measured is seldom a random part.
    * Else the rate of the measured verdicts is below ``pass_rate``: ``"failed"``.
    * Else ``"passed"``.

    The rate itself is compared, not its interval. With ``per_criterion`` one criterion that failed
    fails the whole, whatever the others would tell; else one that could not be measured leaves
    the whole not measured.

    Args:
        summary: Of the evaluation.
        pass_rate: The lowest rate that passes; None for any.
        max_error_rate: The highest share of verdicts that may be not measured; None for any, as
            long as one was measured.
        per_criterion: Look at the rate of each criterion rather than at that of all verdicts.

    Raises:
        InputError: A threshold is no number from 0 to 1, or there is none; or ``per_criterion`` is
            neither True nor False.
    """
    per_criterion = flag(per_criterion, "per_criterion")
    _check("pass_rate", pass_rate)
    _check("max_error_rate", max_error_rate)
    if pass_rate is None and max_error_rate is None:
        raise InputError("give a pass_rate or a max_error_rate: a gate without one lets all pass")
    rates = {"all criteria": summary.overall}
    if per_criterion and summary.criteria:
        rates = {f"criterion {name!r}": rate for name, rate in summary.criteria.items()}
    reasons: dict[GateStatus, list[str]] = {"failed": [], "not measured": []}
    for name, rate in rates.items():
        if missing := _not_measured(rate, pass_rate, max_error_rate):
            reasons["not measured"].append(f"{name}: {missing}")
        elif low := _failed(rate, pass_rate):
            reasons["failed"].append(f"{name}: {low}")
    for status, lines in reasons.items():
        if lines:
            return Gate(status, reasons["failed"] + reasons["not measured"])
    return Gate("passed", [])


def _not_measured(rate: Rate, pass_rate: float | None, max_error_rate: float | None) -> str:
    """Why the rate was not measured; empty if it was."""
    expected = rate.n + rate.not_measured
    if not expected:
        return "there are no verdicts"
    if not rate.n:
        return f"none of {expected} verdicts was measured"
    share = rate.not_measured / expected
    if max_error_rate is None or share <= max_error_rate:
        return ""
    text = (
        f"{rate.not_measured} of {expected} verdicts were not measured, "
        f"a share of {share:.4g} and over {max_error_rate:g}"
    )
    if pass_rate is not None:
        if rate.passed / expected >= pass_rate:
            text += "; it would have passed whatever they are"
        elif (rate.passed + rate.not_measured) / expected < pass_rate:
            text += "; it would have failed whatever they are"
    return text


def _failed(rate: Rate, pass_rate: float | None) -> str:
    """Why the rate is too low; empty if it is not. It is of at least one verdict."""
    if pass_rate is None or rate.passed / rate.n >= pass_rate:
        return ""
    text = f"{rate.passed} of {rate.n} verdicts passed, a rate of {rate.passed / rate.n:.4g}"
    if rate.interval is not None:
        interval = rate.interval
        text += f" ({interval.confidence:.4g} interval {interval.low:.4g} to {interval.high:.4g})"
    return f"{text} and below {pass_rate:g}"


def _check(name: str, threshold: object) -> None:
    if threshold is None:
        return
    number = threshold if isinstance(threshold, int | float) else math.nan
    if isinstance(threshold, bool) or not 0 <= number <= 1:
        raise InputError(f"{name} must be a number from 0 to 1, not {threshold!r}")
