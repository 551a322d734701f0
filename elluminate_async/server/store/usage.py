"""Usage of the last days: responses, tokens and ratings."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from elluminate_async.schemas import DailyUsage, ResponsesStats
from elluminate_async.server.store import llm_configs, samples, tables
from elluminate_async.server.store.paging import READY
from elluminate_async.server.store.rows import now

if TYPE_CHECKING:
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
    row = connection.execute(
        select(
            func.count(),
            func.avg(duration),
            func.min(duration),
            func.max(duration),
            func.sum(given),
            func.sum(made),
            func.avg(given),
            func.avg(made),
            func.avg(samples.score()),
        ).where(*conditions)
    ).one()
    day = func.date(table.c.created_at)
    by_day = connection.execute(
        select(day, func.count(), func.sum(given), func.sum(made)).where(*conditions).group_by(day)
    )
    known = {str(one[0]): one for one in by_day}
    dates = [first + timedelta(days=number) for number in range(days)]
    return ResponsesStats(
        total_responses=row[0],
        average_duration_seconds=row[1],
        min_duration_seconds=row[2],
        max_duration_seconds=row[3],
        total_input_tokens=row[4] or 0,
        total_output_tokens=row[5] or 0,
        average_input_tokens=row[6] or 0.0,
        average_output_tokens=row[7] or 0.0,
        average_rating=row[8],
        daily_usage=[
            DailyUsage(
                date=date,
                requests=one[1],
                input_tokens=one[2] or 0,
                output_tokens=one[3] or 0,
            )
            for date in dates
            for one in [known.get(date.isoformat(), (None, 0, 0, 0))]
        ],
    )
