"""`Evaluation`: the records of one evaluation, in the order of its rows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from elluminate_async.batch import Batch
from elluminate_async.errors import InputError, ItemError, PairingWarning
from elluminate_async.errors.arguments import optional_flag
from elluminate_async.evaluation.columns import record_cases, record_columns, record_rows
from elluminate_async.evaluation.comparing import Comparison, compare
from elluminate_async.evaluation.documents import Documented
from elluminate_async.evaluation.gate import Gate
from elluminate_async.evaluation.measures import (
    EvaluationSummary,
    criteria_of,
    gate_of,
    of_config,
    summary_of,
    verdicts_of,
)
from elluminate_async.evaluation.pairing import RunRows, explained, twins_of
from elluminate_async.evaluation.records import EvaluationRecord, LaneResult, at
from elluminate_async.evaluation.request import checked_cost
from elluminate_async.evaluation.saved import read_records
from elluminate_async.evaluation.usage import Usage
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.tables.tabular import Tabular
from elluminate_async.tables.texts import json_text

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.evaluation.spending import Spending
    from elluminate_async.schemas.llm_configs import LLMConfig
    from elluminate_async.schemas.template_variables import TemplateVariables
    from elluminate_async.tables.arrow import TableColumn
    from elluminate_async.tables.files import Target
    from elluminate_async.tables.junit import Case

T = TypeVar("T")


class Evaluation(Sequence[EvaluationRecord], Tabular, Documented):
    """The records of an evaluation: rows in order, their configurations, their epochs.

    Reading a record never raises: it holds a response or its error, ratings or their error. As a
    table it has the columns of `elluminate_async.evaluation.columns`.

    Args:
        name: As it was asked for, or made of the prompt.
        inputs: The rows as they were passed in.
        rows: The rows as they were uploaded; None where the collection existed.
        lanes: One for each configuration.
        epochs: Repetitions of each row.
        spending: What it was allowed to cost; None where that was not bounded.
        paired_by: See `EvaluationRecord.paired_by`; empty where it is not known.

    Attributes:
        configs: The names of the configurations, in order.
        experiments: Those at the service that have the responses, one a configuration; none of
            an evaluation that was read from a file.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Mapping[str, Any]],
        rows: Batch[TemplateVariables] | None,
        lanes: Sequence[LaneResult],
        epochs: int,
        *,
        spending: Spending | None = None,
        paired_by: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.epochs = epochs
        self.configs = tuple(lane.config for lane in lanes)
        self.experiments = tuple(lane.experiment for lane in lanes if lane.experiment is not None)
        self._inputs = inputs
        self._paired_by = tuple(paired_by)
        self._rows = rows
        self._lanes = tuple(lanes)
        self._spending = spending
        self._retrying = False

    def __len__(self) -> int:
        return len(self._inputs) * len(self._lanes) * self.epochs

    @overload
    def __getitem__(self, index: int) -> EvaluationRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[EvaluationRecord]: ...
    def __getitem__(self, index: int | slice) -> EvaluationRecord | list[EvaluationRecord]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self._record(position) for position in positions]
        return self._record(positions)

    def __iter__(self) -> Iterator[EvaluationRecord]:
        return map(self._record, range(len(self)))

    def __repr__(self) -> str:
        failed = sum(record.error is not None for record in self)
        told = f"; {failed} failed" if failed else ""
        return f"<Evaluation {self.name!r}: {len(self)} records{told}>"

    def _record(self, position: int) -> EvaluationRecord:
        row, rest = divmod(position, len(self._lanes) * self.epochs)
        index, epoch = divmod(rest, self.epochs)
        lane = self._lanes[index]
        within = row * self.epochs + epoch
        return EvaluationRecord(
            position=position,
            row=row,
            input=self._inputs[row],
            config=lane.config,
            epoch=epoch + 1,
            outcome=at(lane.responses.outcomes[within], position),
            rated=at(lane.ratings.outcomes[within], position),
            llm_config=lane.llm_config,
            paired_by=self._paired_by,
            criteria=lane.criteria,
        )

    @property
    def responses(self) -> Batch[PromptResponse]:
        """The responses, outcome i of record i."""
        return Batch(record.outcome for record in self)

    @property
    def ratings(self) -> Batch[list[Rating]]:
        """The ratings, outcome i of record i."""
        return Batch(record.rated for record in self)

    @property
    def failed(self) -> Mapping[int, ItemError]:
        """Position to error of the records that are not whole; falsy when all are."""
        return {record.position: record.error for record in self if record.error is not None}

    @property
    def cost(self) -> float | None:
        """The sum of the records' costs; None where that of one response is not known.

        And where there is no response: what a failure may have cost is not told.
        """
        costs = [record.cost for record in self if record.response is not None]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None

    @property
    def usage(self) -> Usage:
        """Tokens, as far as they are known."""
        return Usage.of(self)

    def summary(self, *, confidence: float = 0.95) -> EvaluationSummary:
        """The rates of each configuration, per criterion and over all; ``print`` it for a table.

        What was not measured is counted beside the rate, and never as a NO.
        """
        return summary_of(self[:], self._criteria(), self.configs, confidence)

    def gate(
        self,
        *,
        pass_rate: float | None = None,
        max_error_rate: float | None = None,
        per_criterion: bool = False,
    ) -> Gate:
        """Whether the evaluation passed, failed, or could not be measured.

        Args:
            pass_rate: The lowest rate of YES that passes, from 0 to 1.
            max_error_rate: The highest share of verdicts that may be missing.
            per_criterion: Hold each criterion against them, and not all together.

        Returns:
            The worst of the configurations' gates, with the reasons of all.

        Raises:
            InputError: A threshold is no number from 0 to 1, or there is none.
        """
        return gate_of(
            self.summary(),
            pass_rate=pass_rate,
            max_error_rate=max_error_rate,
            per_criterion=per_criterion,
        )

    def compare(
        self, a: str | Evaluation, b: str | None = None, *, confidence: float = 0.95
    ) -> Comparison:
        """How one configuration differs from another, or this evaluation from an earlier one.

        Args:
            a: The configuration that is compared with; or an earlier `Evaluation` of the same
                rows, which are paired by the values that the prompt asks for.
            b: The configuration in question. With an earlier evaluation the one to compare on
                both sides; None where each has one.
            confidence: Of the intervals, and of what counts as shown.

        Returns:
            The paired difference per criterion and over all; `Difference.improved` and
            ``regressed`` have the indices of rows of this evaluation. Where not one row of two
            evaluations is paired, it is ``"not measured"``, its `Comparison.reason` says why,
            and a `PairingWarning` does.

        Raises:
            InputError: There is no such configuration, or it must be named.
            MissingExtraError: numpy is not installed: the extra ``stats`` brings it.
        """
        if isinstance(a, Evaluation):
            return self._compare_runs(a, b, confidence)
        if b is None:
            raise InputError("compare needs two configurations, or an earlier Evaluation")
        names = self._criteria()
        first, second = (verdicts_of(of_config(self[:], config), names) for config in (a, b))
        return compare(first, second, confidence=confidence)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        pass_rate: float | None = None,
        max_error_rate: float | None = None,
        per_criterion: bool = False,
        compare_with: Evaluation | None = None,
    ) -> None:
        """Write an HTML report: one file that needs no other, for a browser and for paper.

        Args:
            path: Of the file. One that is there is replaced by a whole report, or kept.
            pass_rate: As of `gate`; without any threshold the report tells the rates alone.
            max_error_rate: As of `gate`.
            per_criterion: As of `gate`.
            compare_with: An earlier evaluation of the same rows. Without one the configurations
                are compared with the first of them. Comparing needs the extra ``stats``;
                without it the report says that there is none.

        Raises:
            InputError: A threshold is no number from 0 to 1, or the folder is not there.
            MissingExtraError: jinja2 is not installed: the extra ``report`` brings it.
            OSError: The file cannot be written.

        Cost: memory in proportion to the texts, which are all held at once.
        """
        # Few need it, and it is some of what the package takes to be imported.
        from elluminate_async.evaluation.reporting import report_data
        from elluminate_async.report.render import write_report

        data = report_data(
            self,
            pass_rate=pass_rate,
            max_error_rate=max_error_rate,
            per_criterion=per_criterion,
            compare_with=compare_with,
        )
        write_report(path, data)

    def _compare_runs(
        self, before: Evaluation, config: str | None, confidence: float
    ) -> Comparison:
        rows_before, rows = before._rows_to_pair(), self._rows_to_pair()
        first = before._records_of(config)
        second = self._records_of(config)
        verdicts_before = verdicts_of(first, before._criteria(), twins_of(rows_before, rows))
        verdicts = verdicts_of(second, self._criteria())
        found = explained(
            compare(verdicts_before, verdicts, confidence=confidence), rows_before, rows
        )
        if found.reason is not None:
            warnings.warn(f"nothing is compared: {found.reason}", PairingWarning, stacklevel=3)
        return found

    def _rows_to_pair(self) -> RunRows:
        return RunRows(self._inputs, self._paired_by)

    def _records_of(self, config: str | None) -> list[EvaluationRecord]:
        if config is None and len(self.configs) > 1:
            raise InputError(
                f"{self.name!r:.60} has several configurations: name the one to compare, as in "
                f"compare(other, b={self.configs[0]!r}), of {', '.join(self.configs)}"
            )
        return self[:] if config is None else of_config(self[:], config)

    def _columns(self) -> Sequence[TableColumn]:
        return record_columns(self, self._criteria())

    def _iter_rows(self) -> Iterator[Sequence[object]]:
        return record_rows(self, self._criteria())

    def _cases(self) -> Iterable[Case]:
        return record_cases(self, self._criteria())

    def _count(self) -> int:
        return len(self)

    def _criteria(self) -> dict[int, str]:
        return criteria_of(self, [one for lane in self._lanes for one in lane.criteria])

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        *,
        name: str = "",
        llm_configs: Mapping[str, LLMConfig] | None = None,
    ) -> Self:
        """The evaluation of these records, such as `write_records` wrote.

        It is for reading: nothing of it can be retried.

        Args:
            records: `EvaluationRecord.to_dict` of all of them, in any order.
            name: Of the evaluation.
            llm_configs: By name, for the costs, which follow from their prices.

        Raises:
            InputError: A record is none, or some are missing.
        """
        saved, configs = read_records(records), llm_configs or {}
        lanes = [
            LaneResult(
                lane.config,
                None,
                configs.get(lane.config),
                lane.responses,
                lane.ratings,
                lane.criteria,
            )
            for lane in saved.lanes
        ]
        return cls(name, saved.inputs, None, lanes, saved.epochs, paired_by=saved.paired_by)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the ``name``, and `EvaluationRecord.to_dict` of each of the ``records``."""
        return {"name": self.name, "records": [record.to_dict() for record in self]}

    @classmethod
    def _read_document(cls, document: dict[str, Any]) -> Self:
        return cls.from_records(document["records"], name=document["name"])

    def write_records(self, target: Target) -> None:
        """Write `EvaluationRecord.to_dict` of each record, one a line: `from_records` reads them.

        Args:
            target: A path, or an open file of bytes or text.

        Raises:
            InputError: ``target`` is neither, or its folder is not there.
            OSError: It cannot be written.
        """
        self._write(target, (f"{json_text(record.to_dict())}\n".encode() for record in self))

    async def retry_failed(
        self,
        *,
        include_unknown: bool | None = None,
        max_cost: float | None = None,
        options: BatchOptions | None = None,
    ) -> Self:
        """Send what failed once more, rate what was repaired, and put both in their places.

        Args:
            include_unknown: As in `Batch.retry_failed`.
            max_cost: What the whole evaluation may cost from now on, instead of before; what it
                has cost counts. None leaves it as it was.
            options: Instead of those of the first call; each step has their deadline anew.

        Returns:
            This evaluation, changed in place.

        Raises:
            InputError: It is being retried already, or was not returned by a call.
            ElluminateError: One that is true of all items; what had come is in the records.

        Cost: that of the first call, for the records that failed.
        """
        include_unknown = optional_flag(include_unknown, "include_unknown")
        if self._retrying:
            raise InputError("this evaluation is being retried already: await that first")
        if max_cost is not None:
            if self._spending is None:
                raise InputError("max_cost= is for an evaluation that was begun with one")
            self._spending.most = checked_cost(max_cost)
        self._retrying = True
        try:
            if self._rows is not None and self._rows.failed:
                # A row that is there twice costs nothing.
                await self._rows.retry_failed(include_unknown=True, options=options)
            for lane in self._lanes:
                for batch in (lane.responses, lane.ratings):
                    if batch.failed:
                        await batch.retry_failed(include_unknown=include_unknown, options=options)
        finally:
            self._retrying = False
        return self
