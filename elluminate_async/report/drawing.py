"""The numbers of the page's drawings: intervals, histograms, and where in a run NO was said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elluminate_async.report.texts import number

_BINS: Final = 30
_STRIP_BINS: Final = 100


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a measurement is distributed.

    Attributes:
        label: Of the configuration.
        n: How many are known.
        unknown: How many are not.
        bars: For each bin its share of the fullest one, from 0 to 1.
        low: Where the first bin begins, and so of all configurations of one measurement.
        high: Where the last one ends.
        quantiles: The median, the 90 % and the 99 % one, and the largest; empty when n is 0.
        total: The sum; None where one is unknown, or none is known.
    """

    label: str
    n: int
    unknown: int
    bars: Sequence[float]
    low: float
    high: float
    quantiles: Sequence[float]
    total: float | None


def histograms(samples: Mapping[str, Sequence[float | None]]) -> list[Histogram]:
    """One for each configuration, over the same bins."""
    known = {name: [v for v in values if v is not None] for name, values in samples.items()}
    every = [value for values in known.values() for value in values]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    # From 0 on where that costs little, so that the lengths of bars can be compared.
    low = min(0.0, low) if low < high / 2 else low
    return [
        Histogram(
            label=name,
            n=len(known[name]),
            unknown=len(values) - len(known[name]),
            bars=_bars(known[name], low, high),
            low=low,
            high=high,
            quantiles=_quantiles(known[name]),
            total=math.fsum(known[name]) if values and len(known[name]) == len(values) else None,
        )
        for name, values in samples.items()
    ]


def _bars(values: Sequence[float], low: float, high: float) -> list[float]:
    width = (high - low) / _BINS
    counts = [0] * _BINS
    for value in values:
        at = int((value - low) / width) if width > 0 else 0
        counts[min(_BINS - 1, max(0, at))] += 1
    most = max(counts)
    return [count / most if most else 0.0 for count in counts]


def _quantiles(values: Sequence[float]) -> list[float]:
    """The smallest values that at least such a share of all do not exceed."""
    ordered = sorted(values)
    if not ordered:
        return []
    return [ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.9, 0.99, 1)]


def samples_of(
    records: Iterable[Mapping[str, Any]], configs: Sequence[str], key: str
) -> dict[str, list[float | None]]:
    """A measurement of the responses that there are, by configuration."""
    samples: dict[str, list[float | None]] = {name: [] for name in configs}
    for record in records:
        if record.get("response") is not None:
            samples[record["config"]].append(number(record.get(key)))
    return samples


def strips(
    lines: Iterable[Sequence[Any]], rows: int, configs: int, criteria: int
) -> list[list[list[float]]]:
    """By configuration and criterion the share of NO among the verdicts of each part of the rows.

    Args:
        lines: As in `elluminate_async.report.entries`.
        rows: How many there are.
        configs: How many there are.
        criteria: How many there are.

    Returns:
        At most 100 shares each, from the first rows to the last; -1 where nothing was measured.
    """
    bins = min(_STRIP_BINS, rows)
    counts: list[list[list[list[int]]]]
    counts = [[[[0, 0] for _ in range(bins)] for _ in range(criteria)] for _ in range(configs)]
    for line in lines:
        at: int = line[0]
        config: int = line[1]
        cells: list[int] = line[7]
        for criterion in range(criteria):
            yes, no = cells[3 * criterion : 3 * criterion + 2]
            count = counts[config][criterion][at * bins // rows]
            count[0] += no
            count[1] += yes + no
    return [
        [[no / n if n else -1.0 for no, n in strip] for strip in of_criteria]
        for of_criteria in counts
    ]


@dataclass(frozen=True, slots=True)
class Strip:
    """The paths of one strip of 200 × 14, of upright lines.

    Attributes:
        no: A line for each part of the rows with a NO, as high as its share of NO.
        gap: A short one for each part in which nothing was measured.
        width: Of the lines.
    """

    no: str
    gap: str
    width: float


def strip(shares: Sequence[float]) -> Strip:
    """The drawing of one of `strips`."""
    step = 200 / max(1, len(shares))
    no: list[str] = []
    gap: list[str] = []
    for index, share in enumerate(shares):
        x = f"{(index + 0.5) * step:.4g}"
        if share > 0:
            no.append(f"M{x} 13V{11 - 11 * share:.3g}")
        elif share < 0:
            gap.append(f"M{x} 13V10")
    return Strip("".join(no), "".join(gap), round(min(6, max(0.7, step - 0.4)), 2))
