"""What the benchmarks' model answers, and after how long: known before, so that it can be checked.

Only the standard library, as contenders in environments of their own import it.
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections import deque

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


def pipelined_seconds(
    items: int, mean: float, calls: int, draw: int, *, ratings_first: bool = True
) -> float:
    """What generating and rating takes when each answer is rated as soon as it is there.

    The model takes ``calls`` at once. Of what waits for one, ratings go first, in the order in
    which their answers came, and answers begin in input order; the other way round all answers
    begin before any rating, which ends earlier, as no answer with its rating is left for last.
    """
    generate, judge = (latencies(items, mean, phase, draw) for phase in ("generate", "judge"))
    now, free, begun = 0.0, calls, 0
    waiting: deque[int] = deque()
    under_way: list[tuple[float, int, bool]] = []
    while waiting or under_way or begun < items:
        while free and (waiting or begun < items):
            is_rating = bool(waiting) and (ratings_first or begun == items)
            item = waiting.popleft() if is_rating else begun
            begun += not is_rating
            seconds = judge[item] if is_rating else generate[item]
            heapq.heappush(under_way, (now + seconds, item, is_rating))
            free -= 1
        now, item, is_rating = heapq.heappop(under_way)
        free += 1
        if not is_rating:
            waiting.append(item)
    return now
