"""The documents of ``--json`` as pydantic models: one a command, with a published schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from elluminate_async import EvaluationSummary, Rate

Status: TypeAlias = Literal["passed", "failed", "not measured", "interrupted", "planned", "error"]


class Document(BaseModel):
    """A part of a document; a figure that is not known is null, never 0."""

    model_config = ConfigDict(extra="forbid")


class RateDocument(Document):
    """One rate; see `Rate`. The interval is of 95 %."""

    measured: int
    passed: int
    not_measured: int
    rate: float | None
    low: float | None
    high: float | None
    effective_n: float | None
    agreement: float | None

    @classmethod
    def of(cls, rate: Rate) -> RateDocument:
        """The document of a rate."""
        return cls(
            measured=rate.n,
            passed=rate.passed,
            not_measured=rate.not_measured,
            rate=rate.rate,
            low=rate.interval and rate.interval.low,
            high=rate.interval and rate.interval.high,
            effective_n=rate.effective_n,
            agreement=rate.agreement,
        )


class ConfigurationDocument(Document):
    """The rates of one configuration."""

    criteria: dict[str, RateDocument]
    overall: RateDocument


class GateDocument(Document):
    """The gate's decision, its reasons and its thresholds."""

    status: Literal["passed", "failed", "not measured"]
    reasons: list[str]
    pass_rate: float | None
    max_error_rate: float
    per_criterion: bool


class UsageDocument(Document):
    """Tokens of the generations, as far as they are known; see `Usage`."""

    input_tokens: int
    output_tokens: int
    responses: int
    unknown: int


class ChunksDocument(Document):
    """Requests that send work, by what they send."""

    upload: int
    generate: int
    rate: int


class PlanDocument(Document):
    """A run that is planned; see `EvaluationPlan`.

    Attributes:
        unused: Columns that no placeholder asks for.
        duplicates: Rows that ask the same as an earlier one.
        chunks, requests: As the evaluation sends them, if nothing fails.
        cost: Of the generations, in the currency of the prices; the judge's is not in it.
        seconds: The least that it takes, by the limits that are given.
        notes: Where the figures are from, and why some are not known.
        problems: Why it cannot be run; empty where it can.
        warnings: What is probably not meant.
        generations: Answers of models; 0 where they exist.
        ratings: Answers that are judged, each by every criterion.
        criteria: Their number; null where the model proposes them.
    """

    rows: int
    columns: list[str]
    placeholders: list[str]
    unused: list[str]
    duplicates: int
    configurations: list[str]
    epochs: int
    generations: int
    ratings: int
    criteria: int | None
    chunks: ChunksDocument
    requests: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    seconds: float | None
    problems: list[str]
    warnings: list[str]
    notes: list[str]


class RunDocument(Document):
    """The document of ``run --json`` and ``rate --json``.

    Attributes:
        status: The gate's decision; ``interrupted``, ``planned`` by ``--dry-run``, or ``error``.
        exit_code: 0 passed or planned, 1 failed, 2 misuse, 3 not measured, 130 interrupted.
        name: Of the run: ``report``, ``compare``, ``export`` and ``--resume`` know it by that.
        folder: Where it is kept.
        service: The address that was spoken to.
        is_offline: Whether the stand-in judged, whose verdicts mean nothing.
        note: What is to be known of stand-ins.
        records: Rows × configurations × epochs.
        failed: Of these, those that are not whole.
        unfinished: Of an interrupted run: records that had not come to their end.
        failures: Their number by `ItemError.code`.
        configurations: By name.
        cost: In the currency of the prices; null where one is not known.
        seconds: From the start of the command.
        written: The files of ``--out`` and ``--report``.
        resume: The command that goes on with it.
        error: Why nothing came of it.
    """

    version: Literal[1] = 1
    status: Status
    exit_code: int
    name: str | None = None
    folder: str | None = None
    service: str | None = None
    is_offline: bool = False
    note: str | None = None
    records: int = 0
    failed: int = 0
    unfinished: int = 0
    failures: dict[str, int] = {}
    configurations: dict[str, ConfigurationDocument] = {}
    gate: GateDocument | None = None
    usage: UsageDocument | None = None
    cost: float | None = None
    seconds: float = 0.0
    written: list[str] = []
    resume: str | None = None
    error: str | None = None
    plan: PlanDocument | None = None


def configurations_of(summary: EvaluationSummary) -> dict[str, ConfigurationDocument]:
    """The rates of each configuration."""
    return {
        name: ConfigurationDocument(
            criteria={key: RateDocument.of(rate) for key, rate in one.criteria.items()},
            overall=RateDocument.of(one.overall),
        )
        for name, one in summary.items()
    }
