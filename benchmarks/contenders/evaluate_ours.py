"""Contender: this client's ``evaluate``, with its defaults, from rows to ratings."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.meter import Checks, row_checker, serve_lines
from elluminate_async import AsyncClient, RatingMode


async def flow(task: dict[str, Any]) -> Checks:
    """Evaluate the rows; nothing of it is at the service before."""
    async with AsyncClient(base_url=task["url"], api_key=task["api_key"]) as client:
        evaluation = await client.evaluate(
            task["rows"],
            prompt=task["prompt"],
            criteria=task["criteria"],
            name=task["name"],
            rating_mode=RatingMode.FAST,
        )
    return row_checker(
        task,
        lambda: [
            (record.input, record.response_str, [str(one.rating) for one in record.ratings or ()])
            for record in evaluation
        ],
    )


if __name__ == "__main__":
    serve_lines(flow)
