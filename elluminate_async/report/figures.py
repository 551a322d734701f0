"""The figures of the first screen: did it pass, by how much, and where does it fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from elluminate_async.report.data import ConfigurationData, RateData, ReportData
from elluminate_async.report.drawing import Strip, strip
from elluminate_async.report.entries import Entries, Entry
from elluminate_async.report.formats import level, points

STATIC_FAILURES: Final = 40
"""Failed lines that are also there without a script, and on paper."""

_SIGNS: Final = {"passed": "✓", "failed": "✗", "not measured": "–"}


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict.

    Attributes:
        kind: ``passed``, ``failed``, ``missing`` or ``none``, for its colour.
        sign: Which tells the same without one.
        text: Which tells it in words.
        reasons: Why.
    """

    kind: str
    sign: str
    text: str
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class RateCell:
    """A rate, and where among the rows its NO are; None where nothing is known of it."""

    rate: RateData | None
    strip: Strip | None


@dataclass(frozen=True, slots=True)
class FailingLine:
    """A failed row, in words."""

    row: int
    config: str
    input: str
    failed: str
    missing: str
    said: str


def headline(data: ReportData) -> Headline:
    """The gate's decision."""
    gate = data.gate
    if gate is None:
        return Headline("none", "•", "No gate was set", [])
    kind = gate.status if gate.status != "not measured" else "missing"
    return Headline(kind, _SIGNS[gate.status], f"Gate {gate.status}", gate.reasons)


def verdict_lines(data: ReportData) -> list[tuple[ConfigurationData, str]]:
    """For each configuration how far it is from the gate, and where it is worst."""
    return [(config, "; ".join(_notes(config, data))) for config in data.configurations]


def _notes(config: ConfigurationData, data: ReportData) -> list[str]:
    notes: list[str] = []
    least = None if data.gate is None else data.gate.pass_rate
    if least is not None and config.overall.rate is not None:
        notes.append(f"{points(config.overall.rate - least)} from the {level(least)} asked for")
    measured = [rate for rate in config.criteria if rate.rate is not None]
    worst = min(measured, key=lambda rate: rate.rate or 0.0, default=None)
    if worst is not None and worst.passed < worst.n and len(config.criteria) > 1:
        failed = worst.n - worst.passed
        notes.append(f"worst at “{worst.label}”: {failed:,} NO of {worst.n:,}")
    return notes


def ranked(
    data: ReportData, strips: Sequence[Sequence[Sequence[float]]]
) -> list[tuple[str, list[RateCell]]]:
    """The criteria with a cell for each configuration, the lowest rate first."""
    lines: list[tuple[float, str, list[RateCell]]] = []
    at = {name: index for index, name in enumerate(data.criteria.values())}
    by_name = [{rate.label: rate for rate in config.criteria} for config in data.configurations]
    for label in dict.fromkeys(label for rates in by_name for label in rates):
        cells = [
            RateCell(rates.get(label), strip(strips[i][at[label]]) if label in at else None)
            for i, rates in enumerate(by_name)
        ]
        known = [c.rate.rate for c in cells if c.rate is not None and c.rate.rate is not None]
        lines.append((min(known, default=2.0), label, cells))
    lines.sort(key=lambda line: line[0])
    return [(label, cells) for _, label, cells in lines]


def failing_lines(data: ReportData, entries: Entries) -> list[FailingLine]:
    """The worst lines: with most NO first, then those that were not measured."""
    names = list(data.criteria.values())
    configs: list[str] = [config.name for config in data.configurations]

    def worst(line: Entry) -> tuple[int, int]:
        return -sum(line[7][1::3]), -sum(line[7][2::3])

    failed = [line for line in entries.lines if any(line[7][1::3]) or any(line[7][2::3]) or line[3]]
    return [
        FailingLine(
            row=entries.rows[line[0]][0],
            config=configs[int(line[1])],
            input=entries.rows[line[0]][1],
            failed=", ".join(names[i] for i, no in enumerate(line[7][1::3]) if no),
            missing=", ".join(names[i] for i, none in enumerate(line[7][2::3]) if none),
            said=line[2],
        )
        for line in sorted(failed, key=worst)[:STATIC_FAILURES]
    ]
