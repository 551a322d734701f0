"""Usage of the last days: responses, tokens and ratings."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from elluminate_async.schemas import DailyUsage, ResponsesStats
from elluminate_async.server.store import llm_configs, samples, tables
from elluminate_async.server.store.paging import READY
from elluminate_async.server.store.rows import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

table = tables.responses


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
    conditions: list[Any] = [
        table.c.project_id == project_id,
        READY,
        table.c.created_at >= datetime.combine(first, time(), UTC),
    ]
    if llm_config_id is not None:
        conditions.append(table.c.llm_config_id == llm_config_id)
    duration, given, made = table.c.duration_seconds, table.c.input_tokens, table.c.output_tokens
    day = func.date(table.c.created_at)
    figures = (duration, given, made, samples.score())
    query = select(
        day,
        func.count(),
        func.min(duration),
        func.max(duration),
        *(func.sum(figure) for figure in figures),
        *(func.count(figure) for figure in figures),
    )
    by_day = {
        str(row[0]): _Day(*row[1:])
        for row in connection.execute(query.where(*conditions).group_by(day))
    }
    found = list(by_day.values())
    dates = [first + timedelta(days=number) for number in range(days)]
    return ResponsesStats(
        total_responses=sum(one.responses for one in found),
        average_duration_seconds=_mean(found, "seconds"),
        min_duration_seconds=min(
            (one.least for one in found if one.least is not None), default=None
        ),
        max_duration_seconds=max((one.most for one in found if one.most is not None), default=None),
        total_input_tokens=sum(one.given or 0 for one in found),
        total_output_tokens=sum(one.made or 0 for one in found),
        average_input_tokens=_mean(found, "given") or 0.0,
        average_output_tokens=_mean(found, "made") or 0.0,
        average_rating=_mean(found, "score"),
        daily_usage=[
            DailyUsage(
                date=date,
                requests=one.responses,
                input_tokens=one.given or 0,
                output_tokens=one.made or 0,
            )
            for date in dates
            for one in [by_day.get(date.isoformat(), _Day())]
        ],
    )


class _Day(NamedTuple):
    """Sums of a day, and of how many responses each figure is known."""

    responses: int = 0
    least: float | None = None
    most: float | None = None
    seconds: float | None = None
    given: int | None = None
    made: int | None = None
    score: float | None = None
    known_seconds: int = 0
    known_given: int = 0
    known_made: int = 0
    known_score: int = 0


def _mean(days: Sequence[_Day], name: str) -> float | None:
    count = sum(getattr(day, f"known_{name}") for day in days)
    return sum(getattr(day, name) or 0 for day in days) / count if count else None
