"""What the benchmarks' model answers, and after how long: known before, so that it can be checked.

Only the standard library, as contenders in environments of their own import it.
"""

from __future__ import annotations

import heapq
import math
import random
import re

MODEL_CALLS = 200
"""Answers that the model gives at once."""

SIGMA = 0.3
"""Of the log-normal latency, whose mean is what a run names."""

_WORD = re.compile(r"word-(\d+)")
_FILL = "A sentence of the length that sentences in answers have, so that bytes are realistic. "


def word(number: int) -> str:
    """The variable of item ``number``."""
    return f"word-{number}"


def number_in(prompt: str) -> int:
    """Which item a prompt is about, a judge's included."""
    found = _WORD.search(prompt)
    assert found is not None, prompt
    return int(found[1])


def answer(number: int) -> str:
    """The text generated for item ``number``, about 1 KB."""
    return f"About {word(number)}: " + _FILL * 12


def verdict(number: int) -> str:
    """Of the one criterion."""
    return "YES" if number % 3 else "NO"


def latencies(items: int, mean: float, phase: str, draw: int) -> list[float]:
    """Seconds that the model takes for each item of a phase, ``"generate"`` or ``"judge"``."""
    source = random.Random(f"{draw} {phase}")
    mu = math.log(mean) - SIGMA**2 / 2 if mean else 0.0
    return [source.lognormvariate(mu, SIGMA) if mean else 0.0 for _ in range(items)]


def ideal_seconds(items: int, mean: float, round_trip: float, draw: int) -> float:
    """The least that generating and then rating can take.

    Each phase takes what the model needs when its answers begin in input order, and a round
    trip; before them the connection and the project's number take one each.
    """
    total = 4 * round_trip
    for phase in ("generate", "judge"):
        busy = [0.0] * MODEL_CALLS
        seconds = latencies(items, mean, phase, draw)
        ends = [heapq.heapreplace(busy, busy[0] + s) + s for s in seconds]
        total += max(ends)
    return total
