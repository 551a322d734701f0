"""Contender: the official client 1.5.2, from rows to ratings by its ``run_experiment``."""

from __future__ import annotations

import time
from typing import Any

from elluminate import AsyncClient
from elluminate.schemas import RatingMode

from benchmarks.contenders.meter import Checks, row_checker, serve_lines


async def flow(task: dict[str, Any]) -> Checks:
    """Make the template and the collection with its rows, and run the experiment."""
    figures: dict[str, float] = task["figures"]
    async with AsyncClient(base_url=task["url"], api_key=task["api_key"]) as client:
        template = await client.create_prompt_template(task["name"], task["prompt"])
        collection = await client.create_collection(task["name"], variables=task["rows"])
        began = time.perf_counter()
        experiment = await client.run_experiment(
            task["name"],
            template,
            collection,
            criteria=task["criteria"],
            rating_mode=RatingMode.FAST,
        )
        figures["run_experiment_s"] = time.perf_counter() - began
    responses = experiment.rated_responses
    return row_checker(
        task,
        lambda: [
            (
                response.prompt.template_variables.input_values,
                response.messages[-1].content,
                [rating.rating.value for rating in response.ratings],
            )
            for response in responses
        ],
    )


if __name__ == "__main__":
    serve_lines(flow)
