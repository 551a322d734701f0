"""Records to statistics: their verdicts, summaries, comparisons and gates."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elluminate_async.errors import InputError
from elluminate_async.evaluation.documents import Documented
from elluminate_async.evaluation.gate import Gate, GateStatus, gate
from elluminate_async.evaluation.statistics import Summary, Verdict, summarize
from elluminate_async.tables.columns import criterion_names

if TYPE_CHECKING:
    from elluminate_async.evaluation.records import EvaluationRecord
    from elluminate_async.evaluation.statistics import Rate
    from elluminate_async.schemas.criteria import Criterion

UNKNOWN_CRITERION = "(no criterion)"
"""The name of what was not measured where no record tells any criterion."""

_PASSED = {"YES": True, "NO": False}
_ORDER: tuple[GateStatus, ...] = ("failed", "not measured", "passed")


def criteria_of(
    records: Iterable[EvaluationRecord], known: Iterable[Criterion] = ()
) -> dict[int, str]:
    """The name of each criterion, by its id: of those ``known``, and of any that rated a record."""
    found = {criterion.id: criterion for criterion in known}
    for record in records:
        for rating in record.ratings or ():
            found.setdefault(rating.criterion.id, rating.criterion)
    return criterion_names(found.values())


def verdicts_of(
    records: Sequence[EvaluationRecord],
    criteria: Mapping[int, str],
    keys: Sequence[Hashable] | None = None,
) -> Iterator[Verdict]:
    """One verdict for each record and criterion; None where the record has no YES and no NO.

    Args:
        records: Of one configuration.
        criteria: All their names, by id.
        keys: What stands for a row; None for its index.
    """
    for record in records:
        said = {rating.criterion.id: str(rating.rating) for rating in record.ratings or ()}
        key = record.row if keys is None else keys[record.row]
        yield from verdicts_by(said, criteria, key, record.epoch)


def verdicts_by(
    said: Mapping[int, str], criteria: Mapping[int, str], key: Hashable, epoch: int
) -> Iterator[Verdict]:
    """The verdict by each of the ``criteria``, where the judge said this, by their ids."""
    if not criteria:
        yield Verdict(key, epoch, UNKNOWN_CRITERION, None)
    for id, name in criteria.items():
        yield Verdict(key, epoch, name, _PASSED.get(said.get(id, "")))


class EvaluationSummary(Mapping[str, Summary], Documented):
    """The rates of each configuration, by its name; as a text a table of them.

    Attributes:
        confidence: That of the intervals.
    """

    def __init__(self, summaries: Mapping[str, Summary], confidence: float) -> None:
        self.confidence = confidence
        self._summaries = dict(summaries)

    def __getitem__(self, config: str) -> Summary:
        return self._summaries[config]

    def __iter__(self) -> Iterator[str]:
        return iter(self._summaries)

    def __len__(self) -> int:
        return len(self._summaries)

    def __repr__(self) -> str:
        return f"<EvaluationSummary of {', '.join(map(repr, self._summaries))}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the rates of each of the ``configurations``, and the ``confidence``."""
        rates = {config: summary.to_dict() for config, summary in self._summaries.items()}
        return {"confidence": self.confidence, "configurations": rates}

    def __str__(self) -> str:
        interval = f"{100 * self.confidence:g} % interval"
        head = ("configuration", "criterion", "passed", "rate", interval, "not measured")
        lines = [head]
        for config, summary in self._summaries.items():
            rates = [*summary.criteria.items(), ("all criteria", summary.overall)]
            lines += [(config, name, *_cells(rate)) for name, rate in rates]
        widths = [min(60, max(len(line[i]) for line in lines)) for i in range(len(head))]
        return "\n".join(_written(line, widths) for line in lines)


def _written(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [f"{_cut(cell, w):{w}}" for cell, w in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _cells(rate: Rate) -> tuple[str, ...]:
    passed = f"{rate.passed} of {rate.n}"
    if rate.rate is None or rate.interval is None:
        return (passed, "-", "-", str(rate.not_measured))
    interval = f"{100 * rate.interval.low:.1f} to {100 * rate.interval.high:.1f} %"
    return (passed, f"{100 * rate.rate:.1f} %", interval, str(rate.not_measured))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def summary_of(
    records: Sequence[EvaluationRecord],
    criteria: Mapping[int, str],
    configs: Sequence[str],
    confidence: float,
) -> EvaluationSummary:
    """The rates of each of ``configs``, by the ``criteria`` of these names."""
    summaries = {
        config: summarize(verdicts_of(of_config(records, config), criteria), confidence=confidence)
        for config in configs
    }
    return EvaluationSummary(summaries, confidence)


def of_config(records: Sequence[EvaluationRecord], config: str) -> list[EvaluationRecord]:
    """The records of one configuration.

    Raises:
        InputError: There is none of that name.
    """
    found = [record for record in records if record.config == config]
    if records and not found:
        there = ", ".join(sorted({record.config for record in records}))
        raise InputError(f"there is no configuration {config!r}: there are {there}")
    return found


def gate_of(
    summary: EvaluationSummary,
    *,
    pass_rate: float | None,
    max_error_rate: float | None,
    per_criterion: bool,
) -> Gate:
    """The gate of all configurations: the worst of theirs, with the reasons of all."""
    gates = {
        config: gate(
            one, pass_rate=pass_rate, max_error_rate=max_error_rate, per_criterion=per_criterion
        )
        for config, one in summary.items()
    }
    reasons = [
        reason if len(gates) == 1 else f"{config}: {reason}"
        for config, one in gates.items()
        for reason in one.reasons
    ]
    statuses = {one.status for one in gates.values()}
    for status in _ORDER:
        if status in statuses:
            return Gate(status, reasons)
    return Gate("not measured", ["there is no record"])
