"""Makers of verdicts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from elluminate_async.evaluation.statistics import Verdict

ANSWERS = {"Y": True, "N": False, "-": None}


def verdicts(inputs: Mapping[str, str] | Sequence[str], criterion: str = "c") -> list[Verdict]:
    """One verdict for each letter, an epoch each: Y, N, and - for not measured.

    The inputs are named by the mapping's keys, or else numbered from 0.
    """
    named: Iterable[tuple[Hashable, str]] = (
        inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs)
    )
    return [
        Verdict(name, epoch, criterion, ANSWERS[letter])
        for name, letters in named
        for epoch, letter in enumerate(letters)
    ]


def paired(
    improved: int, regressed: int, both: int, neither: int, criterion: str = "c"
) -> tuple[list[Verdict], list[Verdict]]:
    """Two runs of one epoch by their table: NO then YES, YES then NO, both YES, both NO."""
    a = "N" * improved + "Y" * regressed + "Y" * both + "N" * neither
    b = "Y" * improved + "N" * regressed + "Y" * both + "N" * neither
    return verdicts(a, criterion), verdicts(b, criterion)
