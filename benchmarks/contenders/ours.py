"""Contender: this client, with its defaults."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.meter import Checks, checker, serve_lines
from elluminate_async import AsyncClient, RatingMode


async def flow(task: dict[str, Any]) -> Checks:
    """Generate, then rate."""
    async with AsyncClient(base_url=task["url"], api_key=task["api_key"]) as client:
        responses = await client.responses.generate_many(
            template_variables=task["variables"], experiment=task["experiment"]
        )
        ratings = await client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)
    return checker(
        task,
        lambda: [(r.prompt.template_variables.id, r.response_str) for r in responses if r.prompt],
        lambda: [[rating.rating for rating in of_one] for of_one in ratings],
    )


if __name__ == "__main__":
    serve_lines(flow)
