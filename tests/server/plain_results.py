"""Results of experiments, computed from each response and rating in the plainest way."""

from __future__ import annotations

import sqlite3
import statistics
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIGURES = ("duration_seconds", "input_tokens", "output_tokens", "reasoning_tokens")
ABSURD = 1e15
"""Figures beyond are no figures, and count for no mean."""


def results_of(db: Path, experiment: int) -> dict[str, Any] | None:
    """What the document of an experiment has to tell, but for the time that its runs took."""
    with closing(sqlite3.connect(db)) as raw:
        raw.row_factory = sqlite3.Row
        own = "FROM responses WHERE experiment_id = ? ORDER BY id"
        responses = [dict(row) for row in raw.execute(f"SELECT * {own}", (experiment,))]
        verdicts = raw.execute(
            "SELECT response_id, criterion_id, rating FROM ratings WHERE is_current AND "
            f"response_id IN (SELECT id {own})",
            (experiment,),
        ).fetchall()
    good = {one["id"] for one in responses if one["error"] is None}
    scored = [row for row in verdicts if row["response_id"] in good]
    if not scored:
        return None
    ready = [one for one in responses if one["is_ready"]]

    def share(of: Callable[[sqlite3.Row], bool]) -> dict[str, float]:
        counts = Counter(row["rating"] for row in scored if of(row))
        return {word.lower(): counts[word] / counts.total() for word in ("YES", "NO")}

    everything = share(lambda _: True)
    results: dict[str, Any] = {
        "mean_all_ratings": everything,
        "std_all_ratings": (everything["yes"] * everything["no"]) ** 0.5,
        "mean_rating_by_criterion_id": {
            str(id): share(lambda row, id=id: row["criterion_id"] == id)
            for id in {row["criterion_id"] for row in scored}
        },
        "num_rated_responses": len({row["response_id"] for row in scored}),
        "num_failed_responses": sum(one["error"] is not None for one in ready),
        "completed_epochs": _completed(responses),
    }
    for name in FIGURES:
        known = [one[name] for one in ready if one[name] is not None]
        sound = [value for value in known if value < ABSURD]
        results[f"{name}_per_response"] = known[:1000]
        results[f"mean_{name}"] = statistics.fmean(sound) if sound else None
    costs: list[float | None] = []
    for name in ("input", "output"):
        known = [one[f"{name}_cost_usd"] for one in ready]
        missing = any(one[f"{name}_cost_usd"] is None for one in ready if one["error"] is None)
        cost = None if missing else sum(value for value in known if value is not None)
        results[f"estimated_{name}_cost_usd"] = cost
        costs.append(cost)
    told = [cost for cost in costs if cost is not None]
    results["estimated_total_cost_usd"] = sum(told) if len(told) == len(costs) else None
    return results


def _completed(responses: list[dict[str, Any]]) -> int:
    rows: dict[int, set[int]] = {}
    for one in responses:
        if one["is_ready"]:
            rows.setdefault(one["epoch"], set()).add(one["template_variables_id"])
    waiting = {one["epoch"] for one in responses if not one["is_ready"]}
    most = max(map(len, rows.values()), default=0)
    return sum(1 for epoch, some in rows.items() if len(some) == most and epoch not in waiting)
