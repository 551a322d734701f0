"""The data of a report: an evaluation, or the records of a saved run, for `report`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.errors import InputError, MissingExtraError
from elluminate_async.errors.arguments import flag
from elluminate_async.evaluation.comparing import Difference, compare
from elluminate_async.evaluation.measures import (
    EvaluationSummary,
    gate_of,
    verdicts_by,
)
from elluminate_async.evaluation.pairing import RunRows, explained, twins_of
from elluminate_async.evaluation.statistics import Rate, Verdict, summarize
from elluminate_async.report.data import (
    ComparisonData,
    ConfigurationData,
    DifferenceData,
    GateData,
    RateData,
    ReportData,
)
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.tables.columns import criterion_names

if TYPE_CHECKING:
    from elluminate_async.evaluation.evaluation import Evaluation
    from elluminate_async.evaluation.gate import Gate

Record: TypeAlias = Mapping[str, Any]

_CONFIDENCE = 0.95
_PARTS_BY_CRITERION = ("ratings", "not_measured")
"""Of a record: what has a criterion, which the report is to know."""

_NO_COMPARISON = (
    "There is no comparison: it needs the extra 'stats', pip install 'elluminate-async[stats]'."
)


def report_data(
    evaluation: Evaluation,
    *,
    gate: Gate | None = None,
    pass_rate: float | None = None,
    max_error_rate: float | None = None,
    per_criterion: bool = False,
    compare_with: Evaluation | None = None,
) -> ReportData:
    """The data of an evaluation's report.

    Args:
        evaluation: The evaluation.
        gate: Its gate; None to make one of the two thresholds, if there is any.
        pass_rate: As of `Evaluation.gate`; with a ``gate`` the drawings mark it.
        max_error_rate: As of `Evaluation.gate`.
        per_criterion: As of `Evaluation.gate`.
        compare_with: An earlier evaluation of the same rows; None to compare the configurations
            with the first one.

    Raises:
        InputError: A threshold is no number from 0 to 1.
    """
    return report_data_of_records(
        [record.to_dict() for record in evaluation],
        evaluation.name,
        configs=evaluation.configs,
        gate=gate,
        pass_rate=pass_rate,
        max_error_rate=max_error_rate,
        per_criterion=per_criterion,
        compare_with=None
        if compare_with is None
        else [record.to_dict() for record in compare_with],
    )


def report_data_of_records(
    records: Sequence[Record],
    name: str,
    *,
    configs: Sequence[str] = (),
    gate: Gate | None = None,
    pass_rate: float | None = None,
    max_error_rate: float | None = None,
    per_criterion: bool = False,
    compare_with: Sequence[Record] | None = None,
) -> ReportData:
    """The data of a saved run's report.

    Args:
        records: As `EvaluationRecord.to_dict` has them, in any order.
        name: Of the run.
        configs: The order of the configurations; others follow as they come first.
        gate: As of `report_data`.
        pass_rate: As of `report_data`.
        max_error_rate: As of `report_data`.
        per_criterion: As of `report_data`.
        compare_with: The records of an earlier run of the same rows, which are paired as
            those of `Evaluation.compare`.

    Raises:
        InputError: A record lacks its row or configuration, a rating its criterion, or a
            threshold is no number from 0 to 1.
    """
    per_criterion = flag(per_criterion, "per_criterion")
    run = _Run(records, configs)
    rates = {config: summarize(run.verdicts(config, run.rows())) for config in run.configs}
    summary = EvaluationSummary(rates, _CONFIDENCE)
    if gate is None and (pass_rate is not None or max_error_rate is not None):
        gate = gate_of(
            summary,
            pass_rate=pass_rate,
            max_error_rate=max_error_rate,
            per_criterion=per_criterion,
        )
    comparisons, notes = _comparisons(run, compare_with)
    return ReportData(
        name=name,
        when=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        configurations=[
            ConfigurationData(
                name=config,
                criteria=[_rate(label, rate) for label, rate in rates.criteria.items()],
                overall=_rate("all criteria", rates.overall),
            )
            for config, rates in summary.items()
        ],
        criteria=run.criteria,
        gate=None if gate is None else GateData(gate.status, gate.reasons, pass_rate),
        comparisons=comparisons,
        records=run.records,
        notes=notes,
    )


class _Run:
    """Records as plain data, with the names of their criteria and configurations."""

    def __init__(self, records: Sequence[Record], configs: Sequence[str] = ()) -> None:
        self.records = records
        for index, record in enumerate(records):
            _check(index, record)
        self.configs = [*dict.fromkeys([*configs, *(record["config"] for record in records)])]
        found = {
            one["criterion_id"]: Criterion.model_construct(
                id=one["criterion_id"],
                label=_text(one.get("label")),
                criterion_str=_text(one.get("criterion")) or f"({one['criterion_id']})",
            )
            for record in records
            for part in _PARTS_BY_CRITERION
            for one in record.get(part) or ()
        }
        # What was not measured may be told of first.
        self.criteria = criterion_names(found[id] for id in sorted(found))

    def rows(self) -> dict[int, Hashable]:
        """Each row, by itself."""
        return {record["row"]: record["row"] for record in self.records}

    def rows_to_pair(self) -> tuple[list[int], RunRows]:
        """The rows there are, by their index, and what pairs them with those of another run."""
        inputs: dict[int, Mapping[str, Any]] = {
            record["row"]: record.get("input") or {} for record in self.records
        }
        order = sorted(inputs)
        paired_by = next((r["paired_by"] for r in self.records if r.get("paired_by")), ())
        return order, RunRows([inputs[row] for row in order], paired_by)

    def verdicts(self, config: str, keys: Mapping[int, Hashable]) -> Iterator[Verdict]:
        """One for each record and criterion, as `measures.verdicts_of`."""
        for record in self.records:
            if record["config"] != config:
                continue
            key, epoch = keys[record["row"]], record.get("epoch", 1)
            said = {r["criterion_id"]: str(r.get("rating")) for r in record.get("ratings") or ()}
            yield from verdicts_by(said, self.criteria, key, epoch)


def _check(index: int, record: object) -> None:
    if not isinstance(record, Mapping):
        raise InputError(f"records[{index}] is no object but {type(record).__name__}")
    fields = cast("Mapping[str, object]", record)
    if not _is_whole(fields.get("row")) or not isinstance(fields.get("config"), str):
        raise InputError(
            f"records[{index}] has no 'row', a whole number, and 'config', a text: pass records "
            "as EvaluationRecord.to_dict has them"
        )
    for part in _PARTS_BY_CRITERION:
        found: object = fields.get(part) or []
        if not isinstance(found, list | tuple):
            raise InputError(f"records[{index}][{part!r}] is no list")
        for one in cast("Sequence[object]", found):
            known = isinstance(one, Mapping) and cast("Mapping[str, object]", one)
            if not known or not _is_whole(known.get("criterion_id")):
                raise InputError(f"records[{index}][{part!r}] has one without its 'criterion_id'")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _comparisons(
    run: _Run, earlier: Sequence[Record] | None
) -> tuple[list[ComparisonData], list[str]]:
    """Of the run with an earlier one, else of its configurations with the first; and notes."""
    pairs: list[tuple[_Run, str, str]] = []
    notes: list[str] = []
    before = None if earlier is None else _Run(earlier)
    if before is not None:
        pairs = _pairs(before, run)
        if not pairs:
            notes.append("The runs are not compared: they have no configuration in common.")
    elif len(run.configs) > 1:
        pairs = [(run, run.configs[0], other) for other in run.configs[1:]]
    try:
        compared = [_compared(first, a, run, b) for first, a, b in pairs]
    except MissingExtraError:
        return [], [*notes, _NO_COMPARISON]
    found = [one for one, _ in compared]
    notes += [f"{one.b} is not compared with {one.a}: {why}." for one, why in compared if why]
    # The worst first; what was not measured last.
    found.sort(key=lambda one: 2.0 if one.overall.difference is None else one.overall.difference)
    return found, notes


def _pairs(before: _Run, run: _Run) -> list[tuple[_Run, str, str]]:
    """The configurations of the same name; where each run has one, the two."""
    if len(before.configs) == len(run.configs) == 1:
        return [(before, before.configs[0], run.configs[0])]
    return [(before, name, name) for name in run.configs if name in before.configs]


def _compared(before: _Run, a: str, run: _Run, b: str) -> tuple[ComparisonData, str | None]:
    """The comparison, and why it has no pair."""
    if before is run:
        rows = run.rows()
        result = compare(run.verdicts(a, rows), run.verdicts(b, rows))
    else:
        (earlier, before_rows), (order, rows_now) = before.rows_to_pair(), run.rows_to_pair()
        twins = twins_of(before_rows, rows_now)
        # What is not in this run keeps a key that is no row of it.
        keys: dict[int, Hashable] = {
            row: order[twin] if isinstance(twin, int) else twin
            for row, twin in zip(earlier, twins, strict=True)
        }
        found = compare(before.verdicts(a, keys), run.verdicts(b, run.rows()))
        result = explained(found, before_rows, rows_now)
    data = ComparisonData(
        a=a if before is run else f"{a} (earlier run)",
        b=b if before is run else f"{b} (this run)",
        criteria=[_difference(label, one) for label, one in result.criteria.items()],
        overall=_difference("all criteria", result.overall),
        confidence=result.confidence,
    )
    return data, result.reason


def _difference(label: str, one: Difference) -> DifferenceData:
    interval = one.interval
    return DifferenceData(
        label=label,
        n=one.n,
        unpaired=one.unpaired,
        rate_a=one.rate_a,
        rate_b=one.rate_b,
        difference=one.difference,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        p_adjusted=one.p_adjusted,
        verdict=one.verdict,
        improved=[row for row in one.improved if isinstance(row, int)],
        regressed=[row for row in one.regressed if isinstance(row, int)],
    )


def _rate(label: str, rate: Rate) -> RateData:
    interval = rate.interval
    return RateData(
        label=label,
        passed=rate.passed,
        n=rate.n,
        not_measured=rate.not_measured,
        rate=rate.rate,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
    )
