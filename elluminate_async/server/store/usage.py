"""Usage of the last days: responses, tokens and ratings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from elluminate_async.schemas import DailyUsage, ResponsesStats
from elluminate_async.server.store import llm_configs, usage_days
from elluminate_async.server.store.figures import MICRO
from elluminate_async.server.store.rows import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import AnyRow


def of_days(
    connection: Connection, project_id: int, days: int, llm_config_id: int | None
) -> ResponsesStats:
    """Of today and the days before it, so many in all, by UTC.

    Args:
        connection: Where from.
        project_id: Whose.
        days: From 1.
        llm_config_id: Only responses by that configuration; None for those by any.

    Raises:
        Problem: 404 when there is no such configuration.
    """
    if llm_config_id is not None:
        llm_configs.get(connection, project_id, llm_config_id)
    today = now().date()
    first = today - timedelta(days=days - 1)
    found = usage_days.since(connection, project_id, first.isoformat(), llm_config_id)
    ends = [usage_days.durations(connection, one) for one in found if one.known_seconds]
    by_day: defaultdict[str, _Day] = defaultdict(_Day)
    for one in found:
        by_day[one.day].add(one)
    dates = [first + timedelta(days=number) for number in range(days)]
    return ResponsesStats(
        total_responses=sum(one.responses for one in found),
        average_duration_seconds=_mean(found, "seconds", MICRO),
        min_duration_seconds=min((least for least, _ in ends), default=None),
        max_duration_seconds=max((most for _, most in ends), default=None),
        total_input_tokens=sum(one.given for one in found),
        total_output_tokens=sum(one.made for one in found),
        average_input_tokens=_mean(found, "given") or 0.0,
        average_output_tokens=_mean(found, "made") or 0.0,
        average_rating=_mean(found, "score", usage_days.PARTS),
        daily_usage=[
            DailyUsage(
                date=date, requests=one.responses, input_tokens=one.given, output_tokens=one.made
            )
            for date in dates
            for one in [by_day[date.isoformat()]]
        ],
    )


@dataclass(slots=True)
class _Day:
    """Sums of a day over all configurations."""

    responses: int = 0
    given: int = 0
    made: int = 0

    def add(self, row: AnyRow) -> None:
        self.responses += row.responses
        self.given += row.given
        self.made += row.made


def _mean(rows: Sequence[AnyRow], name: str, parts: int = 1) -> float | None:
    count = sum(getattr(row, f"known_{name}") for row in rows)
    return sum(getattr(row, name) for row in rows) / count / parts if count else None
