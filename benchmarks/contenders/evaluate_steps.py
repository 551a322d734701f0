"""Contender: `evaluate` of two configurations, or the two steps that it is made of."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from typing import Any

from benchmarks.common.answers import word
from benchmarks.contenders.meter import Checks, serve_lines
from elluminate_async import AsyncClient, Batch, CriterionSet, PromptResponse, Rating, RatingMode

PROMPT = "Explain {{word}} in one paragraph."
CRITERIA = ("Is it right?", "Is it short?")
CONFIGS = ("small", "large")


async def evaluated(
    client: AsyncClient,
    rows: list[dict[str, str]],
    name: str,
    criteria: CriterionSet,
    figures: dict[str, float],
) -> Iterable[tuple[Any, ...]]:
    """By `evaluate`: the row, the configuration, the answer and the verdicts of each record."""
    began = time.perf_counter(), time.process_time()
    evaluation = await client.evaluate(
        rows,
        prompt=PROMPT,
        criteria=criteria,
        llm_configs=CONFIGS,
        name=name,
        rating_mode=RatingMode.FAST,
    )
    note(figures, "steps", began)
    return (
        (record.row, record.config, record.response_str, verdicts(record.ratings or ()))
        for record in evaluation
    )


async def stepwise(
    client: AsyncClient,
    rows: list[dict[str, str]],
    name: str,
    criteria: CriterionSet,
    figures: dict[str, float],
) -> Iterable[tuple[Any, ...]]:
    """The same by the least program; what that needs at the service is not counted."""
    template, _ = await client.prompt_templates.get_or_create(PROMPT, name=name)
    collection = await client.collections.create(name)
    experiments = [
        await client.experiments.create(
            f"{name} {config}",
            prompt_template=template,
            collection=collection,
            llm_config=await client.llm_configs.get(config),
            criterion_set=criteria,
        )
        for config in CONFIGS
    ]
    began = time.perf_counter(), time.process_time()
    entries = await client.template_variables.add_many(rows, collection=collection)
    note(figures, "upload", began)
    began = time.perf_counter(), time.process_time()
    found: list[tuple[Batch[PromptResponse], Batch[list[Rating]]]] = []
    for experiment in experiments:
        responses = await client.responses.generate_many(
            template_variables=list(entries), experiment=experiment
        )
        found.append(
            (responses, await client.ratings.rate_many(responses, rating_mode=RatingMode.FAST))
        )
    note(figures, "steps", began)
    return (
        (row, config, responses[row].response_str, verdicts(ratings[row]))
        for row in range(len(rows))
        for config, (responses, ratings) in zip(CONFIGS, found, strict=True)
    )


def note(figures: dict[str, float], step: str, began: tuple[float, float]) -> None:
    """Seconds, on the wall and of CPU, since ``began``."""
    figures[f"{step}_s"] = time.perf_counter() - began[0]
    figures[f"{step}_cpu_s"] = time.process_time() - began[1]


def verdicts(ratings: Iterable[Rating]) -> dict[str, str]:
    """By criterion."""
    return {one.criterion.criterion_str: str(one.rating) for one in ratings}


async def flow(task: dict[str, Any]) -> Checks:
    """Do it one of the two ways, and put a digest of all records among the figures."""
    figures: dict[str, Any] = task["figures"]
    rows = [{"word": word(n)} for n in range(task["rows"])]
    async with AsyncClient(base_url=task["url"], api_key=task["api_key"]) as client:
        for config in CONFIGS:
            await client.llm_configs.get_or_create(config, f"{config}-model")
        # The offline judge's verdicts depend on the ids of the criteria.
        criteria, _ = await client.criterion_sets.get_or_create("both", CRITERIA)
        run = evaluated if task["call"] == "evaluate" else stepwise
        records = await run(client, rows, task["name"], criteria, figures)

    def check() -> None:
        told = list(records)
        assert len(told) == len(rows) * len(CONFIGS)
        assert all(answer and len(said) == len(CRITERIA) for *_, answer, said in told)
        figures["digest"] = hashlib.blake2b(json.dumps(told, sort_keys=True).encode()).hexdigest()

    return check


if __name__ == "__main__":
    serve_lines(flow)
