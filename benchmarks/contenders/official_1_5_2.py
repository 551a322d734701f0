"""Contender: the official client 1.5.2, its batch calls or its ``run_experiment``."""

from __future__ import annotations

from typing import Any

from elluminate import AsyncClient
from elluminate.schemas import (
    Experiment,
    PromptTemplate,
    RatingMode,
    TemplateVariables,
    TemplateVariablesCollection,
)

from benchmarks.contenders.meter import Checks, checker, serve_lines

MOST_RATED = 3_000
"""It lists ratings by ids in the query, which its HTTP library caps at 64 KiB: more fail."""


async def flow(task: dict[str, Any]) -> Checks:
    """Generate, then rate."""
    async with AsyncClient(base_url=task["url"], api_key=task["api_key"]) as client:
        # The warm-up alone polls often; what is measured polls as the client does by itself.
        polling = {"polling_interval": task["polling"]} if task.get("polling") else {}
        if task.get("in_one_call"):
            experiment = await client.run_experiment(
                task["name"],
                PromptTemplate.model_construct(id=task["template"]),
                TemplateVariablesCollection.model_construct(id=task["collection"]),
                rating_mode=RatingMode.FAST,
            )
            responses = experiment.rated_responses
            ratings = [response.ratings for response in responses]
        else:
            responses = await client._responses.agenerate_many(
                Experiment.model_construct(id=task["experiment"]),
                template_variables=[
                    TemplateVariables.model_construct(id=i) for i in task["variables"]
                ],
                **polling,
            )
            ratings = []
            for start in range(0, len(responses), MOST_RATED):
                some = responses[start : start + MOST_RATED]
                ratings += await client._ratings.arate_many(some, RatingMode.FAST, **polling)
    return checker(
        task,
        lambda: [(r.prompt.template_variables.id, r.messages[-1].content) for r in responses],
        lambda: [[rating.rating.value for rating in of_one] for of_one in ratings],
    )


if __name__ == "__main__":
    serve_lines(flow)
