"""Contender: the official client 0.7.3, the last whose batches follow a stream."""

from __future__ import annotations

from typing import Any

from elluminate import Client
from elluminate.schemas import Experiment, RatingMode, TemplateVariables

from benchmarks.contenders.meter import Checks, checker, serve_lines

MOST_RATED = 3_000
"""It lists ratings by ids in the query, which its HTTP library caps at 64 KiB: more fail."""


async def flow(task: dict[str, Any]) -> Checks:
    """Generate, then rate."""
    client = Client(base_url=task["url"], api_key=task["api_key"])
    responses = await client.responses.agenerate_many(
        Experiment.model_construct(id=task["experiment"]),
        template_variables=[TemplateVariables.model_construct(id=i) for i in task["variables"]],
    )
    ratings = []
    for start in range(0, len(responses), MOST_RATED):
        some = responses[start : start + MOST_RATED]
        ratings += await client.ratings.arate_many(some, RatingMode.FAST)
    await client.async_session.aclose()
    return checker(
        task,
        lambda: [(r.prompt.template_variables.id, r.messages[-1].content) for r in responses],
        lambda: [[rating.rating.value for rating in of_one] for of_one in ratings],
    )


if __name__ == "__main__":
    serve_lines(flow)
